"""Reviews against real engines: who decides, until when, for which arguments, and what it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest

from agentmodel import AgentModel, Review, Settings
from agentmodel.exceptions import Conflict, NotFound, TableUnavailable, ValidationError
from agentmodel.keys import format_time
from agentmodel.redshift import reports
from agentmodel.suggest._types import Failing, ToolRef
from agentmodel.suggest.review import ReviewPolicy, Reviews, arguments_hash
from agentmodel.suggest.review._reviews import Swept
from tests.integration.suggest_world import TODAY, catalogue, opened, run

ARGUMENTS = {"order": "W123", "items": [1, 2]}


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        yield model


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reviews(model: AgentModel, clock: Clock) -> Reviews:
    def sleep(seconds: float) -> None:
        clock.time += timedelta(seconds=seconds)

    return Reviews(
        model.settings, model.table, writer=model.writer, repository=model.repository, recorder=model.recorder,
        now=clock, sleep=sleep,
    )  # fmt: skip


@pytest.fixture
def ask(reviews: Reviews) -> Callable[..., Review]:
    def ask(**options: object) -> Review:
        given = {"arguments": ARGUMENTS, "agent_id": "AGT001", "tool_id": "TL002"} | options
        return reviews.ask("USR001", "SESS20250614001", "Cancel the order?", **given)  # type: ignore[arg-type]  # as given

    return ask


def whats(review: Review) -> list[str]:
    return [event["what"] for event in review.trail or ()]


def test_asked_found_approved(reviews: Reviews, ask: Callable[..., Review], model: AgentModel) -> None:
    """A question is in its inbox, in its session's history, and gone from the inbox once it is answered."""
    asked = ask(reason="risky")
    inbox = reviews.inbox()
    before = reviews.answer(asked)
    decided = reviews.decide(asked, "approve", "kim", reason="fine", arguments_hash=asked.arguments_hash)
    answer = reviews.answer(Reviews.reference(asked))

    assert [asked.review_id] == [review.review_id for review in inbox]
    assert before is None
    assert () == reviews.inbox().items
    assert ("approved", "approve", "kim", "fine") == (
        decided.status, decided.decision, decided.decided_by, decided.decision_reason,
    )  # fmt: skip
    assert answer is not None
    assert answer.permits
    answer.check({"items": [1, 2], "order": "W123"})  # the order of names does not count
    assert [decided] == list(model.repository.session_history("USR001", "SESS20250614001").reviews)
    assert ["asked", "approve"] == whats(decided)


def test_an_answer_is_for_exactly_these_arguments(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """Called with others than were approved, or after an edit with the old ones, it is refused."""
    approved, edited = ask(), ask()
    reviews.decide(approved, "approve", "kim")
    reviews.decide(edited, "edit", "kim", arguments={"order": "W124"})
    one, other = reviews.answer(approved), reviews.answer(edited)

    assert one is not None
    assert other is not None
    with pytest.raises(Conflict, match="about other arguments"):
        one.check({"order": "W124"})
    with pytest.raises(Conflict, match="about other arguments"):
        other.check(ARGUMENTS)
    other.check({"order": "W124"})
    assert ({"order": "W124"}, "edited") == (other.arguments, other.call_status)
    assert [ARGUMENTS, {"order": "W124"}] == [reviews.get(each).final_arguments for each in (approved, edited)]


def test_who_saw_other_arguments_cannot_decide(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """A reviewer who names the hash of what was shown is refused when the question is about something else."""
    with pytest.raises(ValidationError, match="other arguments"):
        reviews.decide(ask(), "approve", "kim", arguments_hash=arguments_hash({"order": "W999"}))


def test_a_rejection_stops_the_call(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """Rejected and responded questions do not permit the call, and say how to record it."""
    rejected, responded = ask(), ask()
    reviews.decide(rejected, "reject", "kim", reason="too risky")
    reviews.decide(responded, "respond", "kim", response="It is cancelled already.")
    one, other = reviews.answer(rejected), reviews.answer(responded)

    assert one is not None
    assert other is not None
    assert (False, "rejected", "too risky") == (one.permits, one.call_status, one.reason)
    assert (False, "rejected", "It is cancelled already.") == (other.permits, other.call_status, other.response)
    with pytest.raises(Conflict, match="not permitted: the question was rejected by kim"):
        one.check(ARGUMENTS)


def test_of_a_hundred_deciders_one_wins(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """However many decide at once, exactly one does; the others are told, and the trail has one decision."""
    asked = ask()
    barrier = Barrier(100)

    def decide(number: int) -> str | None:
        barrier.wait(timeout=60)
        try:
            if number % 2:
                reviews.decide(asked, "approve", f"person {number}")
            else:
                reviews.decide(asked, "reject", f"person {number}", reason="no")
        except Conflict:
            return None
        return f"person {number}"

    with ThreadPoolExecutor(100) as pool:
        winners = [winner for winner in pool.map(decide, range(100)) if winner is not None]
    end = reviews.get(asked)

    assert [end.decided_by] == winners
    assert 2 == len(end.trail or ())


def test_a_claim_keeps_others_out(reviews: Reviews, ask: Callable[..., Review], clock: Clock) -> None:
    """What is claimed only its claimant answers, until the claim ends or is given back."""
    asked = ask()
    reviews.claim(asked, "kim", minutes=10)
    with pytest.raises(Conflict, match="claimed by kim"):
        reviews.decide(asked, "approve", "lee")
    with pytest.raises(Conflict, match="claimed by kim"):
        reviews.claim(asked, "lee")
    clock.time += timedelta(minutes=10)
    reviews.claim(asked, "lee")
    reviews.release(asked, "lee")
    decided = reviews.decide(asked, "approve", "park")

    assert ["asked", "claimed", "claimed", "released", "approve"] == whats(decided)
    assert "park" == decided.decided_by


@pytest.mark.parametrize(("after", "status"), [(-1, "pending"), (0, "expired"), (1, "expired")])
def test_the_edge_of_the_deadline(
    reviews: Reviews, ask: Callable[..., Review], clock: Clock, after: int, status: str
) -> None:
    """A microsecond before the deadline it is open, at it and after it is not; nobody has to sweep for that."""
    asked = ask(answer_within=timedelta(minutes=5))
    clock.time = (asked.answer_until or clock.time) + timedelta(microseconds=after)

    assert status == reviews.status(asked)
    assert (status == "pending") == bool(reviews.inbox().items)
    if status == "pending":
        assert "approved" == reviews.decide(asked, "approve", "kim").status
    else:
        with pytest.raises(Conflict, match="is already expired"):
            reviews.decide(asked, "approve", "kim")
        answer = reviews.answer(asked)
        assert answer is not None
        assert (False, "expired", "nobody answered before the deadline") == (
            answer.permits,
            answer.call_status,
            answer.reason,
        )


def test_expiry_may_approve(reviews: Reviews, ask: Callable[..., Review], clock: Clock) -> None:
    """Where the asker said so, silence is consent, before the sweep and after it."""
    asked = ask(answer_within=timedelta(minutes=5), on_expiry="approve")
    clock.time += timedelta(minutes=5)
    before = reviews.answer(asked)
    swept = reviews.sweep()
    after = reviews.answer(asked)

    assert 1 == swept.expired
    assert before is not None
    assert before.permits
    assert before == after


def test_a_sweep_expires_and_escalates(reviews: Reviews, ask: Callable[..., Review], clock: Clock) -> None:
    """What nobody answered moves to the other queue at its time, and leaves the queues at its deadline."""
    asked = ask(
        answer_within=timedelta(hours=2), escalate_after=timedelta(hours=1), escalate_to="boss", queue="first line"
    )
    clock.time += timedelta(hours=1)
    first = reviews.sweep("first line")
    moved = reviews.inbox("boss").items
    clock.time += timedelta(hours=1)
    second = reviews.sweep("boss")
    end = reviews.get(asked)

    assert (1, 1) == (first.escalated, second.expired)
    assert [asked.review_id] == [review.review_id for review in moved]
    assert () == reviews.inbox("first line").items
    assert ("expired", "reject", None) == (end.status, end.decision, end.queue)
    assert ["asked", "escalated", "expired"] == whats(end)


def test_the_most_urgent_first(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """An inbox is in the order of deadlines, page by page, and queues do not mix."""
    late, soon = ask(answer_within=timedelta(hours=9)), ask(answer_within=timedelta(hours=1))
    ask(queue="another")
    first = reviews.inbox(limit=1)
    second = reviews.inbox(limit=1, cursor=first.cursor)

    assert [soon.review_id, late.review_id] == [page[0].review_id for page in (first, second)]


def test_asking_twice_is_one_question(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """A repeated request of the same call finds its question, and its answer; with other arguments it is another."""
    asked = ask(call_id="call-1")
    reviews.decide(asked, "approve", "kim")

    assert asked.review_id == reviews.id_of("call-1", arguments=ARGUMENTS)
    assert "approved" == ask(call_id="call-1").status
    assert asked.review_id != ask(call_id="call-1", arguments={"order": "W999"}).review_id


def test_cancelled_questions_permit_nothing(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """A withdrawn question is out of the inbox, and its step is not taken."""
    asked = ask()
    reviews.cancel(asked, "AGT001", reason="the user left")
    answer = reviews.answer(asked)

    assert () == reviews.inbox().items
    assert answer is not None
    assert ("cancelled", False) == (answer.status, answer.permits)


def test_the_trail_says_who_did_what_when_and_why(reviews: Reviews, ask: Callable[..., Review], clock: Clock) -> None:
    """Each change of a question is an entry with its time, person, reason, and the status before and after."""
    began = clock.time
    asked = ask(reason="risky")
    clock.time += timedelta(minutes=1)
    claimed = reviews.claim(asked, "kim")
    clock.time += timedelta(minutes=1)
    released = reviews.release(asked, "kim")
    clock.time += timedelta(minutes=1)
    cancelled = reviews.cancel(asked, "AGT001", reason="the user left")
    clock.time += timedelta(minutes=1)
    decided = reviews.decide(ask(), "reject", "lee", reason="too dear")

    assert [
        {"at": format_time("at", began), "what": "asked", "by": "AGT001", "to": "pending", "note": "risky"},
        {"at": format_time("at", began + timedelta(minutes=1)), "what": "claimed", "by": "kim", "from": "pending",
         "to": "claimed"},
        {"at": format_time("at", began + timedelta(minutes=2)), "what": "released", "by": "kim", "from": "claimed",
         "to": "pending"},
        {"at": format_time("at", began + timedelta(minutes=3)), "what": "cancelled", "by": "AGT001",
         "from": "pending", "to": "cancelled", "note": "the user left"},
    ] == cancelled.trail  # fmt: skip
    assert ("kim", began + timedelta(minutes=16)) == (claimed.claimed_by, claimed.claimed_until)
    assert (None, None) == (released.claimed_by, released.claimed_until)
    assert ("reject", "AGT001", began + timedelta(minutes=3), "the user left") == (
        cancelled.decision, cancelled.decided_by, cancelled.decided_at, cancelled.decision_reason,
    )  # fmt: skip
    assert ("reject", "lee", began + timedelta(minutes=4), "too dear") == (
        decided.decision, decided.decided_by, decided.decided_at, decided.decision_reason,
    )  # fmt: skip
    assert {
        "at": format_time("at", began + timedelta(minutes=4)), "what": "reject", "by": "lee", "from": "pending",
        "to": "rejected", "note": "too dear",
    } == (decided.trail or [])[-1]  # fmt: skip


def test_long_reasons_are_cut(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """A reason of any length is kept as far as there is room, whatever it is the reason for."""
    text = "reason " * 10_000
    ended = [
        reviews.decide(ask(reason=text), "reject", "kim", reason=text),
        reviews.cancel(ask(), "kim", reason=text),
        reviews.verdict(ask(phase="post"), "partly", "kim", reason=text),
    ]

    assert [True] * 3 == [text[:1000] == (review.decision_reason or "")[:1000] for review in ended]
    assert [True] * 3 == [len(review.decision_reason or "") <= 8000 for review in ended]


def test_an_inbox_has_pages_of_a_hundred(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """A page of an inbox has a hundred questions where nobody says otherwise."""
    for _ in range(101):
        ask()
    first = reviews.inbox()
    second = reviews.inbox(cursor=first.cursor)

    assert (100, 1, None) == (len(first), len(second), second.cursor)


def test_an_inbox_lists_what_it_cannot_read(reviews: Reviews, ask: Callable[..., Review], model: AgentModel) -> None:
    """A damaged question does not hide the others, and its key is told."""
    damaged, readable = ask(answer_within=timedelta(hours=1)), ask()
    item = model.table.item(damaged) | {"AskedDT": {"S": "yesterday"}}
    model.table.call("PutItem", TableName=model.settings.table, Item=item)
    page = reviews.inbox()

    assert [readable.review_id] == [review.review_id for review in page]
    assert 1 == len(page.unreadable)


def test_what_was_decided_is_read_at_once(
    reviews: Reviews, ask: Callable[..., Review], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question is read from the leader of its partition, where the newest answer is."""
    read, told = reviews._table.get, []

    def spied(key: Any, *, consistent: bool = False) -> Any:
        told.append(consistent)
        return read(key, consistent=consistent)

    monkeypatch.setattr(reviews._table, "get", spied)
    reviews.answer(ask())

    assert {True} == set(told)


def test_only_who_claimed_gives_back(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """What one person claimed another one cannot release."""
    asked = ask()
    reviews.claim(asked, "kim")

    with pytest.raises(Conflict, match="claimed by kim"):
        reviews.release(asked, "lee")


def test_changed_meanwhile(reviews: Reviews, ask: Callable[..., Review], monkeypatch: pytest.MonkeyPatch) -> None:
    """What another one changes between read and write is read again; what was deleted meanwhile is not made anew."""
    asked, gone = ask(), ask()
    save = reviews._writer.save

    def after(change: Callable[[], object]) -> Callable[..., Any]:
        def late(review: Review, **options: Any) -> Any:
            monkeypatch.setattr(reviews._writer, "save", save)
            change()
            return save(review, **options)

        return late

    monkeypatch.setattr(reviews._writer, "save", after(lambda: reviews.claim(asked, "kim")))
    decided = reviews.decide(asked, "approve", "kim")
    monkeypatch.setattr(reviews._writer, "save", after(lambda: reviews._repository.delete(gone)))
    with pytest.raises((NotFound, Conflict)):
        reviews.decide(gone, "approve", "kim")
    with pytest.raises(NotFound):
        reviews.get(gone)

    assert ["asked", "claimed", "approve"] == whats(decided)


def test_a_sweep_counts(reviews: Reviews, ask: Callable[..., Review], clock: Clock) -> None:
    """A sweep counts each question that it moved or closed, and leaves those alone whose time has not come."""
    terms: dict[str, Any] = {"answer_within": timedelta(hours=4), "escalate_to": "boss"}
    moved = [ask(escalate_after=timedelta(hours=1), **terms) for _ in range(2)]
    expired = [ask(answer_within=timedelta(hours=1)) for _ in range(2)]
    later = ask(escalate_after=timedelta(hours=3), **terms)
    clock.time += timedelta(hours=2)
    swept = reviews.sweep()
    at = format_time("at", clock.time)

    assert Swept(expired=2, escalated=2) == swept
    assert [later.review_id] == [review.review_id for review in reviews.inbox()]
    assert [{"at": at, "what": "escalated", "from": "pending", "to": "pending", "note": "boss"}] * 2 == [
        (reviews.get(each).trail or [])[-1] for each in moved
    ]
    assert [{"at": at, "what": "expired", "from": "pending", "to": "expired"}] * 2 == [
        (reviews.get(each).trail or [])[-1] for each in expired
    ]


def test_a_sweep_goes_on_after_a_conflict(
    reviews: Reviews, ask: Callable[..., Review], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that somebody answers during a sweep is left as it is, and those after it are swept."""
    first, second = (ask(answer_within=timedelta(minutes=minutes)) for minutes in (5, 6))
    listed = reviews._queued("review", None, None)
    reviews.decide(first, "approve", "kim")
    clock.time += timedelta(minutes=7)
    monkeypatch.setattr(reviews, "_queued", lambda *_: listed)

    assert 1 == reviews.sweep().expired
    assert ["approved", "expired"] == [reviews.get(each).status for each in (first, second)]


@pytest.mark.parametrize(
    ("decision", "options", "problem"),
    [
        ("reject", {}, "must be given for a rejection"),
        ("edit", {}, "must be given for an edit"),
        ("respond", {}, "must be given for a response"),
        ("approve", {"arguments": {}}, "must only be given for an edit"),
        ("perhaps", {}, "one of approve, edit, reject, respond"),
    ],
)
def test_incomplete_answers_are_refused(
    reviews: Reviews, ask: Callable[..., Review], decision: str, options: dict[str, object], problem: str
) -> None:
    """An answer without its part, or that is none, changes nothing."""
    asked = ask()

    with pytest.raises(ValidationError, match=problem):
        reviews.decide(asked, decision, "kim", **options)  # type: ignore[arg-type]  # that is the test
    assert "pending" == reviews.status(asked)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"on_expiry": "edit"}, "on_expiry"),
        ({"allowed": ["nod"]}, "allowed"),
        ({"answer_within": timedelta(0)}, "answer_within"),
        ({"escalate_to": "boss"}, "escalate_to"),
        ({"arguments": {"at": object()}}, "arguments"),
    ],
)
def test_questions_that_cannot_be_asked(ask: Callable[..., Review], options: dict[str, object], field: str) -> None:
    """A question that nobody could answer rightly is refused before it is written."""
    with pytest.raises(ValidationError, match=field):
        ask(**options)


def test_what_is_not_allowed_cannot_be_answered(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """Only what the asker allowed may be decided."""
    with pytest.raises(ValidationError, match="one of approve, reject"):
        reviews.decide(ask(allowed=["approve", "reject"]), "edit", "kim", arguments={})


@pytest.mark.parametrize("nobody", ["", "  ", None])
def test_nobody_decides_nothing(reviews: Reviews, ask: Callable[..., Review], nobody: str) -> None:
    """Who claims or decides has a name, which the trail keeps."""
    asked = ask()

    with pytest.raises(ValidationError, match="the name of the person"):
        reviews.claim(asked, nobody)
    with pytest.raises(ValidationError, match="the name of the person"):
        reviews.decide(asked, "approve", nobody)
    with pytest.raises(ValidationError, match="the name of the person"):
        reviews.verdict(ask(phase="post"), "partly", nobody)


def test_a_reference_that_is_none(reviews: Reviews) -> None:
    """A reference of another form is refused, and one of nothing is not found."""
    with pytest.raises(ValidationError, match="joined by slashes"):
        reviews.get("42")
    with pytest.raises(NotFound, match="review USR001/SESS20250614001/42"):
        reviews.get("USR001/SESS20250614001/42")
    with pytest.raises(NotFound, match="review USR001/SESS20250614001/a/b/c"):
        reviews.get("USR001/SESS20250614001/a/b/c")


def test_ids_of_calls_stay(reviews: Reviews) -> None:
    """The id of a call's question is kept in the table and by others: it is the same in every version."""
    assert "a15361bed4f338256fdd7cd8eedc1656" == reviews.id_of("call-1", arguments=ARGUMENTS)


def test_waiting_ends_with_the_answer(reviews: Reviews, ask: Callable[..., Review], clock: Clock) -> None:
    """Who waits gets the answer of the person, or of the deadline; with a timeout the question stays open."""
    asked = ask(answer_within=timedelta(minutes=1))
    with pytest.raises(Conflict, match="stays open"):
        reviews.wait(asked, timeout=2)
    answer = reviews.wait(asked)

    assert "expired" == answer.status
    assert asked.answer_until is not None
    assert timedelta(0) <= clock.time - asked.answer_until < timedelta(seconds=6)


def test_pauses_grow_until_the_timeout(reviews: Reviews, ask: Callable[..., Review], clock: Clock) -> None:
    """Who waits looks often at first, then less often, and for the last time when the timeout has passed."""
    began, pauses = clock.time, []

    def sleep(seconds: float) -> None:
        pauses.append(round(seconds, 6))
        clock.time += timedelta(seconds=seconds)

    reviews._sleep = sleep
    with pytest.raises(Conflict, match="stays open"):
        reviews.wait(ask(), timeout=20)

    assert [0.2, 0.3, 0.45, 0.675, 1.0125, 1.51875, 2.278125, 3.417188, 5.0, 5.0] == pauses[:10]
    assert timedelta(seconds=20) == clock.time - began


def test_waiting_in_a_task(model: AgentModel) -> None:
    """In asyncio others go on while a task waits: one of them answers."""

    async def main() -> str:
        asked = model.reviews.ask("USR001", "SESS20250614001", "Go?", arguments=ARGUMENTS)

        async def answer() -> None:
            await asyncio.to_thread(model.reviews.decide, asked, "approve", "kim")

        waiting = asyncio.create_task(model.reviews.wait_async(asked, timeout=30))
        await asyncio.gather(waiting, answer())
        return waiting.result().by

    assert "kim" == asyncio.run(main())


def test_an_answer_of_the_last_moment_counts(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """An answer that is given between the last look and the end of the timeout is returned."""
    asked = ask()

    def answered(_: float) -> None:
        reviews._now = lambda: began + timedelta(seconds=9)
        reviews.decide(asked, "approve", "kim")

    began = reviews._now()
    reviews._sleep = answered

    assert "kim" == reviews.wait(asked, timeout=5).by


def test_waiting_in_a_task_ends_with_the_timeout(reviews: Reviews, ask: Callable[..., Review], clock: Clock) -> None:
    """A task that nobody answers in time is told that the question stays open."""
    asked = ask()

    async def main() -> None:
        waiting = asyncio.create_task(reviews.wait_async(asked, timeout=3600))
        await asyncio.sleep(0.05)
        clock.time += timedelta(hours=2)
        await asyncio.wait_for(waiting, 60)

    with pytest.raises(Conflict, match="stays open"):
        asyncio.run(main())
    assert "pending" == reviews.status(asked)


def test_a_verdict_corrects_the_outcome(model: AgentModel, reviews: Reviews, clock: Clock) -> None:
    """A run that was recorded as a success and judged wrong counts as a failure from the next refresh on."""
    session_id = run(model)
    model.drain()
    model.refresh(as_of=TODAY)
    before = reports.agent_ranking(model.warehouse, as_of=TODAY)[0]
    asked = reviews.ask("USR001", session_id, "Was it right?", phase="post")
    told: list[Review] = []
    reviews.on_verdict.append(told.append)
    judged = reviews.verdict(asked, "wrong", "kim", reason="another café")
    model.drain()
    model.refresh(as_of=TODAY)
    after = reports.agent_ranking(model.warehouse, as_of=TODAY)[0]
    session = model.repository.session("USR001", session_id)

    assert (1, 0) == (before.successes, after.successes)
    assert session is not None
    assert (True, False) == (session.succeeded, session.corrected)
    assert ("completed", "wrong", False, None) == (judged.status, judged.verdict, judged.outcome, judged.queue)
    assert ["asked", "verdict wrong", "applied"] == whats(judged)
    assert [("AGT", None), ("kim", "another café"), ("kim", None)] == [
        (event.get("by", "AGT"), event.get("note")) for event in judged.trail or ()
    ]
    assert clock.time == judged.decided_at
    assert [judged] == told


@pytest.mark.parametrize(
    ("verdict", "outcome", "corrected"),
    [("correct", None, True), ("harmful", None, False), ("partly", None, None), ("partly", True, True),
     ("correct", False, False)],
)  # fmt: skip
def test_what_verdicts_say_of_the_outcome(
    model: AgentModel, reviews: Reviews, verdict: Any, outcome: bool | None, corrected: bool | None
) -> None:
    """Correct and wrong correct the outcome; partly leaves it unless the reviewer says which."""
    session_id = run(model, succeeded=corrected is not True)
    asked = reviews.ask("USR001", session_id, "Was it right?", phase="post")
    judged = reviews.verdict(asked, verdict, "kim", outcome=outcome)
    session = model.repository.session("USR001", session_id)

    assert session is not None
    assert corrected == session.corrected
    assert ("applied", None) == tuple((judged.trail or [])[-1].get(name) for name in ("what", "note"))


def test_verdicts_and_decisions_do_not_mix(reviews: Reviews, ask: Callable[..., Review]) -> None:
    """Before a step there is a decision, after a run a verdict."""
    with pytest.raises(ValidationError, match="must be `post`"):
        reviews.verdict(ask(), "correct", "kim")
    with pytest.raises(ValidationError, match="must be `pre`"):
        reviews.decide(ask(phase="post"), "approve", "kim")


def test_a_verdict_that_was_killed_is_finished(
    model: AgentModel, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the verdict and the correction, the next sweep corrects; nobody can judge again."""
    session_id = run(model)
    asked = reviews.ask("USR001", session_id, "Was it right?", phase="post")

    def die(entity: object) -> None:
        raise TableUnavailable("killed")

    with monkeypatch.context() as patch:
        patch.setattr(model.recorder, "record", die)
        with pytest.raises(TableUnavailable):
            reviews.verdict(asked, "wrong", "kim")
    with pytest.raises(Conflict, match="completed by kim"):
        reviews.verdict(asked, "correct", "lee")
    swept = reviews.sweep()
    session = model.repository.session("USR001", session_id)

    assert 1 == swept.applied
    assert session is not None
    assert session.corrected is False
    assert 0 == reviews.sweep().applied


def test_a_verdict_on_a_run_that_is_gone_stops_nobody(model: AgentModel, reviews: Reviews, clock: Clock) -> None:
    """Of a run that is gone no outcome can be corrected; one that goes after its verdict does not hold up the sweep."""
    asked = reviews.ask("USR001", "SESS20250101001", "Was it right?", phase="post")
    with pytest.raises(NotFound, match="session"):
        reviews.verdict(asked, "wrong", "kim")
    waiting = reviews.status(asked)
    killed = reviews.get(asked)
    killed.status, killed.verdict, killed.outcome, killed.decided_by = "completed", "wrong", False, "kim"
    model.repository.put(killed)  # as a kill between verdict and correction leaves it
    again = reviews.ask("USR001", run(model), "And this?", phase="post")
    second = reviews.get(again)
    second.status, second.verdict, second.decided_by = "completed", "partly", "kim"
    model.repository.put(second)
    late = reviews.ask("USR001", run(model), "Go?", answer_within=timedelta(seconds=1))
    clock.time += timedelta(seconds=1)

    swept = reviews.sweep()

    assert "pending" == waiting
    assert (2, 1) == (swept.applied, swept.expired)
    assert "the run does not exist any more" == (reviews.get(asked).trail or [])[-1]["note"]
    assert "expired" == reviews.status(late)
    assert [] == list(reviews.inbox())


def test_what_is_given_is_not_read(reviews: Reviews, model: AgentModel) -> None:
    """Whoever has read a tool, an agent or the health of tools gives it, and it counts."""
    tool, agent = model.repository.tool("AGT001", "TL001"), model.repository.agent("AGT001")
    assert tool is not None
    assert agent is not None
    agent.evidence_low = 0.6
    model.repository.put(agent)
    agent.evidence_low, tool.needs_review = 0.05, True
    failing = {ToolRef("AGT001", "TL001"): Failing(None, "it timed out")}

    assert () == reviews.needed("AGT001", "TL001", failing={})
    assert (f"{tool.name} needs a person's approval",) == reviews.needed("AGT001", "TL001", tool=tool)
    assert "may be as low as 5 %" in reviews.needed("AGT001", "TL001", agent=agent)[0]
    assert (f"{tool.name} is failing: it timed out",) == reviews.needed("AGT001", "TL001", failing=failing)


def test_an_applications_own_policy(model: AgentModel) -> None:
    """A policy that is given decides."""

    class Always(ReviewPolicy):
        def reasons(self, agent_id: str, tool_id: str, **_: Any) -> tuple[str, ...]:
            return ("always",)

    reviews = Reviews(
        model.settings, model.table, writer=model.writer, repository=model.repository, recorder=model.recorder,
        policy=Always(model.repository),
    )  # fmt: skip

    assert ("always",) == reviews.needed("AGT001", "TL001")


def test_when_a_person_is_needed(model: AgentModel) -> None:
    """A tool that is marked, that fails, or that nobody knows, and an agent of little evidence, need a person."""
    for n, changes in ((1, {}), (2, {"needs_review": True}), (3, {"health": "open", "health_until": TODAY})):
        tool = model.repository.tool("AGT001", f"TL{n:03d}")
        assert tool is not None
        for name, value in changes.items():
            setattr(tool, name, value if name != "health_until" else datetime.now(UTC) + timedelta(minutes=5))
        model.repository.put(tool)
    agent = model.repository.agent("AGT001")
    assert agent is not None
    agent.evidence_low = 0.6
    model.repository.put(agent)

    assert () == model.reviews.needed("AGT001", "TL001")
    assert ("search needs a person's approval",) == model.reviews.needed("AGT001", "TL002")
    assert model.reviews.needed("AGT001", "TL003")[0].startswith("format is failing")
    assert ("TL009 is not in the catalogue",) == model.reviews.needed("AGT001", "TL009")
    assert "the success rate of agent 2 may be as low as 5 %" in model.reviews.needed("AGT002", "TL001")
