"""The doctests of the package hold."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import runpy
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import agentmodel
from agentmodel.exceptions import MissingExtraError

ROOT = Path(__file__).parents[2]
HISTORY = ROOT / "docs" / "examples" / "reference.py"
NEEDS = {
    "AgentModel.report": "matplotlib",
    "Rows.to_pandas": "pandas",
    "Rows.to_polars": "polars",
    "Tokens.verify_token": "mcp",
    "report_html.report": "matplotlib",
}
"""Examples that need a package of an extra, by the end of their path; they are passed over where it is not installed."""
MODULES = ["agentmodel", *(m.name for m in pkgutil.walk_packages(agentmodel.__path__, "agentmodel."))]


@pytest.fixture(scope="module")
def history() -> Iterator[dict[str, Any]]:
    """What the examples of the reference use: the model with its history, and a folder for files."""
    made = runpy.run_path(str(HISTORY))
    yield {name: made[name] for name in ("model", "folder")}
    made["model"].close()
    shutil.rmtree(made["folder"])


def needs_history(module: ModuleType) -> bool:
    """Whether an example of a module uses what `history` has."""
    lines = inspect.getsource(module).splitlines()
    shown = [line for line in lines if line.lstrip().startswith((">>> ", "... "))]
    return any("model." in line or "folder /" in line or "(model" in line for line in shown)


def own(module: ModuleType) -> dict[str, Any]:
    """The names of a module that an example need not import: what it imports of other packages is not among them."""
    kept = ("agentmodel", "builtins", "typing", "types")
    origins = {name: getattr(value, "__module__", type(value).__module__) for name, value in vars(module).items()}
    packages = {name: str(origin).partition(".")[0] for name, origin in origins.items()}
    return {
        name: value for name, value in vars(module).items() if packages[name] in kept and not inspect.ismodule(value)
    } | {"__name__": module.__name__}


def found(module: ModuleType, given: dict[str, Any]) -> Iterator[doctest.DocTest]:
    """The doctests of a module; doctest by itself passes over cached properties."""
    finder = doctest.DocTestFinder()
    yield from finder.find(module, globs=own(module), extraglobs=given)
    for kind in vars(module).values():
        if inspect.isclass(kind) and kind.__module__ == module.__name__:
            for name, value in vars(kind).items():
                if isinstance(value, cached_property):
                    yield from finder.find(
                        value.func, f"{kind.__name__}.{name}", module, globs=own(module), extraglobs=given
                    )


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_doctests(name: str, request: pytest.FixtureRequest) -> None:
    """What the docstrings of a module show is what happens."""
    try:
        module = importlib.import_module(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    except ModuleNotFoundError as error:
        if not name.startswith("agentmodel.integrations.") or (error.name or "").startswith("agentmodel"):
            raise
        pytest.skip(f"{error.name} is not installed")
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in found(module, request.getfixturevalue("history") if needs_history(module) else {}):
        needed = [package for end, package in NEEDS.items() if test.name.endswith(end)]
        if all(importlib.util.find_spec(package) for package in needed):
            runner.run(test)

    assert 0 == runner.failures
