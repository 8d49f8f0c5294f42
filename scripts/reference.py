"""Write a page of the reference for each public module that has none, and all of them into the end of mkdocs.yml.

Pages are grouped by what they are for, as the guides are. Pages may be edited: only missing ones are written, and only
those of modules that are gone are removed. tests/docs/test_reference.py tells when to run this.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a program, only its own folder is searched

from scripts.public_names import ROOT, public_modules

PAGES = ROOT / "docs" / "reference"
PAGE = "---\nsearch:\n  boost: 0.002\n---\n::: agentmodel.{}\n"
"""A page; in the search it comes after a guide with the same words."""
START = "  - Reference: # written by scripts/reference.py\n"
WRITTEN = {"examples": "About the examples"}
"""Pages that are no module's."""

GROUPS = {
    "The model and its settings": {
        "client": "AgentModel",
        "aio": "AsyncAgentModel",
        "config": "Settings",
        "cli": "Command line",
        "embedded": "Embedded engines",
        "exceptions": "Errors",
    },
    "Recorders": {
        "access.recorder": "Recorder",
        "tools": "Functions as tools",
        "integrations.langchain": "LangChain and LangGraph",
        "integrations.strands": "Strands Agents",
        "integrations.openai_agents": "OpenAI Agents SDK",
        "integrations.pydantic_ai": "Pydantic AI",
        "integrations.google_adk": "Google ADK",
        "integrations.claude_agent_sdk": "Claude Agent SDK",
        "integrations.crewai": "CrewAI",
        "integrations.opentelemetry": "OpenTelemetry",
        "integrations.otlp": "OpenTelemetry files",
        "integrations.mcp": "MCP server",
        "traces": "Trace files",
        "access.trace_import": "Import of traces",
    },
    "Reading and reports": {
        "access.repository": "Repository",
        "access.patterns": "Access patterns",
        "access.pagination": "Pages and cursors",
        "redshift.reports": "Reports",
        "redshift.report_html": "HTML report",
        "redshift.session_list": "List of sessions",
        "redshift.decisions": "Decisions of people",
        "redshift.export": "Export to Parquet",
        "prices": "Prices of models",
        "console": "Console",
        "callers": "Callers and roles",
    },
    "Plans and rankings": {
        "suggest.plan": "Plans and routing",
        "suggest.publish": "Publish",
        "suggest.evaluate": "Evaluate and impact",
        "redshift.score": "Scores",
    },
    "Guard and reviews": {
        "suggest.guard": "Guard",
        "suggest.health": "Health of tools",
        "suggest.review": "Reviews",
    },
    "Entities and keys": {
        "dynamo.models": "Entities",
        "dynamo.entity": "Base of the entities",
        "dynamo.attributes": "Kinds of attributes",
        "keys": "Keys",
        "dynamo.table": "Table",
        "dynamo.writer": "Conditional writes",
        "testing": "Test strategies",
        "testing.plugin": "Fixtures for pytest",
    },
    "Cache and warehouse": {
        "cache": "Valkey",
        "redshift.warehouse": "Warehouse",
        "redshift.models": "Tables",
        "redshift.ingest": "Feeds",
        "redshift.render_sql": "SQL files",
    },
    "AWS and privacy": {
        "aws.handlers": "Lambda functions",
        "aws.template": "CloudFormation template",
        "privacy": "Redaction",
        "erasure": "Erasure",
    },
}
"""The public modules with their titles, in the order of the guides.

A group has not the name of a tab: a screen reader could not tell them apart.
"""


def grouped() -> dict[str, dict[str, str]]:
    """The groups of the reference.

    Raises:
        LookupError: A public module has no title, or a title no module.
    """
    modules = {module.removeprefix("agentmodel.") for module in public_modules() if module != "agentmodel"}
    titled = {module for group in GROUPS.values() for module in group}
    if modules != titled:
        raise LookupError(f"GROUPS of scripts/reference.py and the public modules differ: {sorted(modules ^ titled)}")
    return GROUPS


def main() -> None:
    """Bring pages and navigation up to the modules."""
    groups = grouped()
    navigation = START
    for page in PAGES.glob("*.md"):
        if page.stem not in {*WRITTEN, *(module for modules in groups.values() for module in modules)}:
            page.unlink()
    for name, title in WRITTEN.items():
        navigation += f"      - {title}: reference/{name}.md\n"
    for group, modules in groups.items():
        navigation += f"      - {group}:\n"
        for module, title in modules.items():
            page = PAGES / f"{module}.md"
            if not page.exists():
                page.write_text(PAGE.format(module), encoding="utf-8")
            navigation += f"          - {title}: reference/{page.name}\n"
    config = ROOT / "mkdocs.yml"
    before = config.read_text(encoding="utf-8").partition(START)[0]
    config.write_text(before + navigation, encoding="utf-8")


if __name__ == "__main__":
    main()
