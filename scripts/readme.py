"""Copy the first examples and their outputs into README.md and README.ko.md; with --check, exit with 1 if they differ.

GitHub and PyPI cannot include files in a README, so each has to hold the text itself. A test runs the check.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLES = {"README.md": "readme", "README.ko.md": "ko_readme"}


def rendered(readme: str, example: str) -> str:
    """Return the README with the first code block of each language replaced by the example and by its output."""
    for language, name in (("python", f"{example}.py"), ("text", f"{example}.out")):
        block = f"```{language}\n{(ROOT / 'docs' / 'examples' / name).read_text(encoding='utf-8')}```"
        readme = re.sub(rf"```{language}\n.*?```", lambda _, block=block: block, readme, count=1, flags=re.DOTALL)  # type: ignore[misc]  # bound now
    return readme


def main() -> int:
    """Write the READMEs, or check them and return 1 if one differs."""
    differ = 0
    for name, example in EXAMPLES.items():
        path = ROOT / name
        now = path.read_text(encoding="utf-8")
        wanted = rendered(now, example)
        differ |= now != wanted
        if "--check" not in sys.argv[1:]:
            path.write_text(wanted, encoding="utf-8")
    return int(differ and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
