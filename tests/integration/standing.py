"""Work that stands still in the middle, as that of a process that was paused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest

from agentmodel._runtime import lease as leases

Progress = Callable[[str, int, int], None]


@contextmanager
def stopped(work: Callable[[Progress], Any], at: str | None = None) -> Iterator[Future[Any]]:
    """Have a thread do some work and stand still in it; it goes on after the block, and the outcome is its future."""
    standing, go_on = Event(), Event()

    def stand(name: str, _done: int, _of: int) -> None:
        if at in (None, name) and not standing.is_set():
            standing.set()
            assert go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(work, stand)
        assert standing.wait(60)
        try:
            yield outcome
        finally:
            go_on.set()


@contextmanager
def never_renewed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leases that are taken in the block end at once and are not renewed, as those of a process that stands still."""
    with monkeypatch.context() as patch:
        patch.setattr(leases, "SECONDS", -1.0)
        patch.setattr(leases, "_renew", lambda *_: None)
        yield
