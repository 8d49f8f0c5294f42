"""Put docs/examples/readme.py and its output into README.md, or with --check tell whether they are in it.

The README is read where nothing includes files, so the text itself has to be there; a test runs the check.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCES = {"python": "readme.py", "text": "readme.out"}


def rendered(readme: str) -> str:
    """The README with the first block of each kind replaced by its file."""
    for language, name in FENCES.items():
        block = f"```{language}\n{(ROOT / 'docs' / 'examples' / name).read_text(encoding='utf-8')}```"
        readme = re.sub(rf"```{language}\n.*?```", lambda _, block=block: block, readme, count=1, flags=re.DOTALL)  # type: ignore[misc]  # bound now
    return readme


def main() -> int:
    """Write or check; 1 tells that they differ."""
    path = ROOT / "README.md"
    now = path.read_text(encoding="utf-8")
    wanted = rendered(now)
    if "--check" in sys.argv[1:]:
        return int(now != wanted)
    path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
