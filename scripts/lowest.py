"""Print the lowest versions that pyproject.toml allows, as a constraints file for pip.

    scripts/lowest.py                     of the libraries
    scripts/lowest.py langchain,strands   of these extras

A package without a bound is left to pip.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
libraries = project["dependencies"] + extras["redshift"] + extras["local"] + extras["cli"] + extras["testing"]
wanted = [line for name in sys.argv[1].split(",") for line in extras[name]] if sys.argv[1:] else libraries
for line in sorted(set(wanted)):
    name, bound = re.match(r"([A-Za-z0-9-]+)(?:\[[^]]*\])?(?:>=([0-9a-z.]+))?", line).groups()  # type: ignore[union-attr]  # our own format
    if bound and name != "typing-extensions":  # the libraries themselves want a newer one
        print(f"{name}=={bound}")
    if name == "botocore":
        print(f"boto3=={bound}")  # released together; otherwise pip tries hundreds of versions
