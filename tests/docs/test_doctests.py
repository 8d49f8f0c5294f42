"""The doctests of the package hold."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import agentmodel
from agentmodel.exceptions import MissingExtraError

MODULES = ["agentmodel", *(m.name for m in pkgutil.walk_packages(agentmodel.__path__, "agentmodel."))]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_doctests(name: str) -> None:
    """What the docstrings of a module show is what happens."""
    try:
        module = importlib.import_module(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    except ModuleNotFoundError as error:
        if not name.startswith("agentmodel.integrations.") or (error.name or "").startswith("agentmodel"):
            raise
        pytest.skip(f"{error.name} is not installed")
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)

    assert 0 == result.failed
