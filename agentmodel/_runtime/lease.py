"""Leases: of several processes or threads that would do the same work, one does it; the others wait or say who does.

    with hold(store, "refresh", doing="refresh", wait=60) as lease:
        ...            # renewed in the background every 10 seconds
        lease.check()  # before a commit: raises if the lease went to another holder meanwhile

A lease is a row of the warehouse or an item of the table, wherever the work is done. Each holder gets a greater token
than the one before it. The lease of a killed process ends by itself, `SECONDS` after it was last renewed. A holder that
stood still for longer may have lost it, so it checks the token before each commit. Clocks of hosts may differ: then a
lease ends earlier or later, and the token still decides who commits.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from agentmodel._log import logger
from agentmodel.exceptions import AgentModelError, LeaseHeld, ValidationError

__all__ = ["SECONDS", "WAIT", "Lease", "LeaseState", "LeaseStore", "hold", "is_of_this_process"]

SECONDS = 30.0
"""Seconds for which a lease holds unless it is renewed, which is done three times as often."""

WAIT: Final = 60.0
"""Seconds for which a lease is waited for by default: longer than that of a killed process holds."""

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.02, 1.0, 1.5  # seconds between two looks at a lease that another holds

_log = logger(__name__)
_START = secrets.token_hex(4)  # tells processes with the same number apart
_held: set[str] = set()  # the owners of this process that are at work


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What a store keeps of a lease.

    Attributes:
        token: Grows with each holder.
        owner: Identifies the holder; empty after it has released the lease.
        holder: What it does and which process it is, for people.
        since: When it took the lease.
        until: When the lease ends unless it is renewed.
    """

    token: int
    owner: str
    holder: str
    since: datetime
    until: datetime

    @property
    def is_free(self) -> bool:
        """Return whether another may take the lease: it was released, it ended, or this process left it behind."""
        left_behind = is_of_this_process(self.owner) and self.owner not in _held
        return not self.owner or left_behind or self.until <= datetime.now(UTC)


class LeaseStore(Protocol):
    """Where leases are kept. Each method is one atomic step; `take` and `renew` return what is stored after it."""

    def take(self, name: str, wanted: LeaseState) -> LeaseState:
        """Store ``wanted`` with the next token, unless another holds the lease."""
        ...

    def renew(self, name: str, held: LeaseState) -> LeaseState:
        """Store ``held.until``, unless the lease has another token."""
        ...

    def release(self, name: str, held: LeaseState) -> None:
        """Let others take the lease, unless it has another token."""
        ...


def is_of_this_process(owner: str) -> bool:
    """Return whether a holder is or was a thread of this process."""
    return owner.startswith(_process())


def _process() -> str:
    return f"{_START}-{os.getpid()}-"


class Lease:
    """A lease that is held; made by `hold`.

    Attributes:
        name: Its name.
        state: The lease as it was last stored.
    """

    def __init__(self, store: LeaseStore, name: str, state: LeaseState) -> None:
        self.name = name
        self.state = state
        self._store = store

    @property
    def token(self) -> int:
        """Return the token, which is greater than that of every holder before."""
        return self.state.token

    def check(self, *, age: float = 0.0) -> None:
        """Renew the lease; call it before a commit.

        Args:
            age: Seconds since it was last renewed, up to which the store is not asked again.

        Raises:
            LeaseHeld: Another holder has taken it; what was not committed must not be.
            Unavailable: The store does not answer.
        """
        if (self.state.until - datetime.now(UTC)).total_seconds() > SECONDS - age:
            return
        found = self._store.renew(self.name, replace(self.state, until=_end()))
        if found.token != self.token:
            raise LeaseHeld(
                f"{self.state.holder} lost the lease `{self.name}` to {found.holder}, which has held it since "
                f"{_shown(found.since)}, because it was not renewed for {SECONDS:g} s: its last step was not kept; run "
                "it again",
                self.name,
                found.holder,
                found.since,
            )
        self.state = found

    def checked(self, progress: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
        """Return a progress callback that also checks the lease, where it was not renewed lately."""

        def check_first(what: str, done: int, of: int) -> None:
            self.check(age=SECONDS / 2)
            progress(what, done, of)

        return check_first

    def release(self) -> None:
        """Let others take the lease at once; where the store does not answer, they wait until it ends."""
        try:
            self._store.release(self.name, self.state)
        except AgentModelError as error:
            _log.warning("lease.kept: lease `%s` holds until %s: %s", self.name, _shown(self.state.until), error)


@contextmanager
def hold(store: LeaseStore, name: str, *, doing: str, wait: float = WAIT) -> Iterator[Lease]:
    """Hold a lease for a block, and renew it in the background.

    Args:
        store: Where the lease is kept.
        name: Its name.
        doing: What is done, for whoever has to wait.
        wait: Seconds to wait for another holder; 0 does not wait.

    Raises:
        ValidationError: ``wait`` is no number from 0 up.
        LeaseHeld: Another holds it for longer.
        Unavailable: The store does not answer.
    """
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait < math.inf:
        raise ValidationError("wait", wait, "must be a number of seconds from 0 up, such as 60")
    owner, process = f"{_process()}{secrets.token_hex(4)}", os.getpid()
    _held.add(owner)
    done = threading.Event()
    try:
        lease = Lease(store, name, _wait_for(store, name, owner, doing, wait))
        renewing = threading.Thread(target=_renew, args=(lease, done), name=f"agentmodel-lease-{name}", daemon=True)
        renewing.start()
        try:
            yield lease
        finally:
            if os.getpid() == process:  # a forked child has neither the thread nor the lease
                done.set()
                renewing.join()
                lease.release()
    finally:
        _held.discard(owner)


def _wait_for(store: LeaseStore, name: str, owner: str, doing: str, wait: float) -> LeaseState:
    """Take a lease, waiting for it; return it as it is stored."""
    end, pause = time.monotonic() + wait, _FIRST_PAUSE
    while True:
        holder = f"{doing} (process {os.getpid()} on {socket.gethostname()})"
        found = store.take(name, LeaseState(0, owner, holder, datetime.now(UTC), _end()))
        if found.owner == owner:
            return found
        remaining = end - time.monotonic()
        if remaining <= 0:
            raise LeaseHeld(
                f"{doing} was not begun: {found.holder} has held the lease `{name}` since {_shown(found.since)}; wait "
                f"until that has ended, or wait longer than {wait:g} s (wait=, --wait); if it was killed, its lease "
                f"ends at {_shown(found.until)}",
                name,
                found.holder,
                found.since,
            )
        time.sleep(min(pause, remaining))
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def _renew(lease: Lease, done: threading.Event) -> None:
    """Renew a lease until its block has ended or it is lost, which the holder's next check reports."""
    while not done.wait(SECONDS / 3):
        try:
            lease.check()
        except LeaseHeld:
            return
        except AgentModelError as error:
            _log.warning("lease.not_renewed: lease `%s` was not renewed: %s", lease.name, error)


def _end() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=SECONDS)


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
