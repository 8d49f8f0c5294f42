"""Say which Korean pages were not looked at since their English page changed; with `--seen PAGE…`, that they were.

A page of docs/ko names its English page and the digest that this had when somebody last compared both. A test runs the
check, so that a change of an English page reminds of the Korean one.
"""

from __future__ import annotations

import re
import sys
from hashlib import sha256
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_FRONT = re.compile(r"\A---\nenglish: (?P<english>\S+)\nseen: *(?P<seen>\S*)\n---\n")


def digest(path: Path) -> str:
    """Return a short digest of a page."""
    return sha256(path.read_bytes()).hexdigest()[:12]


def not_seen(page: Path) -> str | None:
    """Return what is wrong with a Korean page; None when it was compared with its English page as this is now."""
    front = _FRONT.match(page.read_text(encoding="utf-8"))
    if front is None:
        return f"{page.name} does not begin with `english: PAGE` and `seen: DIGEST` between lines of ---"
    english = DOCS / front["english"]
    if not english.is_file():
        return f"{page.name}: {front['english']} does not exist"
    if digest(english) != front["seen"]:
        return (
            f"{page.name}: {front['english']} has changed; "
            f"compare both, then run `python scripts/korean.py --seen {page.name}`"
        )
    return None


def main() -> int:
    """Print what is wrong and return 1 if anything is; with `--seen`, store the digests of these pages first."""
    for name in sys.argv[2:] if sys.argv[1:2] == ["--seen"] else ():
        page = DOCS / "ko" / name
        text = page.read_text(encoding="utf-8")
        front = _FRONT.match(text)
        if front is not None:
            now = f"---\nenglish: {front['english']}\nseen: {digest(DOCS / front['english'])}\n---\n"
            page.write_text(now + text[front.end() :], encoding="utf-8")
    problems = [problem for page in sorted((DOCS / "ko").glob("*.md")) if (problem := not_seen(page)) is not None]
    print(*problems, sep="\n", end="\n" if problems else "")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
