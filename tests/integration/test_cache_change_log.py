"""The log of changes: every process reads what it has not read yet, and a log that is damaged or gone is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from agentmodel.cache import ChangeLog, Position, Valkey
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable

PATIENT: dict[str, Any] = {"valkey_timeout": 5.0, "valkey_connect_timeout": 5.0}


@pytest.fixture
def valkey(either_url: str) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=either_url, **PATIENT)) as made:
        yield made


@pytest.fixture
def log(valkey: Valkey) -> ChangeLog:
    return ChangeLog(valkey, "things")


class Reader:
    """A process that keeps what it has read, and counts the rows that it reads."""

    def __init__(self, log: ChangeLog) -> None:
        self.log = log
        self.position: Position | None = None
        self.rows: dict[str, Any] = {}

    def read(self) -> int:
        count = 0
        for changes in self.log.read(self.position):
            self.position = changes.position
            self.rows = {**({} if changes.anew else self.rows), **changes.rows}
            count += len(changes.rows)
        self.rows = {name: value for name, value in self.rows.items() if value is not None}
        return count


def test_only_what_changed_is_read(log: ChangeLog) -> None:
    """A reader has all rows after its first read, reads nothing where nothing changed, and later the changes alone."""
    reader = Reader(log)
    rows = {f"row {n}": [n, "값"] for n in range(2_600)}
    log.rewrite(rows.items())
    read = [reader.read(), reader.read()]
    assert log.append({"row 7": None, "new": 1})
    read.append(reader.read())

    assert [2_600, 0, 2] == read
    assert {name: value for name, value in rows.items() if name != "row 7"} | {"new": 1} == reader.rows


def test_a_log_that_was_written_anew_is_read_from_its_start(log: ChangeLog) -> None:
    """Rows that a new log has no more are gone for a reader of the old one, without being taken back."""
    reader = Reader(log)
    log.rewrite([("old", 1), ("both", 1)])
    reader.read()
    log.rewrite([("both", 2)])
    reader.read()

    assert {"both": 2} == reader.rows


def test_no_log_is_not_an_empty_one(log: ChangeLog) -> None:
    """Nothing is yielded and nothing appended where no log was written; an empty log yields a part without rows."""
    nothing, appended = list(log.read()), log.append({"a": 1})
    log.rewrite([])
    empty = list(log.read())

    assert ([], False) == (nothing, appended)
    assert [(True, {}), (False, {})] == [(changes.anew, changes.rows) for changes in empty]


def test_erasing_leaves_no_byte(log: ChangeLog, valkey: Valkey) -> None:
    """An erasure writes the log anew without somebody's rows, those that were replaced or taken back included."""
    log.rewrite([("USRmina a", "secret"), ("USRmin b", "plain")])
    log.append({"USRmina a": None, "USRmina c": "secret"})
    erased = [log.erase(lambda name: name.startswith("USRmina ")) for _ in range(2)]
    rows = [name for changes in log.read() for name in changes.rows]

    assert [2, 0] == erased
    assert ["USRmin b"] == rows
    assert {log.key} == valkey.scan("am:log:*")


@pytest.mark.parametrize("entry", [{"other": "x"}, {"d": b"\xff"}, {"d": b"x\x9c\x03\x00\x00\x00\x00\x01"}])
def test_a_damaged_log_is_deleted(log: ChangeLog, valkey: Valkey, either_url: str, entry: dict[Any, Any]) -> None:
    """An entry that is none of ours raises, and there is no log afterwards."""
    log.rewrite([("a", 1)])
    with closing(redis.Redis.from_url(either_url.replace("valkey:", "redis:", 1))) as client:
        client.xadd(log.key, entry)

    with pytest.raises(CacheUnavailable, match="could not decode"):
        list(log.read())
    assert [] == list(log.read())


def test_another_type_under_the_key(log: ChangeLog, valkey: Valkey) -> None:
    """A key that is no stream is no log, and can be written anew."""
    valkey.execute(("SET", log.key, "x"))
    nothing = list(log.read())
    valkey.execute(("SET", log.key, "x"))
    log.rewrite([("a", 1)])

    assert [] == nothing
    assert {"a": 1} == {name: value for changes in log.read() for name, value in changes.rows.items()}
