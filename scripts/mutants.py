"""Change the code that decides, one small change at a time, and list the changes that no test notices.

    scripts/mutants.py                        every target, every mutant: hours
    scripts/mutants.py health --share 5       a fifth of the mutants of the targets that have "health" in their name

mutmut makes and runs the mutants, in copies of the tree under build/mutants. Targets, the tests that run for each, and
the mutants that may survive with the reason for each are in tests/mutants.toml. The exit code is 1 if another survives.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "mutants"
COPIED = ("agentmodel", "docs", "scripts", "sql", "tests", "README.md", "pyproject.toml")
NUMBERS = {1: "*", 2: "*[13579]", 5: "*[16]", 10: "*1"}
"""Patterns of the numbers of mutants within their function, by the share they pick: one of so many."""

CONFIG = """
[tool.mutmut]
source_paths = ["agentmodel"]
only_mutate = {paths}
also_copy = ["docs", "scripts", "sql", "README.md"]
pytest_add_cli_args = ["--hypothesis-profile=mutants", "-p", "no:xdist", "-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = {tests}
# the texts of errors and log lines are read by people, with scripts/messages.py
do_not_mutate_patterns = ['^\\s*raise ', '_log\\.', '^\\s*f?"[^"]* .*"[,)]*$']
timeout_multiplier = 4.0
timeout_constant = 5.0
"""


def tree(target: dict[str, Any]) -> Path:
    """Copy what the tests of a target need into a folder of its own."""
    folder: Path = BUILD / target["name"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    with (folder / "pyproject.toml").open("a") as config:
        config.write(CONFIG.format(paths=target["paths"], tests=target["tests"]))
    return folder


def survivors(path: Path) -> tuple[int, list[str]]:
    """Return how many mutants of a file were tried, and those that no test noticed; from mutmut's folder.

    A mutant is its function, and the lines before and after. `mutmut show` would look through all files for each.
    """
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # type: ignore[import-not-found]  # in its own environment

    codes = json.loads(Path("mutants", f"{path}.meta").read_text())["exit_code_by_key"]
    found = []
    for mutant in [name for name, code in codes.items() if code in (0, 33)]:  # every test passed; no test calls it
        lines = [line for line in get_diff_for_mutant(mutant, path=path).splitlines() if line[:3] not in ("---", "+++")]
        before, after = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
        function = mutant.rpartition("__mutmut_")[0].replace(".x_", ".").replace(".xǁ", ".").replace("ǁ", ".")
        found.append(f"{function}: {before} → {after}")
    return sum(code is not None for code in codes.values()), found


def run(target: dict[str, Any], *, share: int, accepted: set[str]) -> int:
    """Run the mutants of a target; return how many survived that may not."""
    folder = tree(target)
    command: list[str | Path] = [Path(sys.executable).with_name("mutmut"), "run", "--max-children=1"]
    command += [] if share == 1 else [f"*__mutmut_{NUMBERS[share]}"]
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(command, cwd=folder, check=False, stdout=log, stderr=log)  # noqa: S603  # our own
    if done.returncode:
        raise SystemExit(f"mutmut failed; see {log.name}")
    missed = 0
    with contextlib.chdir(folder):
        for path in sorted(each for pattern in target["paths"] for each in Path().glob(pattern)):
            tried, alive = survivors(path)
            new = [line for line in alive if line not in accepted]
            missed += len(new)
            summary = f"{path}: {tried} tried, {tried - len(alive)} noticed, {len(alive) - len(new)} accepted"
            print(f"{summary}, {len(new)} not noticed", *new, sep="\n    ", flush=True)
    return missed


def main() -> None:
    """Run the targets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="", help="a part of the names of the targets to run")
    parser.add_argument("--share", type=int, choices=NUMBERS, default=1, help="run one of so many mutants")
    args = parser.parse_args()
    known = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())
    accepted = {mutant for group in known.get("accepted", []) for mutant in group["mutants"]}
    targets = [target for target in known["target"] if args.part in target["name"]]
    if sum([run(target, share=args.share, accepted=accepted) for target in targets]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
