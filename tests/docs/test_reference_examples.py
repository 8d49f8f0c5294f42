"""Every public name of the reference shows an example that the tests run, or leads to one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import agentmodel
from scripts import public_names

pytest.importorskip("griffe", reason="the documentation's tools are not installed here")
import griffe  # installed, as the line before finds

from scripts import doctests

ROOT = Path(__file__).parents[2]
WITHOUT = {
    "PresidioRedactor": "Presidio and its language model are not installed where the tests run; privacy/redact.md has one",
}
"""Public names without an example, and why."""

INSIDE = {
    "AgentModel": {"close"},  # a `with` block does it
    "CallRecorder": {"ended"},
    "Drainer": {"longest_wait"},
    "DynamoServer": {"items", "load", "save"},
    "Embedder": {"embed"},  # implemented by applications: the example of the class that calls it does
    "EmbeddingSimilarity": {"vectors"},
    "Engines": {"items", "save"},
    "Entity": {"deserialize", "from_raw_data"},
    "Erasure": {"finish_warehouse"},
    "HealthMonitor": {"forget_user", "reads"},
    "HealthSource": {"failing"},
    "ProcessRecorder": {"begin", "leave"},
    "Reason": {"model_post_init"},
    "Recorder": {
        "cached_tool_name", "close", "continued", "has_session_elsewhere", "journal_sink", "known_history",
        "left", "next_process_id", "open", "opened", "put_missing", "record_each", "record_later", "resume",
        "settle", "stored_outcomes", "wait_for",
    },
    "Repository": {"best_mappings", "cache_best_mappings", "mappings_at", "prefetched"},
    "ResponseCache": {"begins", "health_changed", "learn", "marks", "writes_in"},
    "Routing": {"due", "erase_user", "matches"},
    "RunChecks": {"ended_in", "learn"},
    "SessionRecorder": {"begin", "ended", "leave", "next_call"},
    "SuggestionLog": {"ended_in", "learn", "learn_drained"},
    "Table": {"call_to_delete", "close", "forget_place"},
    "TraceImport": {"run_sources"},
    "Valkey": {"rebuild_overlay"},
    "Warehouse": {"add_to_inbox", "erase", "rewrite"},
}  # fmt: skip
"""Methods that the package calls itself, by class; `renew`, which a forked child calls, is one of every class."""

MODULES = [name for name in public_names.public_modules() if name != "agentmodel"]


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    """The package as the reference shows it."""
    names = ("griffe_fields", "doctests", "griffe_async")
    extensions = griffe.load_extensions(*(str(ROOT / "scripts" / f"{name}.py") for name in names))
    loaded = griffe.load("agentmodel", search_paths=[Path(agentmodel.__file__).parents[1]], extensions=extensions)
    assert isinstance(loaded, griffe.Module)
    return loaded


def of_page(package: griffe.Module, module: str) -> griffe.Module:
    found = package[module.removeprefix("agentmodel.")]
    assert isinstance(found, griffe.Module)
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_an_example(package: griffe.Module, module: str) -> None:
    """Each name shows an example, or its entry leads to the first one of the page that uses it."""
    names = doctests.public(of_page(package, module))

    assert [] == [name for name, thing in names.items() if not doctests.has_example(thing) and name not in WITHOUT]


@pytest.mark.parametrize(
    "module", [name for name in MODULES if not name.startswith(("agentmodel.aio", "agentmodel.integr"))]
)
def test_every_method_is_in_an_example(package: griffe.Module, module: str) -> None:
    """Each method that an application calls has an example, or is called in one of the page.

    Those of `agentmodel.aio` lead to the synchronous ones. Frameworks call those of the integrations.
    """
    page = of_page(package, module)
    shown = "\n".join(example.text for example in doctests.examples(page))
    classes = {name: thing for name, thing in doctests.public(page).items() if thing.is_class}
    without = {
        name: {
            method.name
            for method in thing.members.values()
            if method.is_function and not method.is_alias and not method.name.startswith("_") and method.name != "renew"
            if not doctests.has_example(method) and not re.search(rf"\.{method.name}\b", shown)
        }
        for name, thing in classes.items()
    }

    assert {name: INSIDE[name] for name in classes if name in INSIDE} == {
        n: each for n, each in without.items() if each
    }


def test_the_exceptions_are_public_names(package: griffe.Module) -> None:
    """A class that is renamed or not public any more leaves the lists of this file."""
    public = {name for module in MODULES for name in doctests.public(of_page(package, module))}

    assert set() == {*WITHOUT, *INSIDE} - public


def test_examples_stand_where_they_are_run(package: griffe.Module) -> None:
    """Doctests are found in modules, classes, functions and properties; elsewhere one would never run."""
    unseen = []
    for module in MODULES:
        for thing in doctests.public(of_page(package, module)).values():
            every = [thing, *(thing.members.values() if thing.is_class else ())]
            values = [each for each in every if each.is_attribute and "property" not in each.labels]
            unseen += [each.path for each in values if each.docstring is not None and ">>>" in each.docstring.value]

    assert [] == unseen


@pytest.mark.parametrize("name", sorted({name for names in doctests.PROGRAMS.values() for name in names}))
def test_the_programs_of_a_page_are_those_that_are_run(name: str) -> None:
    """What a page shows as a program is a file among the examples, which `test_examples` runs."""
    assert (ROOT / "docs" / "examples" / f"{name}.py").is_file()
