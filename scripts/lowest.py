"""Print the lowest versions that pyproject.toml allows, as a constraints file for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
wanted = project["dependencies"] + extras["redshift"] + extras["local"] + extras["cli"] + extras["testing"]
for line in sorted(set(wanted)):
    name, bound = re.match(r"([A-Za-z0-9-]+)(?:\[[^]]*\])?(?:>=([0-9a-z.]+))?", line).groups()  # type: ignore[union-attr]  # our own format
    if bound:
        print(f"{name}=={bound}")
    if name == "botocore":
        print(f"boto3=={bound}")  # released together; otherwise pip tries hundreds of versions
