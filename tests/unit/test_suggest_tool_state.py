"""The health of one tool by itself: whose calls count for whom, and what is stored of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.dynamo.models import Tool
from agentmodel.suggest._types import ToolRef
from agentmodel.suggest.health._cusum import Cusum
from agentmodel.suggest.health._cusum_table import TABLE
from agentmodel.suggest.health._tool_state import (
    FailingPeriod,
    Observation,
    ToolState,
    _bounded,
    counted_user,
    failing_periods,
)

REF = ToolRef("AGT001", "TL002")
USER, OTHER = "USR001", "USR002"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def fed(state: ToolState, outcomes: str, user: str | None, at: datetime = AT) -> ToolState:
    for outcome in outcomes:
        state = state.after(REF, Observation(at, outcome == "x", user))
    return state


@pytest.mark.parametrize("row", range(0, len(TABLE), 20))
def test_at_no_failure_rate_one_user_decides(row: int) -> None:
    """Whatever share of healthy calls fails, one user's failures never open a tool for all, and two users' do."""
    share = TABLE[row].baseline * 0.98
    healthy = ToolState(Cusum(calls=100_000.0, failures=100_000.0 * share))
    one = fed(healthy, "x" * 500, USER)

    assert 0 == one.everybody.opened
    assert "open" == one.of(REF, USER, AT).state(AT)
    assert 1 == fed(one, "x" * 500, OTHER).everybody.opened
    assert 0 < fed(fed(healthy, "x" * 500, None), "", USER).everybody.opened


def test_no_failure_is_an_alarm_by_itself() -> None:
    """One failure is less than an alarm at every failure rate, so that no first failure of a user decides."""
    assert all(limits.failure < limits.threshold for limits in TABLE)


def test_a_state_stays_small() -> None:
    """A thousand users whose calls fail now and then take no more room than fifty."""
    state = ToolState(Cusum(calls=100_000.0, failures=50_000.0))
    for n in range(1000):
        state = fed(state, "x" if n % 3 else ".", f"USR{n}")
    for n in range(200):
        state = fed(state, "x" * 60, f"USR{n}") if not state.everybody.opened else state

    assert 50 >= len(state.users)
    assert 6000 > len(state.as_text())
    assert state == ToolState.from_text(state.as_text())


def test_version_0_1_0_reads_the_state_for_everybody() -> None:
    """What follows the first blank is what that version wrote there, so that old and new processes work side by side."""
    state = fed(ToolState(Cusum(calls=40.0)), "xxx", USER)
    _, _, old = state.as_text().partition(" ")

    assert 1 == len(state.users)
    assert state.everybody == Cusum.from_dict(json.loads(old))
    assert '"users"' not in old


def test_the_table_has_the_baseline() -> None:
    """A tool that is known from the table alone keeps the counts of the last publish, whether it is failing or not."""
    tool = Tool(agent_id=REF.agent_id, tool_id=REF.tool_id, domain_id="DMN001", name="search", calls=1000, errors=300)
    closed = ToolState.from_table(tool).everybody
    tool.health, tool.health_since, tool.health_until = "open", AT, AT + timedelta(hours=1)
    opened = ToolState.from_table(tool).everybody

    assert Cusum(calls=1000.0, failures=300.0) == closed
    assert Cusum(calls=1000.0, failures=300.0, opened=1, began=AT.timestamp(), until=AT.timestamp() + 3600) == opened
    assert (AT, AT + timedelta(hours=1)) == (opened.since, opened.half_open_at)
    assert "its last calls failed" == opened.note, "how many they were is not in the table"


# At 40 healthy calls a failure adds 38, a success takes 3, and 94 is an alarm; the share of one user ends at 47.
HEALTHY = ToolState(Cusum(calls=40.0))


def test_the_share_of_one_user_is_half_an_alarm() -> None:
    """A user's failures add to the sum of all until they are half of an alarm, and then count for the user alone."""
    one, two, three = (fed(HEALTHY, "x" * count, USER) for count in (1, 2, 3))

    assert [38, 47, 47] == [state.everybody.sum for state in (one, two, three)]
    assert [38, 47, 47] == [next(iter(state.users.values())).share for state in (one, two, three)]
    assert two.everybody == three.everybody
    assert [0, 0, 1] == [next(iter(state.users.values())).opened for state in (one, two, three)]


def test_what_holds_for_whom() -> None:
    """A user's own state holds for that user while it is open and that of all is not, with the usual rate of all."""
    state = fed(HEALTHY, "xxx", USER)
    later = AT + timedelta(hours=1)
    own = state.of(REF, USER, AT)

    assert ("open", 40.0, True) == (own.state(AT), own.calls, own.own)
    assert own.note == "3 of its last 3 calls for this user failed; its usual failure rate is 0 %"
    assert [state.everybody] * 2 == [state.of(REF, user, AT) for user in (None, OTHER)]
    assert (1, 0) == (state.failing_users(AT), state.failing_users(later))
    assert (calm := fed(HEALTHY, "x", USER)).everybody == calm.of(REF, USER, AT)


def test_when_all_fail_everybody_has_one_state() -> None:
    """Once two users open it, shares begin anew, only users with a state of their own are kept, and all hear the same."""
    alone = fed(HEALTHY, "xxx", USER)
    both = fed(alone, "xx", OTHER)

    assert (0, 1) == (alone.everybody.opened, both.everybody.opened)
    assert [(1, 0)] == [(each.opened, each.share) for each in both.users.values()]
    assert [both.everybody] * 3 == [both.of(REF, user, AT) for user in (None, USER, OTHER)]
    assert both.everybody.run_calls + 1 == fed(both, ".", "USR003").everybody.run_calls
    assert both.users == fed(both, "x", "USR003").users


def test_successes_forget_the_shares() -> None:
    """When the sum of all is back at zero, what single users added to it is forgotten, and so are users without failures."""
    state = fed(fed(HEALTHY, "x", USER), "." * 20, OTHER)

    assert (0, 0) == (state.everybody.sum, sum(one.share for one in state.users.values()))
    assert 1 == len(state.users), "the user's own sum has not fallen"
    assert {} == fed(state, "." * 20, USER).users


@given(st.lists(st.tuples(st.sampled_from([USER, OTHER, "USR003"]), st.integers(1, 30), st.sampled_from(".x"))))
def test_no_success_is_an_alarm(runs: list[tuple[str, int, str]]) -> None:
    """A call that succeeds opens a tool for nobody, whatever others' calls did to the usual failure rate meanwhile."""
    state = HEALTHY
    for user, count, outcome in runs:
        after = fed(state, outcome * count, user)
        if outcome == ".":
            assert after.everybody.opened <= state.everybody.opened
            assert after.failing_users(AT) <= state.failing_users(AT)
        state = after


def test_a_failure_for_everybody_counts_in_full() -> None:
    """Failures without a user need no second one, and leave no state of a user."""
    assert (1, {}) == ((opened := fed(HEALTHY, "xxx", None)).everybody.opened, opened.users)


def test_a_state_without_a_user() -> None:
    """An erased user's share is taken from the sum of all, unless it is open, and the user's own state goes."""
    first = fed(HEALTHY, "xxx", USER)
    second = fed(first, "x", OTHER)
    opened = fed(second, "x", OTHER)
    failing = ToolState(Cusum(calls=1000.0, failures=300.0))

    assert HEALTHY == first.without(REF, USER)
    assert failing == fed(failing, "x", USER).without(REF, USER)
    assert (38, [38]) == (
        (left := second.without(REF, USER)).everybody.sum, [one.share for one in left.users.values()],
    )  # fmt: skip
    assert (opened.everybody, {}) == ((left := opened.without(REF, USER)).everybody, left.users)
    assert first == first.without(REF, OTHER) == first.without(ToolRef("AGT001", "TL003"), USER)


def test_users_are_told_apart_for_each_tool() -> None:
    """What stands for a user in a state is short, another one for each tool, and not the user."""
    here = next(iter(fed(HEALTHY, "x", USER).users))
    there = next(iter(HEALTHY.after(ToolRef("AGT001", "TL003"), Observation(AT, True, USER)).users))

    assert here != there
    assert (10, True) == (len(here), USER not in here)


def test_users_for_whom_it_fails_are_remembered_longest() -> None:
    """Of more than fifty users the first without an open state is forgotten, and if all are open, the first."""
    waiting = {f"w{n}": Cusum(sum=1) for n in range(50)}
    failing = {f"f{n}": Cusum(opened=1) for n in range(51)}

    assert waiting == _bounded(dict(waiting))
    assert ["f0", *list(waiting)[1:]] == list(_bounded({"f0": failing["f0"], **waiting}))
    assert list(failing)[1:] == list(_bounded(dict(failing)))


@pytest.mark.parametrize(
    "text",
    ["", " ", "0123456789ab", "0123456789ab ", "0123456789ab []", "0123456789ab null", '0123456789ab {"calls":"1"}',
     '0123456789ab {"calls":NaN}', '0123456789ab {"calls":true}', '0123456789ab {"other":1}', "0123456789ab[] {}",
     '0123456789ab{"u":1} {}', "0123456789ab{ {}", "0123456789ab " + "[" * 100_000],
)  # fmt: skip
def test_a_damaged_text_is_no_state(text: str) -> None:
    """A text that is empty, cut, of another form or holds what is no number, is a state that nobody knows."""
    assert ToolState.from_text(text) is None
    assert ToolState() == ToolState.from_text("0123456789ab {}")


def test_equal_states_have_different_texts() -> None:
    """A repeated write can be told from an equal one of another process."""
    assert HEALTHY.as_text() != HEALTHY.as_text()
    assert HEALTHY.as_text()[12:] == ' {"calls":40.0}'


def test_who_counts_as_one_user() -> None:
    """A known user is one in all sessions, an anonymous one in each of its own, and without a session one for all."""
    assert [USER, USER, "SESS1", ANONYMOUS] == [
        counted_user(*call) for call in ((USER, "SESS1"), (USER, None), (ANONYMOUS, "SESS1"), (ANONYMOUS, None))
    ]


def every_minute(outcomes: str, *users: str | None) -> list[Observation]:
    """Calls a minute apart, of these users in turn; x failed."""
    return [
        Observation(AT + timedelta(minutes=number), outcome == "x", users[number % len(users)])
        for number, outcome in enumerate(outcomes)
    ]


def test_periods_of_failing_are_told_newest_first() -> None:
    """A tool that failed, recovered and failed again has two periods: one that is over, and one that is not."""
    first, well = "." * 30 + "x" * 10, "." * 40
    calls = every_minute(first + well + "xxxxxxxx", USER, OTHER)
    newest, oldest = failing_periods(REF, calls)

    assert FailingPeriod(calls[80].at, None, 8, 8) == newest
    assert calls[30].at == oldest.since
    assert oldest.until is not None
    assert calls[40].at < oldest.until < calls[80].at
    assert 10 == oldest.failures
    assert sum(oldest.since <= call.at <= oldest.until for call in calls) == oldest.calls


def test_no_period_without_an_alarm_for_everybody() -> None:
    """A tool that never failed has none, nor one that fails for a single user."""
    assert [] == failing_periods(REF, [])
    assert [] == failing_periods(REF, every_minute("." * 50, USER))
    assert [] == failing_periods(REF, every_minute("." * 50 + "x" * 50, USER))
    assert 1 == len(failing_periods(REF, every_minute("." * 50 + "x" * 50, None)))
