"""What the type checkers find: every promised error stays one, and correct code is without noise."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import agentmodel

HERE = Path(__file__).parent


def needs(checker: str) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed here")


def check(*command: str) -> None:
    """Run a checker on the files beside this one."""
    package = Path(agentmodel.__file__).parents[1]
    path = {} if package.name == "site-packages" else {"MYPYPATH": str(package), "PYTHONPATH": str(package)}
    run = subprocess.run(
        [sys.executable, "-m", *command], cwd=HERE, env=os.environ | path, capture_output=True, text=True, check=False
    )

    assert 0 == run.returncode, run.stdout + run.stderr


def test_ten_mistakes_with_each_of_nine_entities() -> None:
    """There are ten mistakes for each entity, each with a rule of both checkers."""
    text = (HERE / "negative.py").read_text("utf-8")
    parts = text.split("\ndef ")[1:]

    assert 9 == len(parts)
    assert [10] * 9 == [part.count("# type: ignore[") for part in parts]
    assert [10] * 9 == [part.count("# pyright: ignore[") for part in parts]


def test_mypy() -> None:
    """With --strict mypy finds every mistake and nothing else."""
    needs("mypy")
    check(
        "mypy",
        "--config-file",
        "mypy.ini",
        "--cache-dir",
        "../../.mypy_cache/typing",  # other options than those of `make types`: in one folder each undoes the other's cache
        "positive.py",
        "positive_async.py",
        "negative.py",
        "negative_async.py",
        "negative_keys.py",
        "negative_tools.py",
    )


def test_pyright() -> None:
    """In its strict mode pyright finds every mistake and nothing else."""
    needs("pyright")
    check("pyright", "--project", "pyrightconfig.json", "--pythonpath", sys.executable)
