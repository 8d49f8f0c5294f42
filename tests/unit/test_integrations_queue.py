"""The recorders' queue: in order, in batches, bounded, and never failing who puts something."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from agentmodel.integrations._queue import MOST, EventQueue


class Diary:
    """What a queue did."""

    def __init__(self, **options: Any) -> None:
        self.done: list[Any] = []
        self.failures: list[str] = []
        self.queue = EventQueue(
            lambda: self.done.append("commit"), self.failures.append, **({"most": 10_000, "linger": 60.0} | options)
        )

    def act(self, thing: object) -> Callable[[], None]:
        """Something to be done."""
        return lambda: self.done.append(thing)


def broken() -> None:
    """What fails."""
    raise ValueError("no")


def test_flush_does_all_in_order_at_once() -> None:
    """A flush does not linger: everything put before it is done, in its order, and committed once."""
    diary = Diary()
    for number in range(5):
        diary.queue.put("number", diary.act(number))

    assert diary.queue.flush(30)
    assert [0, 1, 2, 3, 4, "commit"] == diary.done
    diary.queue.close()


def test_batches_are_bounded() -> None:
    """Of many events so many are committed at once, and that many are not lingered for."""
    diary, first = Diary(), threading.Event()
    for number in range(MOST):
        diary.queue.put("number", first.set if number == MOST - 1 else diary.act(number))
    assert first.wait(30)
    for number in range(MOST + 1):
        diary.queue.put("number", diary.act(number))
    diary.queue.close()

    commits = [place for place, thing in enumerate(diary.done) if thing == "commit"]
    assert [MOST - 1, 2 * MOST, 2 * MOST + 2] == commits


def test_events_are_done_without_a_flush() -> None:
    """What is put is done after the linger, though nobody asks for it."""
    diary, done = Diary(linger=0.001), threading.Event()
    diary.queue.put("event", done.set)

    assert done.wait(30)
    diary.queue.close()


def test_failures_are_told_and_lose_nothing_else() -> None:
    """An event that fails is told, and its neighbours are done; so is a commit that fails."""
    diary = Diary()
    failing = EventQueue(broken, diary.failures.append, most=10, linger=60.0)
    for what, act in (("one", diary.act(1)), ("two", broken), ("three", diary.act(3))):
        failing.put(what, act)
    failing.close()
    diary.queue.close()

    assert [1, 3] == diary.done
    assert ["two", "3 events"] == diary.failures


def test_bound_and_end() -> None:
    """For what has no place, or comes after the end, the answer is no; a flush of a closed queue has nothing to do."""
    diary = Diary(most=2)
    taken = [diary.queue.put("event", diary.act(number)) for number in range(3)]
    diary.queue.close()
    diary.queue.close()

    assert [True, True, False] == taken
    assert not diary.queue.put("late", diary.act("late"))
    assert [0, 1, "commit"] == diary.done
    assert diary.queue.flush(30)


def test_flush_gives_up() -> None:
    """A flush tells when what was put is not done in time."""
    diary, held = Diary(), threading.Event()

    def hold() -> None:
        held.wait()

    diary.queue.put("held", hold)

    assert not diary.queue.flush(0.001)
    held.set()
    diary.queue.close()
