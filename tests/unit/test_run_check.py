"""Runs compared with earlier ones: what is marked, what a guard asks about, and which step went wrong."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentmodel.suggest._run_check import WriteHistory, WrongStep, success_prior, varying_tools
from agentmodel.suggest.evaluate import ReplayedRun, WrongStepRow, runs_from_traces, wrong_steps
from agentmodel.suggest.evaluate._checks import _area, checks
from agentmodel.suggest.evaluate._replay import ReplayedCall

TRACES = Path(__file__).parents[2].parent / "shared" / "data" / "traces"


class Made(NamedTuple):
    """A call of a run."""

    tool: str
    arguments: str = "{}"
    succeeded: bool = True


PAY, PAY_9, REFUND = Made("pay", '{"amount":7}'), Made("pay", '{"amount":9}'), Made("refund")
READ, READ_FAILED, PAY_FAILED = Made("read"), Made("read", succeeded=False), Made("pay", '{"amount":7}', False)


def history(*runs: tuple[bool, list[Made]]) -> WriteHistory:
    """What is known after these runs; it must be the same after it was kept in a mapping."""
    found = WriteHistory.of(runs, ignored={"read"}, rate=0.5, whose="USR001")
    assert found == WriteHistory.unpacked(found.packed(), whose="USR001")
    return found


GOOD = (True, [READ, PAY])
KNOWN = history(GOOD, GOOD, (True, [PAY, PAY]), (False, [PAY_9, PAY]))


def test_a_run_is_compared_with_the_nearest_success() -> None:
    """Order, repetition and reads do not count; a call that failed wrote nothing."""
    assert [0, 0, 1, 1, 2, 1] == [
        KNOWN.check(calls).differs
        for calls in (
            [PAY],
            [PAY, READ, PAY, PAY_9._replace(succeeded=False)],
            [],
            [PAY_FAILED],
            [PAY_9],
            [PAY, REFUND],
        )
    ]
    assert [False, True] == [KNOWN.check(calls).suspect for calls in ([PAY], [PAY_9])]
    good, bad = (KNOWN.check(calls).chance or 0 for calls in ([PAY], [PAY_9]))
    assert bad < 0.2
    assert good > 0.8
    assert (KNOWN.check([PAY], agent=(50, 1)).chance or 1) < good


def test_without_repetition_nothing_is_marked() -> None:
    """Successes that all wrote something else say little, and the note says so; one success says nothing."""
    varied = history((True, [PAY]), (True, [PAY_9]), (True, [REFUND]))
    check = varied.check([Made("other")])

    assert (2, False) == (check.differs, check.suspect)
    assert check.note.endswith("that says little, because only 0% of them repeat another one's writes")
    single = history((True, [PAY])).check([PAY])
    assert (1, None, None, False) == (single.successes, single.differs, single.chance, single.suspect)
    assert "at least 2 are needed" in single.note


def test_why_a_person_is_asked_before_a_write() -> None:
    """A call of failed runs only, and a tool of no success; a call that nobody made is no sign, nor is one that reads."""
    assert "this call of pay was made in failed runs of this category only" == KNOWN.reason(*PAY_9[:2])
    assert "none of the 3 earlier successes of this category used refund" == KNOWN.reason("refund", "{}")
    assert [None] * 3 == [KNOWN.reason(*each) for each in (PAY[:2], ("pay", '{"amount":1}'), ("read", "{}"))]
    assert history((True, [PAY]), (False, [PAY_9])).reason(*PAY_9[:2]) is None


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([READ, REFUND, PAY_9], WrongStep("unexpected write", "refund", 2)),
        ([READ, PAY_FAILED, READ], WrongStep("missing write", "pay", 2)),
        ([READ], WrongStep("missing write", "pay")),
        ([READ_FAILED, PAY], WrongStep("error", "read", 1)),
        ([READ_FAILED, READ, PAY], WrongStep("unknown")),
    ],
)
def test_which_step_went_wrong(calls: list[Made], expected: WrongStep) -> None:
    """In this order: a write that no success made, one that all made, an error that stayed, else unknown."""
    assert expected == KNOWN.wrong_step(calls)


def test_texts_of_wrong_steps() -> None:
    """A wrong step reads as a phrase."""
    assert "step 2, unexpected write by `refund`" == str(WrongStep("unexpected write", "refund", 2))
    assert "missing write by `pay`" == str(WrongStep("missing write", "pay"))
    assert "unknown" == str(WrongStep("unknown"))


def test_tools_that_vary_are_learned() -> None:
    """A tool whose calls differ from success to success says nothing; one that repeats itself, or was seen little, does."""
    runs = [(True, [PAY, Made("note", str(n)), *([Made("rare", str(n))] if n < 3 else [])]) for n in range(5)]
    failed = [(False, [Made("pay", str(n))]) for n in range(9)]

    assert {"note"} == varying_tools([runs, failed])
    assert set() == varying_tools([runs], ignored={"note"})


@pytest.mark.parametrize("damaged", [{}, {"good": 1}, {"good": [[1]]}, {**KNOWN.packed(), "runs": "x"}])
def test_what_is_damaged_says_nothing(damaged: dict[str, Any]) -> None:
    """A mapping whose writes cannot be read is one without any."""
    assert WriteHistory(whose="USR001") == WriteHistory.unpacked(damaged, whose="USR001")


def test_digests_are_of_a_user() -> None:
    """Equal arguments of two users have different digests, and none is the arguments."""
    one, other = (WriteHistory(whose=user).digest(*PAY[:2]) for user in ("USR001", "USR002"))

    assert one != other
    assert all(len("pay:") + 16 == len(each) and each.startswith("pay:") for each in (one, other))


def test_the_prior_is_that_of_agent_and_category() -> None:
    """Without runs it is the rate of the domain; an agent that fails and a category that succeeds pull it."""
    assert 0 == success_prior(0.5, (0, 0), (0, 0))
    assert success_prior(0.5, (9, 1), (0, 0)) < 0 < success_prior(0.5, (0, 0), (9, 8))
    assert success_prior(0.0) == pytest.approx(-success_prior(1.0))


def test_the_area_counts_pairs_in_the_right_order() -> None:
    """Half a pair for equal chances; nothing without both."""
    assert (1.0, 0.0, 0.5) == (_area([0.1], [0.2]), _area([0.2], [0.1]), _area([0.1], [0.1]))
    assert _area([0.1, 0.3], [0.2, 0.3, 0.9]) == pytest.approx(4.5 / 6)
    assert _area([], [0.1]) is None


# Generated histories with one planted fault in each failed session


def generated(seed: int) -> tuple[list[ReplayedRun], list[tuple[str, int | None]]]:
    """A history of one category, and the planted tool and step of each of its failed runs, in order."""
    draw = random.Random(seed)  # noqa: S311  # a history, no secret
    writes = [(f"write_{n}", f'{{"id":{draw.randrange(1000)}}}') for n in range(draw.randint(1, 4))]
    ways = [writes, [*writes, ("write_also", "{}")]] if draw.random() < 0.3 else [writes]  # that are both right
    runs, planted = [], []
    successes = draw.randint(1, 8)
    for number in range(successes + draw.randint(1, 4)):
        calls = [ReplayedCall(*write, succeeded=True) for write in draw.choice(ways)]
        for _ in range(draw.randint(0, 4)):  # reads; some fail and are tried again, and some of these for nothing
            at, failed, given_up = draw.randint(0, len(calls)), draw.random() < 0.2, draw.random() < 0.2
            tries = [False] * failed + [True] * (not (failed and given_up))
            calls[at:at] = [ReplayedCall(f"get_{draw.randrange(4)}", "{}", succeeded) for succeeded in tries]
        calls.insert(draw.randint(0, len(calls)), ReplayedCall("note", f'"{draw.random()}"', succeeded=True))
        fails = number >= successes
        if fails:
            planted.append(plant(calls, draw))
        runs.append(ReplayedRun("d", "a", "u", f"c{seed}", None, (), not fails, calls=tuple(calls)))
    return runs, planted


def plant(calls: list[ReplayedCall], draw: random.Random) -> tuple[str, int | None]:
    """Put one fault into the calls; return its tool and step."""
    at = draw.choice(
        [n for n, call in enumerate(calls) if call.tool.startswith("write_") and call.tool != "write_also"]
    )
    fault = draw.choice(["arguments", "extra", "missing", "failed write", "failed read"] * 4 + ["not recorded"])
    if fault == "arguments":
        calls[at] = ReplayedCall(calls[at].tool, '{"id":"wrong"}', succeeded=True)
    elif fault == "extra":
        calls.insert(at, ReplayedCall("stray", '{"id":1}', succeeded=True))
    elif fault == "missing":
        return calls.pop(at).tool, None
    elif fault == "not recorded":  # such as a wrong answer to the user
        return "nothing that is recorded", None
    elif fault == "failed write":
        calls[at] = ReplayedCall(calls[at].tool, calls[at].arguments, succeeded=False)
    else:
        calls.append(ReplayedCall("get_price", "{}", succeeded=False))
        at = len(calls) - 1
    return calls[at].tool, at + 1


def test_planted_faults_are_named() -> None:
    """With one planted fault a session, its step is named in at least 80 %, and a wrong one in at most 5 %."""
    found: Counter[str] = Counter()
    categories = [generated(seed) for seed in range(150)]
    known = [[(run.succeeded, run.calls) for run in runs] for runs, _ in categories]
    ignored = varying_tools(known, ignored={f"get_{n}" for n in range(4)}) | {f"get_{n}" for n in range(4)}
    for runs, planted in categories:
        earlier = WriteHistory.of([(r.succeeded, r.calls) for r in runs if r.succeeded], ignored=ignored, rate=0.6)
        failed = [run for run in runs if not run.succeeded]
        for run, (tool, step) in zip(failed, planted, strict=True):
            answer = earlier.wrong_step(run.calls)
            right = (answer.tool, answer.step) == (tool, step)
            found["right" if right else "unknown" if answer.answer == "unknown" else "wrong"] += 1

    assert {"note"} == ignored - {f"get_{n}" for n in range(4)}
    assert found.total() > 200
    assert found["right"] >= 0.8 * found.total()
    assert found["wrong"] <= 0.05 * found.total()


def test_wrong_steps_are_counted_by_category() -> None:
    """The report has each category's answers with the number of runs."""
    runs = [run for seed in range(3) for run in generated(seed)[0]]
    rows = wrong_steps(runs, read_only=["get_*"])

    assert sum(not run.succeeded for run in runs) == sum(row.runs for row in rows)
    assert {run.category for run in runs if not run.succeeded} == {row.category for row in rows}
    assert all(isinstance(row, WrongStepRow) and (row.tool != "") == (row.answer != "unknown") for row in rows)


# Real runs


def test_failed_real_runs_are_told_when_they_end() -> None:
    """In retail, learning from earlier runs only: AUC at least .90, at most 8 % false alarms; over all domains too."""
    files = sorted(TRACES.glob("*.jsonl.gz"))
    if not files:
        pytest.skip("the real traces are not beside this checkout")
    reads = ["get_*", "find_*", "list_*", "search_*", "check_*", "verify_*", "can_*", "fetch_*", "run_speed_test",
             "think", "calculate", "GET *"]  # fmt: skip
    rows = {row.domain: row for row in checks(runs_from_traces(files), read_only=reads)}
    successes = sum(row.compared - row.failed for row in rows.values())

    assert (rows["retail"].auc or 0) >= 0.90
    assert rows["retail"].false_alarms <= 0.08
    assert sum(row.marked - row.right for row in rows.values()) <= 0.08 * successes
    assert sum(row.asked_right for row in rows.values()) >= 0.9 * sum(row.asked for row in rows.values())
