"""Commands that are sent ahead, in one round trip: each answer is used once, by the thread that asked for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from agentmodel.cache import Valkey
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable

A, B = ("GET", "a"), ("GET", "b")


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=valkey_url, valkey_timeout=5.0, valkey_connect_timeout=5.0)) as made:
        made.execute_many([("SET", "a", "1"), ("SET", "b", "2")])
        yield made


def test_what_was_sent_ahead_is_not_sent_again(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads in the block are answered without a round trip, once each; later ones, and those after it, ask again."""
    sent: list[Sequence[Any]] = []
    attempt = valkey.try_many

    def counted(commands: Sequence[Any]) -> Any:
        sent.append(list(commands))
        return attempt(commands)

    monkeypatch.setattr(valkey, "try_many", counted)
    with valkey.prefetched([A, B, A]):
        found = [valkey.execute_many([A, B])]
        attempt([("SET", "a", "3")])
        found.append(valkey.execute_many([A]))
    with valkey.prefetched([B]):
        pass
    found.append(valkey.execute_many([B]))

    assert [[b"1", b"2"], [b"3"], [b"2"]] == found
    assert [[A, B], [A], [B], [B]] == sent


def test_another_thread_asks_for_itself(valkey: Valkey) -> None:
    """An answer that was sent for ahead is not given to another thread."""
    found: list[Any] = []
    with valkey.prefetched([A]):
        valkey.try_many([("SET", "a", "9")])
        other = threading.Thread(target=lambda: found.append(valkey.execute(A)))
        other.start()
        other.join()
        found.append(valkey.execute(A))

    assert [b"9", b"1"] == found


def test_a_rejected_command_is_the_error_of_who_reads(valkey: Valkey) -> None:
    """A command that Valkey rejects raises where its answer is read, and not where it is sent ahead."""
    wrong = ("GET", "a", "too", "many")
    with valkey.prefetched([wrong, A]):
        assert b"1" == valkey.execute(A)
        with pytest.raises(CacheUnavailable, match="rejected GET"):
            valkey.execute(wrong)


def test_without_valkey_the_reads_find_out(valkey: Valkey) -> None:
    """Where Valkey does not answer, sending ahead raises nothing, and the reads raise as they do without it."""
    valkey.close()
    with valkey.prefetched([A]), pytest.raises(CacheUnavailable, match="is closed"):
        valkey.execute(A)
