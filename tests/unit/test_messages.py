from __future__ import annotations

from pathlib import Path

import pytest

from scripts.messages import KINDS, Message, collected

PROGRAMS = {
    "exceptions.py": '''
class TooMany(Exception):
    """Docstrings are for readers of the code."""
''',
    "cli/_check.py": '''
@app.command()
def check(deep: Annotated[bool, Option(help="Look at every item.")]) -> None:
    """Find damaged items."""
    raise TooMany(f"{count} items are damaged")
''',
    "suggest/guard/_guard.py": """
def refuse(call):
    _log.warning("guard.blocked: %s", call.tool)
    return f"{call.tool} was not called: " + "it is failing"
""",
    "redshift/reports.py": """
HEADING = "Errors of each tool"
""",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, program in PROGRAMS.items():
        path = tmp_path / "agentmodel" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(program, encoding="utf-8")
    return tmp_path


def test_every_kind_is_found(root: Path) -> None:
    """A text of each kind is found with its place and its expressions; docstrings of code are not."""
    found = collected(root)

    assert set(KINDS) == {message.kind for message in found}
    assert [
        Message("help", "agentmodel/cli/_check.py", 3, "Look at every item."),
        Message("help", "agentmodel/cli/_check.py", 3, "check: Find damaged items."),
        Message("error", "agentmodel/cli/_check.py", 5, "TooMany: {count} items are damaged"),
        Message("text", "agentmodel/redshift/reports.py", 2, "Errors of each tool"),
        Message("log", "agentmodel/suggest/guard/_guard.py", 3, "warning: guard.blocked: %s | {call.tool}"),
        Message("model", "agentmodel/suggest/guard/_guard.py", 4, "{call.tool} was not called: it is failing"),
    ] == sorted(found, key=lambda message: (message.path, message.line, message.text))


def test_a_folder_is_looked_at_alone(root: Path) -> None:
    """With a path only what lies under it is printed."""
    assert {"agentmodel/suggest/guard/_guard.py"} == {message.path for message in collected(root, "agentmodel/suggest")}
