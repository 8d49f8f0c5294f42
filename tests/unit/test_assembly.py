"""The stations are put together in one place, and every setting is used by one of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import agentmodel
from agentmodel.config import Settings

PACKAGE = Path(agentmodel.__file__).parent

STATIONS = {
    "agentmodel.access.recorder": {"Recorder"},
    "agentmodel.access.repository": {"Caches", "Repository"},
    "agentmodel.cache": {"Drainer", "Journal", "Leaderboard", "ReadThrough", "UserCache", "Valkey"},
    "agentmodel.dynamo.table": {"Table"},
    "agentmodel.dynamo.writer": {"Writer"},
    "agentmodel.redshift.warehouse": {"Warehouse"},
    "agentmodel.suggest.guard": {"Guard", "ResponseCache"},
    "agentmodel.suggest.health": {"HealthMonitor"},
    "agentmodel.suggest.plan": {"Planner", "SuggestionLog"},
    "agentmodel.suggest.publish": {"Publisher"},
    "agentmodel.suggest.review": {"Reviews"},
    "agentmodel.tools": {"FunctionTools"},
}


def stations_made(source: str) -> set[str]:
    """The stations that a module makes: calls of a class that it imports, or of a class method such as `open`."""
    tree = ast.parse(source)
    known = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in STATIONS.get(node.module or "", ())
    }
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [f.value if isinstance(f, ast.Attribute) and f.attr == "open" else f for f in called]
    return {known[each.id] for each in named if isinstance(each, ast.Name) and each.id in known}


def modules() -> Iterator[tuple[str, str]]:
    """Each file of the package by its path in it, with its text."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")


def test_only_the_client_puts_stations_together() -> None:
    """No module but `agentmodel.client` makes a station; the client makes all of them."""
    made = {name: found for name, source in modules() if (found := stations_made(source))}

    assert {"client.py": set().union(*STATIONS.values())} == made


def test_an_assembly_is_found() -> None:
    """The test above sees a station that is made by its name, by another name and by a class method."""
    source = (
        "from agentmodel.dynamo.table import Table as T\n"
        "from agentmodel.redshift.warehouse import Warehouse\n"
        "def build(settings):\n"
        "    return T(settings), Warehouse.open(settings.warehouse_url)\n"
    )

    assert {"Table", "Warehouse"} == stations_made(source)
    assert set() == stations_made("from rich.table import Table\nTable()")


def test_every_setting_is_read() -> None:
    """Each field of `Settings` is read somewhere outside of `agentmodel.config`: none is accepted and then ignored."""
    read = {
        node.attr
        for name, source in modules()
        if name != "config.py"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and "settings" in ast.unparse(node.value).lower()
    }

    assert set() == set(Settings.model_fields) - read
