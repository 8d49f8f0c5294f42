from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from agentmodel.cli import main
from agentmodel.cli._app import app

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command with its whole name."""
    if hasattr(command, "commands"):
        for sub, each in command.commands.items():
            yield from commands(each, f"{name} {sub}")
    else:
        yield name, command


COMMANDS = dict(commands(get_command(app), "agentmodel"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained(name: str) -> None:
    """The page on the command line has every command, with every option that not all commands have."""
    assert re.search(rf"`{name}[` ]", DOCS), f"docs/cli.md lacks {name}"
    options = {text for param in COMMANDS[name].params for text in param.opts if text.startswith("--")}
    assert [] == [option for option in sorted(options - {"--help"}) if f"`{option}" not in DOCS]


def test_no_command_is_explained_that_is_not_there() -> None:
    """What the page calls a command is one."""
    words = {
        " ".join(found.split())
        for found in re.findall(r"`agentmodel ((?:(?:table|warehouse|dead|reviews|deploy) )?[a-z]+)", DOCS)
    }

    assert set() == {f"agentmodel {each}" for each in words} - set(COMMANDS)


@pytest.mark.parametrize("name", ["agentmodel", "agentmodel table", *COMMANDS])
def test_every_command_helps(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` and `-h` work everywhere and say what the command does."""
    assert 0 == main([*name.split()[1:], "-h"])
    short = capsys.readouterr().out
    assert 0 == main([*name.split()[1:], "--help"])
    out = capsys.readouterr().out
    assert short == out
    assert out.startswith(f"Usage: {name} ")
    assert name == "agentmodel" or "Show this message" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_json(name: str) -> None:
    """`--json` is an option of every command."""
    assert "--json" in {text for param in COMMANDS[name].params for text in param.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_use_points_to_the_help_of_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that a command does not have is told with how that command's help is shown."""
    assert 2 == main([*name.split()[1:], "--no-such-option"])
    assert f"(see `{name} --help`)" in capsys.readouterr().err


def test_shells_complete_commands() -> None:
    """A shell that asks for completions gets the commands that begin so."""
    asked = {"_AGENTMODEL_COMPLETE": "complete_bash", "COMP_WORDS": "agentmodel ses", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "agentmodel"], env=os.environ | asked, capture_output=True, text=True, check=False
    )

    assert ["session", "sessions"] == sorted(done.stdout.split())


def test_nothing_is_looked_through_at_the_end() -> None:
    """A process of a command ends at once: what was loaded is not looked through for what could be freed."""
    program = "import atexit, gc; from agentmodel.cli import main; atexit.register(lambda: print(gc.get_freeze_count())); main()"
    ended = [
        subprocess.run([sys.executable, "-c", text, "--version"], capture_output=True, text=True, check=True).stdout
        for text in (program, program.replace("main()", "main(['--version'])"))
    ]

    assert int(ended[0].split()[-1]) > 10_000
    assert 0 == int(ended[1].split()[-1])
