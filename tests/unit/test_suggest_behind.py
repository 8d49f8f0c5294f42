"""Learning behind the back of who records: nothing dropped, nothing raised, everything there when it is asked for."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from agentmodel.exceptions import TableUnavailable
from agentmodel.suggest.behind import Behind

NEVER = 3600.0
"""A linger so long that only `settle` and `close` bring anything about."""


class Learner:
    """Notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.threads: set[int] = set()

    def learn(self, things: Sequence[Any]) -> None:
        self.calls.append(list(things))
        self.threads.add(threading.get_ident())


@pytest.fixture
def behind() -> Iterator[Behind]:
    made = Behind(linger=NEVER)
    yield made
    made.close()


def test_it_is_done_in_a_moment() -> None:
    """What was put is learnt by another thread without anybody asking."""
    done, learner = threading.Event(), Learner()
    behind = Behind(linger=0.0)

    def learn(things: Sequence[Any]) -> None:
        learner.learn(things)
        done.set()

    behind.put(learn, [1, 2])
    in_time = done.wait(20)
    behind.close()

    assert in_time
    assert [[1, 2]] == learner.calls
    assert threading.get_ident() not in learner.threads


def test_what_waits_is_learnt_at_once(behind: Behind) -> None:
    """Things that were put one by one are handed over together, in order, each to its own learner."""
    one, other = Learner(), Learner()
    for n in range(3):
        behind.put(one.learn, [n])
        behind.put(other.learn, [-n])
    behind.put(one.learn, [])
    behind.settle()
    behind.settle()

    assert [[0, 1, 2]] == one.calls
    assert [[0, -1, -2]] == other.calls


def test_when_it_is_full_who_puts_does_the_work() -> None:
    """Nothing is dropped at the bound: the caller learns everything that waits, and goes on."""
    learner, behind = Learner(), Behind(linger=NEVER, most=3)
    for n in range(10):
        behind.put(learner.learn, [n])
    before = list(learner.calls)
    behind.close()

    assert [[0, 1, 2, 3], [4, 5, 6, 7]] == before
    assert [8, 9] == learner.calls[-1]
    assert {threading.get_ident()} == learner.threads or 2 == len(learner.threads)


def test_many_threads_lose_nothing() -> None:
    """Everything that several threads put is learnt exactly once."""
    learner, behind = Learner(), Behind(linger=0.0, most=50)

    def put(thread: int) -> None:
        for n in range(500):
            behind.put(learner.learn, [(thread, n)])

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    behind.close()
    learnt = [thing for call in learner.calls for thing in call]

    assert [(thread, n) for thread in range(4) for n in range(500)] == sorted(learnt)
    assert all([n for t, n in learnt if t == thread] == list(range(500)) for thread in range(4))


def test_errors_reach_nobody(behind: Behind, caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong is logged, and the other learners learn all the same."""
    learner = Learner()

    def down(things: Sequence[Any]) -> None:
        raise TableUnavailable("no table")

    def wrong(things: Sequence[Any]) -> None:
        raise KeyError("wrong")

    for learn in (down, wrong, learner.learn):
        behind.put(learn, [1])
    behind.settle()

    assert [[1]] == learner.calls
    assert [
        "1 records were kept, but not everybody learnt of them: no table",
        "1 records were kept, but learning from them failed",
    ] == caplog.messages


def test_a_learner_may_put_and_settle(behind: Behind) -> None:
    """Who learns may record, and read what settles first, without waiting for itself."""
    learner = Learner()

    def learn(things: Sequence[Any]) -> None:
        behind.put(learner.learn, things)
        behind.settle()

    behind.put(learn, [1])
    behind.settle()
    before = list(learner.calls)
    behind.settle()

    assert ([], [[1]]) == (before, learner.calls)


def test_closed_it_learns_at_once(behind: Behind) -> None:
    """What is put after the end is learnt by who puts it, each time."""
    learner = Learner()
    behind.close()
    behind.put(learner.learn, [1])
    behind.put(learner.learn, [2])

    assert [[1], [2]] == learner.calls


@pytest.mark.parametrize(
    ("end", "told"),
    [("", "[1]\n"), ("if os.fork() == 0: behind.close(); os._exit(0)\nos.wait()", "[1]\n")],
    ids=["without closing", "after a fork"],
)
def test_at_the_end_of_a_process(end: str, told: str) -> None:
    """What waits is learnt once when the interpreter ends unclosed, and not by a forked child as well."""
    script = f"""
import os
from agentmodel.suggest.behind import Behind
behind = Behind(linger=0.5)
behind.put(lambda things: print(things, flush=True), [1])
{end}
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )

    assert (told, "") == (done.stdout, done.stderr)
