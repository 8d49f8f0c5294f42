"""Check the prose of the English pages: how a page begins, words with a better one, and sentences that are too long.

A page begins with a paragraph that says who needs it and what it gives. Code, links' targets and tables' borders are
left out. `python scripts/prose.py` prints each finding with its file and line, and ends with 1 if there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST = 30
"""Words of a sentence."""

WORDS = {
    r"adviser": "planner",
    r"known answers?": "cached results",
    r"behind (?:the|his|her|your|somebody's) back": "in the background",
    r"kept near": "cached",
    r"sureness": "confidence",
    r"overtaken": "superseded",
    r"lanes?": "drain writer, dedicated connections or user cache",
    r"doors?": "entry points, or the names of the functions",
    r"fates?": "decision",
    r"(?:is|are) refused:": "must …, or cannot … because …",
    r"holds? true": "is true",
    r"without a word": "without an error",
    r"to the letter": "exactly",
    r"in order to": "to",
    r"(?:utili[sz]e|leverage)[sd]?": "use",
    r"(?:simply|obviously|of course|basically)": "nothing: leave it out",
    r"please note(?: that)?": "nothing: leave it out",
    r"e\.g\.": "such as",
    r"i\.e\.": "that is",
    r"etc\.": "the rest of the list, or `such as` before it",
    r"aforementioned": "the name of the thing",
    r"whilst": "while",
    r"shall": "must, or will",
}
"""A pattern of words that no page has, and what to write."""

READER = re.compile(
    r"\b(?:you|your|yours|for (?:\w+ ){0,3}(?:engineers|developers|operators|people|applications|agents))\b",
    re.IGNORECASE,
)
"""How an opening names its reader."""

_FENCE = re.compile(r"^\s*(?:```|~~~)")
_NO_PROSE = re.compile(r"^\s*(?:#|\||[-*+] |\d+\. |!|:::|--8<--|<|```|>)")


def pages() -> list[Path]:
    """The pages that are written by hand, in English."""
    every = [
        *sorted((ROOT / "docs").rglob("*.md")),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    ]
    made = (ROOT / "docs" / "ko", ROOT / "docs" / "reference")
    return [page for page in every if not any(page.is_relative_to(folder) for folder in made)]


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """The paragraphs, items and table rows of a page with their first lines' numbers, without code and addresses."""
    fenced, begun, lines = False, 0, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        fence = bool(_FENCE.match(line))
        if fence or fenced or not line.strip() or _NO_PROSE.match(line):
            if lines:
                yield begun, _plain(" ".join(lines))
            lines = []
            fenced ^= fence
            if fence or fenced or not line.strip():
                continue
        if not lines:
            begun = number
        lines.append(line.strip())


def _plain(text: str) -> str:
    """A text as it is read: code is one word, a link its text."""
    text = re.sub(r"(`+)(?:(?!\1).)+?\1", "code", text)
    text = re.sub(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    return re.sub(r"https?://\S+|[*_]{1,2}(?=\w)|(?<=\w)[*_]{1,2}", "", text)


def opening(text: str) -> str | None:
    """What is wrong with how a page begins; None if nothing is."""
    after = re.sub(r"\A(?:---\n.*?\n---\n)?\s*# [^\n]*\n", "", text, flags=re.DOTALL).lstrip("\n")
    first = after.partition("\n\n")[0]
    if not first or _NO_PROSE.match(first):
        return "does not begin with a paragraph: say who needs the page and what it gives"
    if not READER.search(first):
        return "begins without its reader: say who needs the page (`For engineers who …`, `you`) and what it gives"
    return None


def findings(page: Path) -> Iterator[str]:
    """What is to be mended in a page, each as a line."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT)
    told = page.name == "SECURITY.md" or "decisions" in page.parts or text.startswith("--8<--")
    if not told and (problem := opening(text)) is not None:
        yield f"{name}:1: {problem}"
    for number, paragraph in paragraphs(text):
        for pattern, better in WORDS.items():
            for found in re.finditer(rf"(?<![\w-]){pattern}(?![\w-])", paragraph, flags=re.IGNORECASE):
                yield f"{name}:{number}: “{found[0]}”: write {better}"
        if paragraph.lstrip().startswith(("|", "#")):
            continue
        for sentence in re.split(r"(?<=[.!?:;])\*{0,2}\s+", paragraph):
            if (words := len(re.findall(r"[\w’'-]+", sentence))) > LONGEST:
                yield f"{name}:{number}: a sentence of {words} words (the most is {LONGEST}): “{sentence[:60]}…”"


def main() -> int:
    """Print the findings; return 1 if there is one."""
    found = [finding for page in pages() for finding in findings(page)]
    print(*found, sep="\n", end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
