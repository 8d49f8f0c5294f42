"""Copy docs/examples/readme.py and its output into README.md; with --check, exit with 1 if they differ.

GitHub and PyPI cannot include files in a README, so it has to hold the text itself. A test runs the check.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCES = {"python": "readme.py", "text": "readme.out"}


def rendered(readme: str) -> str:
    """Return the README with the first code block of each language replaced by its file."""
    for language, name in FENCES.items():
        block = f"```{language}\n{(ROOT / 'docs' / 'examples' / name).read_text(encoding='utf-8')}```"
        readme = re.sub(rf"```{language}\n.*?```", lambda _, block=block: block, readme, count=1, flags=re.DOTALL)  # type: ignore[misc]  # bound now
    return readme


def main() -> int:
    """Write README.md, or check it and return 1 if it differs."""
    path = ROOT / "README.md"
    now = path.read_text(encoding="utf-8")
    wanted = rendered(now)
    if "--check" in sys.argv[1:]:
        return int(now != wanted)
    path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
