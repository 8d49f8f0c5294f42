"""`agentmodel drain` as a pass, to the end and as a service; dead letters from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.cache import Valkey
from agentmodel.cli import main


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings in the environment that reach the engines."""
    assert settings.secret_access_key is not None
    given = {
        "AGENTMODEL_TABLE": settings.table,
        "AGENTMODEL_ENDPOINT": str(settings.endpoint),
        "AGENTMODEL_ACCESS_KEY_ID": str(settings.access_key_id),
        "AGENTMODEL_SECRET_ACCESS_KEY": settings.secret_access_key.get_secret_value(),
        "AGENTMODEL_VALKEY_URL": str(settings.valkey_url),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


@pytest.fixture
def model(settings: Settings, environment: dict[str, str]) -> Iterator[AgentModel]:
    with AgentModel.from_settings(settings) as made:
        made.table.create()
        yield made
        made.table.delete()


def depth(model: AgentModel) -> int:
    assert model.journal is not None
    return model.journal.stats().depth


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints as JSON."""
    assert 0 == main([*arguments, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def letter(model: AgentModel, settings: Settings, capsys: pytest.CaptureFixture[str]) -> str:
    """The id of a dead letter, made of an entry that does not decode."""
    with Valkey(settings) as valkey:
        valkey.execute(("XADD", "am:{07}:j", "*", "k", "USR001", "m", "A", "i", "1", "x", "", "d", "damaged"))
    assert 1 == said(capsys, "drain")["dead"]
    (found,) = said(capsys, "dead", "list")
    assert ("USR001", "A", "the entry does not decode") == (found["partition"], found["sort"], found["reason"])
    return str(found["id"])


def test_to_the_end_and_one_pass(model: AgentModel, capsys: pytest.CaptureFixture[str]) -> None:
    """A drain ends when the journal is empty; with `--once` after one pass."""
    for option in ([], ["--once"]):
        with model.session("USR001", "a café"):
            pass
        assert depth(model) > 0
        assert 0 == said(capsys, "drain", *option)["left"]
        assert 0 == depth(model)


def test_not_both(model: AgentModel, capsys: pytest.CaptureFixture[str]) -> None:
    """One pass and no end exclude each other: wrong use."""
    assert 2 == main(["drain", "--once", "--keep-on"])
    assert "give one of the two" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_service(model: AgentModel, environment: dict[str, str], number: int) -> None:
    """With `--keep-on` it drains what comes until a signal ends it cleanly, and says what it did."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTMODEL_", "AWS_"))}
    with subprocess.Popen(
        [sys.executable, "-m", "agentmodel", "drain", "--keep-on", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=bare | environment,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert "until SIGTERM or Ctrl-C" in process.stderr.readline()
        for _ in range(2):
            with model.session("USR001", "a café"):
                pass
            while depth(model):  # the test's timeout ends it if nobody drains
                pass
        process.send_signal(number)
        out, err = process.communicate(timeout=60)

    assert (0, "") == (process.returncode, err)
    assert {"dead": 0, "left": 0} == {name: json.loads(out)[name] for name in ("dead", "left")}
    assert 2 <= json.loads(out)["written"]


def test_dead_letter_is_retried(letter: str, model: AgentModel, capsys: pytest.CaptureFixture[str]) -> None:
    """A dead letter goes back into the journal once; its id is then unknown."""
    assert {"letter": letter, "done": True} == said(capsys, "dead", "retry", letter)
    assert 1 == depth(model)
    assert 1 == main(["dead", "retry", letter])
    assert f"dead letter {letter} does not exist" in capsys.readouterr().err


def test_dead_letter_by_the_beginning_of_its_id(
    letter: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A beginning that one dead letter alone has names it; with several nothing is done, and they are named."""
    with Valkey(settings) as valkey:
        valkey.execute(("XADD", "am:{07}:j", "*", "k", "USR002", "m", "A", "i", "1", "x", "", "d", "damaged"))
    assert 1 == said(capsys, "drain")["dead"]
    letters = [one["id"] for one in said(capsys, "dead", "list")]
    assert 2 == main(["dead", "drop", letter[:3]])
    assert ", ".join(sorted(letters)) in capsys.readouterr().err
    end = next(number for number in range(len(letter)) if letters[0][:number] != letters[1][:number])

    assert {"letter": letter, "done": True} == said(capsys, "dead", "drop", letter[:end])
    assert [one for one in letters if one != letter] == [one["id"] for one in said(capsys, "dead", "list")]


def test_dead_letter_is_dropped(letter: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A dead letter that is dropped is gone; an empty id is not that of the only one."""
    assert 2 == main(["dead", "drop", ""])
    assert "must be an id, or the beginning of one" in capsys.readouterr().err
    assert 0 == main(["dead", "drop", letter])
    assert f"{letter} is deleted" in capsys.readouterr().out
    assert [] == said(capsys, "dead", "list")


def test_dead_letters_for_people(letter: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The list shows id and reason; what is no id is wrong use."""
    assert 0 == main(["dead", "list"])
    out = capsys.readouterr().out
    assert letter in out
    assert "the entry does not decode" in out
    assert 2 == main(["dead", "drop", "7"])
    assert "must be the id of a dead letter" in capsys.readouterr().err


def test_stats_tell_the_journal(letter: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`stats` has depth, age of the oldest entry, pending, dead and the breaker."""
    cache = said(capsys, "stats", "--no-scan")["cache"]

    assert {"depth": 0, "pending": 0, "dead": 1, "breaker": "closed", "oldest_seconds": 0.0} == {
        name: cache[name] for name in ("depth", "pending", "dead", "breaker", "oldest_seconds")
    }
