"""Count which of ten mistakes mypy --strict and pyright find in the same entity, as each library declares it.

    python benchmarks/mistakes.py

The libraries, mypy and pyright must be installed with the interpreter that runs this; what is missing is left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import LIBRARIES, OTHERS

MISTAKES = {  # each is a line; the name `agent` is an entity, `User` another entity's class
    "wrong type in the constructor": 'Agent({agent_id}=5, {domain_id}="D", name="x")',
    "misspelt argument": 'Agent({agent_id}="A", {domain_id}="D", name="x", nmae="y")',
    "missing argument": 'Agent({agent_id}="A", {domain_id}="D")',
    "a value that may be None": "len(agent.description)",
    "None for a required attribute": "agent.name = None",
    "wrong type assigned": "agent.name = 5",
    "unknown attribute": 'agent.nmae = "x"',
    "wrong type in a key": "{get}",
    "wrong type in a condition": "{condition}",
    "wrong key in a query": "{query}",
}
PYNAMO = """
from {package}.attributes import NumberAttribute, UnicodeAttribute
from {package}.models import Model


class Agent(Model):
    class Meta:
        table_name = "Bench"

    agent_id = UnicodeAttribute(hash_key=True)
    domain_id = UnicodeAttribute(range_key=True)
    name = UnicodeAttribute()
    score = NumberAttribute(default=0)
    description = UnicodeAttribute(null=True)
"""
SOURCES = {
    "agentmodel": ("""
from agentmodel import Agent, AgentModel

repository = AgentModel.local().repository
""", {"get": "Agent.at(5)", "condition": "Agent.name.eq(5)", "query": "repository.top_agents(5)"}),
    "pynamodb": (PYNAMO.format(package="pynamodb"), {
        "get": "Agent.get(5)", "condition": "Agent.name == 5", "query": "Agent.query(5)",
    }),
    "aiopynamodb": (PYNAMO.format(package="aiopynamodb"), {
        "get": "Agent.get(5)", "condition": "Agent.name == 5", "query": "Agent.query(5)",
    }),
    "pydynox": ("""
from pydynox import Model, ModelConfig
from pydynox.attributes import NumberAttribute, StringAttribute


class Agent(Model):
    model_config = ModelConfig(table="Bench")
    agent_id = StringAttribute(partition_key=True)
    domain_id = StringAttribute(sort_key=True)
    name = StringAttribute()
    score = NumberAttribute(default=0)
    description = StringAttribute()
""", {
        "get": "Agent.sync_get(agent_id=5)", "condition": "Agent.name == 5",
        "query": "Agent.sync_query(partition_key=5)",
    }),
    "pydynantic": ("""
from pydynantic import Entity, F, Table, key

table = Table("Bench")


class Agent(Entity, table=table, name="agent"):
    agent_id: str
    domain_id: str
    name: str
    score: float = 0
    description: str | None = None

    class Meta:
        primary = key(pk="{agent_id}", sk="{domain_id}")
""", {"get": "Agent.get(agent_id=5)", "condition": 'F("name") == 5', "query": "Agent.query.primary(agent_id=5)"}),
    "dynamoxy": ("""
from dynamoxy import Attr, Client, Model, field, partition_key, sort_key


class Agent(Model, table="Bench"):
    agent_id: Attr[str] = partition_key()
    domain_id: Attr[str] = sort_key()
    name: Attr[str] = field()
    score: Attr[float] = field(default=0.0)
    description: Attr[str | None] = field(default=None)


agents = Client(region="eu-west-1").repository(Agent)
""", {"get": "agents.get(5)", "condition": "Agent.name == 5", "query": "agents.query(agent_id=5)"}),
}  # fmt: skip
MADE = '\nagent = Agent({agent_id}="A", {domain_id}="D", name="x")\n'


def found_in(library: str, folder: Path) -> dict[str, tuple[bool, bool]]:
    """Return for each mistake whether mypy and whether pyright find it."""
    head, calls = SOURCES[library]
    names = {"agent_id": "agent_id", "domain_id": "domain_id"}
    source = head + MADE.format(**names)
    first = source.count("\n") + 1
    file = folder / f"{library}_mistakes.py"
    file.write_text(source + "\n".join(line.format(**names, **calls) for line in MISTAKES.values()) + "\n")
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--cache-dir",
        str(folder / "cache"),
        str(file),
    ]
    lines = subprocess.run(mypy, capture_output=True, text=True, cwd=folder).stdout.splitlines()  # noqa: PLW1510  # errors are its result
    by_mypy = {int(line.split(":")[1]) for line in lines if ": error:" in line and file.name in line}
    pyright = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(file)]
    told = json.loads(subprocess.run(pyright, capture_output=True, text=True, cwd=folder).stdout)  # noqa: PLW1510  # likewise
    by_pyright = {
        each["range"]["start"]["line"] + 1 for each in told["generalDiagnostics"] if each["severity"] == "error"
    }
    noise = {line for line in by_mypy | by_pyright if line < first}
    if noise:
        print(f"{library}: errors in its declarations, lines {sorted(noise)}", file=sys.stderr)
    return {name: (first + n in by_mypy, first + n in by_pyright) for n, name in enumerate(MISTAKES)}


def main() -> None:
    """Print the table."""
    present = [name for name, there in (LIBRARIES | OTHERS).items() if there and name in SOURCES]
    with tempfile.TemporaryDirectory() as folder:
        found = {name: found_in(name, Path(folder)) for name in present}
    print("| mistake | " + " | ".join(present) + " |")
    print("|---" * (len(present) + 1) + "|")
    shown = {(True, True): "both", (True, False): "mypy", (False, True): "pyright", (False, False): "–"}
    for mistake in MISTAKES:
        print(f"| {mistake} | " + " | ".join(shown[found[name][mistake]] for name in present) + " |")
    counts = (f"{sum(map(any, each.values()))} of {len(MISTAKES)}" for each in found.values())
    print("| found by either | " + " | ".join(counts) + " |")


if __name__ == "__main__":
    main()
