"""Each fault has a mutant, the same code with one safeguard taken out, under which the fault's own test fails.

Those of a fork, a loss of power, drains and mixed processes are beside their tests, since they need other processes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel._runtime.circuit_breaker import CircuitBreaker
from agentmodel._runtime.lease import LeaseState
from agentmodel._values import text
from agentmodel.access import _history_writer
from agentmodel.access.repository import Repository
from agentmodel.aio import AsyncRecorder
from agentmodel.cache import Valkey
from agentmodel.cache import _read_through as read_through
from agentmodel.embedded._table_log import TableLog
from agentmodel.exceptions import TableUnavailable
from agentmodel.integrations._tracking.attempts import Attempts
from agentmodel.suggest.plan import SuggestionLog
from tests.hostile import HOSTILE
from tests.integration import (
    test_aio,
    test_damaged_values,
    test_leases,
    test_reads_in_outage,
    test_recorder,
    test_table_away,
)
from tests.integration.integrations import test_calls
from tests.integration.suggest_world import catalogue
from tests.integration.test_damaged_values import installation, lived, server  # noqa: F401  # fixtures
from tests.integration.test_embedded_faults import TestFullDisk as FullDisk

Get = Callable[[str], Any]
"""Returns a fixture by its name."""


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model whose table exists."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        yield model


def bound_to_one_loop(patch: pytest.MonkeyPatch) -> None:
    """A recorder that works in the event loop of its first record only, as locks and queues of asyncio do."""
    record, loops = AsyncRecorder.record, list[Any]()

    async def bound(self: Any, entity: Any) -> Any:
        loops.append(asyncio.get_running_loop())
        if loops[0] is not loops[-1]:
            raise RuntimeError("bound to a different event loop")
        return await record(self, entity)

    patch.setattr(AsyncRecorder, "record", bound)


def rejections_are_raised(patch: pytest.MonkeyPatch) -> None:
    """What Valkey rejects is an error of the caller, not a reason to go to the table."""
    patch.setattr(Valkey, "_rejected", lambda _, __, error: RuntimeError(str(error)))


def always_complete(patch: pytest.MonkeyPatch) -> None:
    """Reads do not say that records may be missing."""
    read = Repository._whole_partition
    patch.setattr(Repository, "_whole_partition", lambda *given, **named: (read(*given, **named)[0], True))


def no_breaker(patch: pytest.MonkeyPatch) -> None:
    """Every call is made."""
    patch.setattr(CircuitBreaker, "allows", lambda _: True)


def outcomes_are_lost(patch: pytest.MonkeyPatch) -> None:
    """A drain does not write the outcomes that could not be written."""
    patch.setattr(SuggestionLog, "learn_drained", lambda *_: None)


def leases_exclude_nobody(patch: pytest.MonkeyPatch) -> None:
    """A lease may always be taken."""
    patch.setattr(LeaseState, "is_free", True)


def plain_json(patch: pytest.MonkeyPatch) -> None:
    """Values become text by `json.dumps` alone."""
    patch.setattr(text, "_json", lambda value, _: json.dumps(value))


def an_id_is_one_call(patch: pytest.MonkeyPatch) -> None:
    """An id that ended and is asked for again is the same call."""
    patch.setattr(Attempts, "ask", lambda _, call_id, *_scope: call_id)


def junk_is_read(patch: pytest.MonkeyPatch) -> None:
    """A cached value that does not decode is an error of its reader."""
    content = read_through._content

    def taken(kind: bytes, payload: bytes) -> Any:
        found = content(kind, payload)
        if found is None and kind != read_through._NONE:
            raise ValueError("cannot be decoded")
        return found

    patch.setattr(read_through, "_content", taken)


def no_size_limit(patch: pytest.MonkeyPatch) -> None:
    """Items of any size go into the journal."""
    patch.setattr(_history_writer, "checked", lambda item: item)


def full_disks_are_ignored(patch: pytest.MonkeyPatch) -> None:
    """A change that the disk did not take is acknowledged."""
    append = TableLog.append

    def acknowledged(self: TableLog, changes: list[dict[str, Any]]) -> None:
        try:
            append(self, changes)
        except OSError:
            self._waiting = b""

    patch.setattr(TableLog, "append", acknowledged)


def valkey_paused(get: Get) -> None:
    """Read a list while Valkey is paused."""
    settings, folder = get("settings"), get("tmp_path")
    with closing(test_reads_in_outage.PausedServer(folder / "valkey")) as paused:
        changed = {"valkey_url": paused.url, "valkey_timeout": 0.1}
        with AgentModel.from_settings(settings.model_copy(update=changed)) as model:
            model.table.create()
            test_reads_in_outage.test_a_list_says_that_it_may_be_incomplete(model, paused, "session_history")


def publish_beside_others(get: Get) -> None:
    """Publish while another process does."""
    catalogue(get("model"))
    test_leases.test_a_publish_says_who_publishes(get("model"), get("settings"))


def outcome_in_an_outage(get: Get) -> None:
    """End a session that followed a plan while the table is away."""
    with AgentModel.from_settings(get("settings")) as far:
        given = get("away_settings"), far, get("endpoint"), get("caplog")
        test_table_away.TestSuggestions().test_the_outcome_is_written_by_the_drain(*given)


def hostile_values(get: Get) -> None:
    """Turn values into text that have none."""
    for value in HOSTILE.values():
        assert text.storable_text(value)


MUTANTS: dict[
    str,
    tuple[
        Callable[[pytest.MonkeyPatch], None],
        Callable[[Get], None],
        type[BaseException] | tuple[type[BaseException], ...],
        str,
    ],
] = {
    "event loops": (
        bound_to_one_loop,
        lambda get: test_aio.test_each_event_loop_writes_its_own_records(get("model")),
        RuntimeError,
        "bound to a different event loop",
    ),
    "Valkey full": (
        rejections_are_raised,
        lambda get: test_recorder.test_valkey_at_its_memory_limit(get("model"), None),
        RuntimeError,
        "maxmemory",
    ),
    "Valkey paused": (always_complete, valkey_paused, AssertionError, "False"),
    "table away or hanging": (
        no_breaker,
        lambda get: test_table_away.TestBreaker().test_first_call_meets_the_fault_and_the_others_are_not_made(
            get("away_model"), get("endpoint"), "refuses"
        ),
        TableUnavailable,
        "did not answer",
    ),
    "table away or hanging, suggest": (outcomes_are_lost, outcome_in_an_outage, AssertionError, "None"),
    "two at once": (leases_exclude_nobody, publish_beside_others, pytest.fail.Exception, "DID NOT RAISE"),
    "values without text": (plain_json, hostile_values, (TypeError, ValueError), "JSON"),
    "foreign ids": (
        an_id_is_one_call,
        lambda get: test_calls.test_a_reused_id_is_a_new_call(get("model"), ("",)),
        AssertionError,
        "call_number|search",
    ),
    "damaged values": (
        junk_is_read,
        lambda get: test_damaged_values.test_junk_in_every_value(get("lived"), get("server"), "empty", get("caplog")),
        ValueError,
        "cannot be decoded",
    ),
    "limits": (
        no_size_limit,
        lambda get: test_recorder.test_what_cannot_be_stored_is_refused_before_anything_is_sent(
            get("model"), "x" * 410_000, "ResultMsg"
        ),
        pytest.fail.Exception,
        "DID NOT RAISE",
    ),
    "full disk": (
        full_disks_are_ignored,
        lambda get: FullDisk().test_refused_change_is_kept_before_it_is_acknowledged(
            Path(get("tmp_path")) / "stack", get("monkeypatch")
        ),
        pytest.fail.Exception,
        "DID NOT RAISE",
    ),
}


@pytest.mark.parametrize("fault", MUTANTS)
def test_the_mutant_is_caught(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """With its safeguard taken out, the fault's test fails, and by what the safeguard is for."""
    mutate, check, failure, says = MUTANTS[fault]
    if fault == "damaged values":
        request.getfixturevalue("lived")  # before the fault
    with monkeypatch.context() as patch:
        mutate(patch)
        with pytest.raises(failure, match=says):
            check(request.getfixturevalue)
