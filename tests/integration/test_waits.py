"""What recording and deciding wait for and look at: round trips and reads, counted. Benchmarks measure the time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, UserSession
from agentmodel.access._attempt_numbers import AttemptNumbers, ClaimedNumber
from agentmodel.integrations._tracking.messages import last_request
from agentmodel.integrations._tracking.tracker import Tracker
from tests.integration.suggest_world import opened

USER = "USR001"


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        yield model


def trips(model: AgentModel, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> int:
    """Round trips to Valkey while this thread does something."""
    valkey, here, counted = model._valkey, threading.get_ident(), []
    assert valkey is not None
    send = valkey.try_many

    def try_many(commands: Any) -> Any:
        if threading.get_ident() == here:
            counted.append(commands)
        return send(commands)

    with monkeypatch.context() as patched:
        patched.setattr(valkey, "try_many", try_many)
        act()
    return len(counted)


def test_each_step_of_a_session_takes_one_round_trip(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step claims the next free number at once: it is not told by the journal which one that is."""
    with model.session(USER, "find a café") as session:
        taken = [trips(model, monkeypatch, session.process("look").__enter__) for _ in range(3)]
        session.process("later", number=9).__enter__()
        with session.process("last") as last:
            pass
    with model.session(USER, session_id=session.session_id) as again, again.process("more") as more:
        pass

    assert [1, 1, 1] == taken
    assert ["PRC010", "PRC011"] == [last.process_id, more.process_id]
    kept = model.repository.session_history(USER, session.session_id).processes
    assert ["PRC001", "PRC002", "PRC003", "PRC009", "PRC010", "PRC011"] == [each.process_id for each in kept]


def test_a_function_waits_for_one_round_trip(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call reads tool and health, and marks that it may write, at once; its step and itself are written later."""

    @model.tool(agent="finder")
    def search(q: str) -> str:
        return q

    with model.session(USER, "find a café"):
        search("a")
        model.settle()

        assert 1 == trips(model, monkeypatch, lambda: search("b"))


def test_a_decision_waits_for_failures_only(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each call it is asked which tools are failing; what succeeded cannot change that, a failure can."""
    failing = [False]

    @model.tool(agent="finder")
    def search(q: str) -> str:
        if failing[0]:
            raise TimeoutError
        return q

    flushed: list[float] = []
    flush = model._background.flush

    def counted(seconds: float) -> bool:
        flushed.append(seconds)
        return flush(seconds)

    with model.session(USER, "find a café"):
        search("a")
        model.settle()
        monkeypatch.setattr(model._background, "flush", counted)
        search("b")
        search("c")
        after_successes = len(flushed)
        failing[0] = True
        for _ in range(2):
            with pytest.raises(TimeoutError):
                search("d")

    assert 0 == after_successes
    assert 1 == len(flushed)


def test_one_session_of_many_is_found_by_its_source(model: AgentModel) -> None:
    """It is told from one whose request only quotes its name, before and after it is in the table."""
    names = [json.dumps(["cafés", name], ensure_ascii=False) for name in ("t1", 't"2', "t3")]
    for number, name in enumerate(names):
        quoted = names[(number + 1) % 3]
        at = datetime(2025, 6, 14, number, tzinfo=UTC)
        model.recorder.record(
            UserSession(
                user_id=USER, session_id=f"SESS{number}", name="s", request=quoted, source_id=name, started_at=at
            )
        )

    def found() -> list[Any]:
        each = [model.repository.session_of_source(USER, name) for name in [*names, "nobody's"]]
        return [None if session is None else session.session_id for session in each]

    before = found()
    model.drain()

    assert ["SESS0", "SESS1", "SESS2", None] == before == found()


def test_a_damaged_session_is_found_by_its_source(model: AgentModel) -> None:
    """Damage does not tell what a value held, so it is repaired first; a text that nothing can have finds nothing."""
    stored = UserSession(user_id=USER, session_id="SESS1", name="s", source_id="here", started_at=datetime.now(UTC))
    model.recorder.record(stored)
    valkey = model._valkey
    assert valkey is not None

    def found(kind: str) -> str | None:
        for key in valkey.scan(f"*:{kind}:{USER}"):
            valkey.execute(("HSET", key, "SESS1", "junk"))
        session = model.repository.session_of_source(USER, "here")
        return None if session is None else session.session_id

    waiting = found("p")
    model.drain()
    model.repository.sessions(USER)

    assert ["SESS1", "SESS1"] == [waiting, found("c")]
    assert model.repository.session_of_source(USER, "\ud800") is None


def test_a_run_with_nothing_to_compare_is_not_read(model: AgentModel) -> None:
    """The check of a run that ended reads its calls only where its category has successes."""
    caches = model._caches
    assert caches is not None

    with (
        model.session(USER, "find a café", category="cafe search") as session,
        session.process("look") as process,
        process.call("AGT001", "TL001"),
    ):
        pass
    model.settle()

    assert "session_history" not in caches.user_cache.patterns


class _Seen:
    """A message that counts how often its role is looked at."""

    def __init__(self, kind: str, content: str) -> None:
        self._kind, self.content, self.looks = kind, content, 0

    @property
    def type(self) -> str:
        self.looks += 1
        return self._kind


def test_the_last_request_is_looked_for_from_the_end() -> None:
    """Of a long conversation only what came after the last request is looked at."""
    messages = [_Seen("human", f"request {number}") for number in range(3)] + [_Seen("ai", "here you are")]

    assert "request 2" == last_request(messages)
    assert [0, 0, 1, 1] == [message.looks for message in messages]


def test_the_request_of_a_known_run_is_not_looked_for(model: AgentModel) -> None:
    """A recorder may hand over how to find the request: that is called once for a run."""
    requests = iter(["find a café", "find a bar"])
    with Tracker(model, domain="cafes") as tracker:
        runs = [tracker.run("t1", user="kim", request=lambda: next(requests)) for _ in range(3)]

    assert {"find a café"} == {run.request for run in runs}
    assert ["find a bar"] == list(requests)


def test_remembered_numbers_are_bounded() -> None:
    """However many calls a process records, it remembers the newest numbers only."""
    numbers = AttemptNumbers(max_families=3, max_numbers=5)

    for number in range(1, 21):
        numbers.remember("partition", ClaimedNumber("PRC", f"c{number}", number))
        numbers.remember("partition", ClaimedNumber(f"EXEC{number}", f"c{number}", 1))

    assert list(range(16, 21)) == list(numbers.of_family("partition", "PRC"))
    assert [0, 1] == [len(numbers.of_family("partition", f"EXEC{number}")) for number in (1, 20)]
