"""Questions to people by themselves: their terms, their status at a time, and the answer that follows from it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel import keys
from agentmodel.dynamo.models import Review
from agentmodel.exceptions import Conflict, ValidationError
from agentmodel.suggest.review._decision import (
    NOBODY_ANSWERED,
    Answer,
    answer_of,
    arguments_hash,
    canonical,
    status_now,
)
from agentmodel.suggest.review._state import (
    check_decision,
    check_terms,
    close,
    escalate,
    event_of,
    expire,
    is_past,
    person,
    still_open,
    with_event,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
ARGUMENTS = {"order": "W123"}


def question(**values: Any) -> Review:
    given: dict[str, Any] = {
        "user_id": "USR001", "session_id": "SESS1", "review_id": "R1", "question": "Cancel it?", "phase": "pre",
        "status": "pending", "queue": "people", "queue_name": "people", "due_at": AT, "answer_until": AT,
        "arguments": ARGUMENTS, "arguments_hash": arguments_hash(ARGUMENTS), "allowed": ["approve", "edit", "reject", "respond"],
        "on_expiry": "reject",
    } | values  # fmt: skip
    return Review(**given)


def claimed(**values: Any) -> Review:
    return question(status="claimed", claimed_by="kim", claimed_until=AT - timedelta(minutes=5), **values)


@pytest.mark.parametrize(
    ("review", "at", "status"),
    [
        (question(), AT - MOMENT, "pending"),
        (question(), AT, "expired"),
        (question(status=None), AT - MOMENT, "pending"),
        (question(answer_until=None), AT + timedelta(days=900), "pending"),
        (claimed(), AT - timedelta(minutes=5) - MOMENT, "claimed"),
        (claimed(), AT - timedelta(minutes=5), "pending"),
        (claimed(), AT, "expired"),
        (question(status="claimed", claimed_by="kim"), AT - MOMENT, "claimed"),
        (question(status="approved"), AT, "approved"),
        (question(status="cancelled"), AT, "cancelled"),
    ],
)
def test_the_status_at_a_time(review: Review, at: datetime, status: str) -> None:
    """A question expires at its deadline and a claim ends at its end, to the microsecond; an answer stays."""
    assert status == status_now(review, at)
    assert (status in ("pending", "claimed")) == (answer_of(review, at) is None)


def test_the_answer_of_a_person() -> None:
    """An approval is for the arguments of the question, an edit for the edited ones, with who decided and why."""
    approved, edited = question(), question()
    close(approved, "approved", "approve", "kim", AT, reason="fine")
    close(edited, "edited", "edit", "lee", AT, reason=None)
    edited.final_arguments, edited.response = {"order": "W9"}, "as you like"

    assert Answer("approved", "approve", ARGUMENTS, arguments_hash(ARGUMENTS), by="kim", reason="fine") == answer_of(
        approved, AT
    )
    assert Answer(
        "edited", "edit", {"order": "W9"}, arguments_hash({"order": "W9"}), response="as you like", by="lee"
    ) == answer_of(edited, AT)


def test_the_answer_of_nobody() -> None:
    """From the deadline on the terms decide, as they do after the sweep; without terms the call is rejected."""
    stored = question(on_expiry="approve", arguments_hash=None)
    before = answer_of(stored, AT)
    expire(stored, AT + timedelta(hours=1))

    assert Answer("expired", "approve", ARGUMENTS, arguments_hash(ARGUMENTS), reason=NOBODY_ANSWERED) == before
    assert before == answer_of(stored, AT + timedelta(hours=1))
    assert (AT, None, None, ARGUMENTS) == (stored.decided_at, stored.queue, stored.due_at, stored.final_arguments)
    assert "reject" == getattr(answer_of(question(on_expiry=None), AT), "decision", None)
    undated = question(on_expiry=None, answer_until=None)
    expire(undated, AT)
    assert ("reject", AT) == (undated.decision, undated.decided_at)
    with pytest.raises(Conflict, match="R1 is already expired"):
        expire(stored, AT)


@pytest.mark.parametrize(
    ("status", "decision", "permits", "recorded"),
    [
        ("approved", "approve", True, None),
        ("edited", "edit", True, "edited"),
        ("rejected", "reject", False, "rejected"),
        ("responded", "respond", False, "rejected"),
        ("expired", "reject", False, "expired"),
        ("expired", "approve", True, None),
        ("cancelled", "reject", False, "rejected"),
    ],
)
def test_what_an_answer_permits(status: Any, decision: str, permits: bool, recorded: str | None) -> None:
    """Only an approval or an edit permits the call, with its own arguments; each has a status to record."""
    answer = Answer(status, decision, ARGUMENTS, arguments_hash(ARGUMENTS), by="kim")

    assert (permits, recorded) == (answer.permits, answer.call_status)
    if permits:
        answer.check(dict(ARGUMENTS))
        with pytest.raises(Conflict, match="about other arguments"):
            answer.check({"order": "W9"})
    else:
        with pytest.raises(Conflict, match=f"^the call is not permitted: the question was {status} by kim$"):
            answer.check(ARGUMENTS)


def test_arguments_are_equal_as_json() -> None:
    """Arguments are one text whatever the order of their names; what is no JSON has none."""
    assert '{"a":"é","b":[1,2]}' == canonical({"b": [1, 2], "a": "é"})
    for value in (float("nan"), "\ud800", object()):
        with pytest.raises(ValidationError, match=r"arguments .*must be JSON"):
            canonical(value)


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"allowed": ["approve", "nod"]}, "allowed"),
        ({"on_expiry": "respond"}, "on_expiry"),
        ({"answer_within": timedelta(0)}, "answer_within"),
        ({"answer_within": -MOMENT}, "answer_within"),
        ({"escalate_after": MOMENT}, "escalate_to"),
        ({"escalate_to": "boss"}, "escalate_to"),
    ],
)
def test_terms_that_no_question_can_have(terms: dict[str, Any], field: str) -> None:
    """Terms are refused by name; the shortest time, either end and both parts of an escalation are accepted."""
    given: dict[str, Any] = {"allowed": ["approve"], "on_expiry": "reject", "answer_within": MOMENT}
    check_terms(**given)
    check_terms(**given | {"on_expiry": "approve", "escalate_after": MOMENT, "escalate_to": "boss"})

    with pytest.raises(ValidationError, match=f"^{field} "):
        check_terms(**given | terms)


@pytest.mark.parametrize(
    ("decision", "parts", "field"),
    [
        ("approve", {}, None),
        ("approve", {"arguments_hash": arguments_hash(ARGUMENTS)}, None),
        ("approve", {"arguments_hash": "0"}, "arguments_hash"),
        ("approve", {"arguments": {}}, "arguments"),
        ("reject", {"reason": "no"}, None),
        ("reject", {"reason": ""}, "reason"),
        ("edit", {"arguments": {}}, None),
        ("edit", {}, "arguments"),
        ("respond", {"response": ""}, None),
        ("respond", {}, "response"),
        ("nod", {}, "decision"),
    ],
)
def test_a_decision_has_its_parts(decision: str, parts: dict[str, Any], field: str | None) -> None:
    """Each decision has what it needs and nothing else; the error names the part."""
    before = AT - MOMENT
    if field is None:
        check_decision(question(), decision, "kim", before, **parts)
    else:
        with pytest.raises(ValidationError, match=f"^{field} "):
            check_decision(question(), decision, "kim", before, **parts)
    with pytest.raises(ValidationError, match=r"^phase "):
        check_decision(question(phase="post"), decision, "kim", before, **parts)
    with pytest.raises(ValidationError, match=r"^decision "):
        check_decision(question(allowed=None), decision, "kim", before, **parts)


def test_who_may_answer() -> None:
    """A claimed question is open for its claimant and for nobody else until the claim ends; an answered one for none."""
    within = AT - timedelta(minutes=6)
    still_open(claimed(), within, by="kim")
    still_open(claimed(), within, by=None)
    still_open(claimed(), AT - timedelta(minutes=5), by="lee")
    done = question()
    close(done, "approved", "approve", "kim", AT, reason=None)

    with pytest.raises(Conflict, match="R1 is claimed by kim: try again after 2025-12-31 23:55"):
        still_open(claimed(), within, by="lee")
    with pytest.raises(Conflict, match="claimed by kim"):
        check_decision(claimed(), "approve", "lee", within)
    with pytest.raises(Conflict, match="R1 is already approved by kim: nothing was changed"):
        still_open(done, AT - MOMENT, by="kim")
    with pytest.raises(Conflict, match="R1 is already expired: nothing was changed"):
        still_open(question(), AT, by="kim")


def test_a_question_that_is_closed_is_in_no_queue() -> None:
    """Closing stores the decision and takes the question out of its queue and from its claimant."""
    review = claimed()
    close(review, "rejected", "reject", "lee", AT, reason="no")

    assert ("rejected", "reject", "lee", AT, "no") == (
        review.status, review.decision, review.decided_by, review.decided_at, review.decision_reason,
    )  # fmt: skip
    assert (None,) * 4 == (review.queue, review.due_at, review.claimed_by, review.claimed_until)


def test_a_question_that_escalates_is_free_in_another_queue() -> None:
    """Escalation moves a question once, takes it from its claimant, and moves none that is answered."""
    review = claimed(escalate_at=AT, escalate_to="boss")
    escalate(review, AT - timedelta(minutes=6))

    assert ("boss", "boss", None, "pending", None, None) == (
        review.queue, review.queue_name, review.escalate_at, review.status, review.claimed_by, review.claimed_until,
    )  # fmt: skip
    with pytest.raises(Conflict, match="already approved"):
        escalate(question(status="approved", escalate_to="boss"), AT)


def test_events_leave_out_what_is_empty() -> None:
    """An entry of the trail has its time, what happened, by whom, and the status before and after, as far as there are."""
    assert {"at": "20260101000000000000", "what": "asked", "to": "pending"} == event_of(AT, "asked", by="")
    assert {
        "at": "20260101000000000000", "what": "approve", "by": "kim", "from": "pending", "to": "approved", "note": "fine",
    } == event_of(AT, "approve", by="kim", note="fine", before="pending", after="approved")  # fmt: skip


def test_a_time_that_has_come() -> None:
    """A time has come when it is reached; no time never comes."""
    assert [False, True, True, False] == [is_past(until, AT) for until in (AT + MOMENT, AT, AT - MOMENT, None)]


@pytest.mark.parametrize("by", ["", " ", "\n", None, 5])
def test_whoever_decides_has_a_name(by: Any) -> None:
    """A decision without a name, or with something else than text, is refused."""
    with pytest.raises(ValidationError, match=r"^by .*must be the name of the person who decides"):
        person(by)

    assert "kim" == person("kim")


def test_a_trail_has_a_bound() -> None:
    """A question that is claimed and released without end can still be decided: its oldest claims are left out."""
    trail = [event_of(AT, "asked", by="AGT001")]
    for number in range(1000):
        trail = with_event(trail, event_of(AT + timedelta(seconds=number), "claimed", by="é" * 10_000))

    assert (200, "asked", "claimed") == (len(trail), trail[0]["what"], trail[1]["what"])
    assert keys.format_time("at", AT + timedelta(seconds=999)) == trail[-1]["at"]
    assert len(json.dumps(trail, ensure_ascii=False).encode()) < 200_000
