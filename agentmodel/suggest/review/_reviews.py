"""Reviews: people approve a risky step before it is taken, and give a verdict on a run after it has ended.

Every change of a question is one conditional write over the version it was read from. So only one of two reviewers
decides, and entries are only added to its trail. An answer is valid for the hash of the exact arguments it was given
for. A question has a deadline: if nobody has answered by then, a default decision counts, a rejection unless set
otherwise. It counts from the deadline on, whether or not `Reviews.sweep` has stored it.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from agentmodel import keys
from agentmodel._redaction import marked_texts
from agentmodel._ttl import expiry
from agentmodel._values.names import takes_names
from agentmodel._values.text import storable_text
from agentmodel.access.pagination import Page, read_cursor, split_readable, write_cursor
from agentmodel.access.recorder import Recorder
from agentmodel.access.repository import Repository
from agentmodel.config import Settings
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.models import Agent, Phase, Review, ReviewStatus, Tool, Verdict
from agentmodel.dynamo.table import INDEX, Query, Table
from agentmodel.dynamo.writer import Writer
from agentmodel.exceptions import AlreadyExists, Conflict, NotFound, StaleVersion, ValidationError
from agentmodel.suggest._types import Failing, ToolRef
from agentmodel.suggest.review._decision import Answer, Decision, answer_of, arguments_hash, status_now
from agentmodel.suggest.review._policy import ReviewPolicy
from agentmodel.suggest.review._polling import Polling
from agentmodel.suggest.review._state import (
    OPEN,
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
from agentmodel.suggest.review._webhook import ReviewEvent

__all__ = ["DEFAULT_QUEUE", "Reviews", "Swept", "Which"]

DEFAULT_QUEUE = "review"
"""Queue of questions that name none."""

Which: TypeAlias = "Review | str"
"""A review, or its reference: user, session and review id joined by slashes, as `Reviews.reference` gives it."""

_ANSWERED: Mapping[str, ReviewStatus] = {
    "approve": "approved",
    "edit": "edited",
    "reject": "rejected",
    "respond": "responded",
}
_ATTEMPTS = 5  # of a write, while others write first
_NOTE_BYTES = 8000  # of a question or a reason, which the trail repeats


@dataclass(frozen=True, slots=True)
class Swept:
    """Counts of what `Reviews.sweep` did: questions expired, questions escalated, verdicts applied to their runs."""

    expired: int = 0
    escalated: int = 0
    applied: int = 0


class Reviews(Polling):
    """Asks people questions, and takes their answers.

    Args:
        settings: How long questions are kept.
        table: The table.
        writer: The table's writer.
        repository: Reads sessions, and drops cached copies of what changed.
        recorder: Writes corrected outcomes.
        policy: Finds the reasons for which a person is asked.
        report: Called with ``review.asked``, ``review.escalated`` or ``review.expired`` and the question.
        now: Returns the present time.
        sleep: Waits some seconds.

    Attributes:
        on_verdict: Functions called with a question after the verdict on its run was given and applied.

    >>> question = model.reviews.ask("USR282", "SESS1", "Book a table?", queue="tables", call_id="1")
    >>> [one.question for one in model.reviews.inbox("tables")]
    ['Book a table?']
    >>> question = model.reviews.claim(question, "lee")
    >>> question = model.reviews.decide(question, "approve", "lee")
    >>> model.reviews.status(question), model.reviews.answer(question).permits
    ('approved', True)
    """

    def __init__(
        self,
        settings: Settings,
        table: Table,
        *,
        writer: Writer,
        repository: Repository,
        recorder: Recorder,
        policy: ReviewPolicy | None = None,
        report: Callable[[ReviewEvent, Review], None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(now, sleep)
        self._settings = settings
        self._table = table
        self._writer = writer
        self._repository = repository
        self._recorder = recorder
        self._policy = policy if policy is not None else ReviewPolicy(repository)
        self._report = report
        self._redact = table.redaction.optional
        self.on_verdict: list[Callable[[Review], None]] = []

    def needed(
        self,
        agent_id: str,
        tool_id: str,
        *,
        tool: Tool | None = None,
        agent: Agent | None = None,
        failing: Mapping[ToolRef, Failing] | None = None,
    ) -> tuple[str, ...]:
        """Return the reasons for which a person should approve a call; empty if none is needed.

        Args:
            agent_id: The agent.
            tool_id: The tool.
            tool: The tool's item; read when not given.
            agent: The agent's item; read when not given.
            failing: Tools that are failing; read when not given.

        >>> model.reviews.needed("AGT002", "TL003")
        ("book_table needs a person's approval",)
        """
        return self._policy.reasons(agent_id, tool_id, tool=tool, agent=agent, failing=failing)

    # Ask

    @takes_names
    def ask(
        self,
        user_id: str,
        session_id: str,
        question: str,
        *,
        phase: Phase = "pre",
        queue: str = DEFAULT_QUEUE,
        process_id: str | None = None,
        agent_id: str | None = None,
        tool_id: str | None = None,
        arguments: Any = None,
        reason: str | None = None,
        allowed: Sequence[Decision] = ("approve", "edit", "reject", "respond"),
        answer_within: timedelta = timedelta(hours=24),
        on_expiry: Decision = "reject",
        escalate_after: timedelta | None = None,
        escalate_to: str | None = None,
        call_id: str | None = None,
    ) -> Review:
        """Put a question into a queue.

        Args:
            user_id: The user of the run.
            session_id: The run.
            question: What the person must decide.
            phase: ``pre``, about a step before it is taken, or ``post``, about a run that has ended.
            queue: The queue.
            process_id: The step.
            agent_id: The agent that takes the step.
            tool_id: The tool that it calls.
            arguments: Exact arguments of the call; JSON.
            reason: Why a person is asked.
            allowed: Decisions that the person may take.
            answer_within: Time until the deadline.
            on_expiry: Decision that counts from the deadline on.
            escalate_after: Time until the question moves to another queue.
            escalate_to: That queue.
            call_id: Identity of the call. Asked again with the same arguments, it is the same question.

        Returns:
            The question; the stored one if it was asked before.

        Raises:
            ValidationError: An argument is not accepted.

        >>> call = {"arguments": {"amount": 8}, "call_id": "1", "queue": "payments"}
        >>> question = model.reviews.ask("USR283", "SESS1", "Pay 8 €?", **call)
        >>> again = model.reviews.ask("USR283", "SESS1", "Pay 8 €?", **call)
        >>> question.status, again.review_id == question.review_id
        ('pending', True)
        """
        check_terms(allowed, on_expiry, answer_within, escalate_after, escalate_to)
        at, reason = self._now(), storable_text(reason, limit=_NOTE_BYTES)
        digest = arguments_hash(arguments)
        until = at + answer_within
        review = Review(
            user_id=user_id,
            session_id=session_id,
            review_id=_new_id(at) if call_id is None else _stable_id(phase, call_id, digest),
            question=storable_text(question, limit=_NOTE_BYTES) or "",
            phase=phase,
            status="pending",
            asked_at=at,
            process_id=process_id,
            agent_id=agent_id,
            tool_id=tool_id,
            arguments=arguments,
            arguments_hash=digest,
            reason=reason,
            allowed=list(allowed),
            queue=queue,
            queue_name=queue,
            due_at=until,
            answer_until=until,
            on_expiry=on_expiry,
            escalate_at=None if escalate_after is None else at + escalate_after,
            escalate_to=escalate_to,
            trail=[event_of(at, "asked", by=agent_id or "", note=self._redact(reason))],
            expires_at=max(expiry(at, days=self._settings.ttl_days_high), expiry(until, days=1)),
        )
        try:
            self._writer.put_new(review)
        except AlreadyExists:
            return self.get(review)
        self._repository.invalidate([review])
        asked = self.get(review)
        if self._report is not None:
            self._report("review.asked", asked)
        return asked

    # Read

    @staticmethod
    def id_of(call_id: str, *, arguments: Any = None, phase: Phase = "pre") -> str:
        """Return the review id of the question about a call with these arguments; see `ask`.

        >>> model.reviews.id_of("1", arguments={"amount": 8}) == model.reviews.id_of("1", arguments={"amount": 9})
        False
        """
        return _stable_id(phase, call_id, arguments_hash(arguments))

    @takes_names
    def about(self, user_id: str, session_id: str, call_id: str, *, arguments: Any = None) -> Review | None:
        """Return the question that was asked about a call with these arguments, or None.

        >>> question = model.reviews.ask("USR284", "SESS1", "Pay?", queue="payments", call_id="1")
        >>> model.reviews.about("USR284", "SESS1", "1").question, model.reviews.about("USR284", "SESS1", "2")
        ('Pay?', None)
        """
        review_id = self.id_of(call_id, arguments=arguments)
        return self._table.get(Review.at(user_id, session_id, review_id), consistent=True)

    @staticmethod
    def reference(review: Review) -> str:
        """Return a short text that names a review: user, session and review id, joined by slashes.

        >>> question = model.reviews.ask("USR285", "SESS1", "Pay?", queue="payments", call_id="1")
        >>> model.reviews.reference(question) == f"USR285/SESS1/{question.review_id}"
        True
        """
        return f"{review.user_id}/{review.session_id}/{review.review_id}"

    def get(self, which: Which) -> Review:
        """Return a question as it is stored now.

        Raises:
            NotFound: There is no such question, or it has been deleted at the end of its lifetime.
            ValidationError: The text is not the reference of a review.

        >>> question = model.reviews.ask("USR286", "SESS1", "Pay?", queue="payments", call_id="1")
        >>> model.reviews.get(model.reviews.reference(question)).question
        'Pay?'
        """
        key = Review.at(*_named(which))
        review = self._table.get(key, consistent=True)
        if review is None:
            raise NotFound("review", "/".join(_named(which)))
        return review

    def status(self, which: Which) -> ReviewStatus:
        """Return the status of a question now, taking its deadline and the end of a claim into account.

        >>> question = model.reviews.ask("USR287", "SESS1", "Pay?", queue="payments", call_id="1")
        >>> model.reviews.status(question)
        'pending'
        """
        return status_now(self.get(which), self._now())

    def answer(self, which: Which) -> Answer | None:
        """Return the answer to a question, or None while it is open.

        >>> question = model.reviews.ask("USR288", "SESS1", "Pay?", queue="payments", call_id="1")
        >>> model.reviews.answer(question)
        >>> model.reviews.answer(model.reviews.decide(question, "respond", "lee", response="It is paid.")).response
        'It is paid.'
        """
        return answer_of(self.get(which), self._now())

    def inbox(self, queue: str = DEFAULT_QUEUE, *, limit: int = 100, cursor: str | None = None) -> Page[Review]:
        """Return a page of the open questions of a queue, the one with the nearest deadline first, for reviewers.

        >>> question = model.reviews.ask("USR289", "SESS1", "Pay?", queue="invoices", call_id="1")
        >>> [one.user_id for one in model.reviews.inbox("invoices")]
        ['USR289']
        """
        asked = ("reviews", queue)
        items, last = self._queued(queue, limit, None if cursor is None else read_cursor(asked, cursor))
        reviews, unreadable = split_readable(items, Review)
        now = self._now()
        still = tuple(review for review in reviews if status_now(review, now) in OPEN)
        return Page(still, None if last is None else write_cursor(asked, last), tuple(unreadable))

    def _queued(self, queue: str, limit: int | None, start: Item | None) -> tuple[list[Item], Item | None]:
        found = self._table.query(Query(keys.REVIEW_QUEUE.build(queue), INDEX), limit=limit, start=start)
        return found.items, found.last

    # Answer

    def claim(self, which: Which, by: str, *, minutes: float = 15.0) -> Review:
        """Claim a question for some minutes; nobody else can answer it until then.

        Raises:
            Conflict: The question is claimed by another person, has been answered, or has expired.

        >>> question = model.reviews.ask("USR290", "SESS1", "Pay?", queue="payments", call_id="1")
        >>> question = model.reviews.claim(question, "lee")
        >>> model.reviews.decide(question, "approve", "kim")
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.Conflict: review 2ef3049c7150e0ce096aa7a32c2540a8 is claimed by lee: try ...
        """

        def change(review: Review, at: datetime) -> None:
            still_open(review, at, by=person(by))
            review.status = "claimed"
            review.claimed_by = by
            review.claimed_until = at + timedelta(minutes=minutes)

        return self._change(which, change, "claimed", by=by)

    def release(self, which: Which, by: str) -> Review:
        """Release a claimed question.

        >>> question = model.reviews.ask("USR291", "SESS1", "Pay?", queue="payments", call_id="1")
        >>> question = model.reviews.release(model.reviews.claim(question, "lee"), "lee")
        >>> question.status
        'pending'
        """

        def change(review: Review, at: datetime) -> None:
            still_open(review, at, by=by)
            review.status, review.claimed_by, review.claimed_until = "pending", None, None

        return self._change(which, change, "released", by=by)

    def decide(
        self,
        which: Which,
        decision: Decision,
        by: str,
        *,
        reason: str | None = None,
        arguments: Any = None,
        response: str | None = None,
        arguments_hash: str | None = None,
    ) -> Review:
        """Answer a question about a step before it is taken; of several people who try at once, one succeeds.

        Args:
            which: The question.
            decision: ``approve`` the call as it is, ``edit`` its arguments, ``reject`` it, or ``respond`` instead.
            by: Who decides.
            reason: Why; required for a rejection.
            arguments: With ``edit``: the arguments to call the tool with.
            response: With ``respond``: the text to return instead of the tool's result.
            arguments_hash: Hash of the arguments that the person saw; refused if the question is about others.

        Raises:
            Conflict: The question has been answered, has expired, or is claimed by another person.
            ValidationError: The answer is not allowed, or a part of it is missing.

        >>> question = model.reviews.ask("USR292", "SESS1", "Pay?", queue="payments", call_id="1")
        >>> model.reviews.decide(question, "reject", "lee", reason="too dear").status
        'rejected'
        """
        reason, response = storable_text(reason, limit=_NOTE_BYTES), storable_text(response)

        def change(review: Review, at: datetime) -> None:
            check_decision(
                review,
                decision,
                by,
                at,
                reason=reason,
                arguments=arguments,
                response=response,
                arguments_hash=arguments_hash,
            )
            if decision == "edit":
                self._check_can_be_kept(review, arguments)
            review.final_arguments = arguments if decision == "edit" else review.arguments
            review.response = response
            close(review, _ANSWERED[decision], decision, by, at, reason=reason)

        return self._change(which, change, decision, by=by, note=reason)

    def _check_can_be_kept(self, review: Review, arguments: Any) -> None:
        """Raise an error for edited arguments with what would be redacted: the tool would be called with its mark."""
        redacted = self._table.redaction.value(arguments)
        if redacted != arguments:
            raise ValidationError(
                "arguments",
                redacted,
                "cannot be edited like this because what is redacted cannot be kept, and the tool would be called with "
                "what stands for it: reject the call, or respond",
            )
        unknown = sorted(marked_texts(arguments) - marked_texts(review.arguments))
        if self._table.redaction.active and unknown:
            raise ValidationError(
                "arguments",
                unknown[0],
                "must have a redacted value exactly as the question shows it: leave it as it is",
            )

    def cancel(self, which: Which, by: str, *, reason: str | None = None) -> Review:
        """Withdraw a question; its step is not taken.

        >>> question = model.reviews.ask("USR293", "SESS1", "Pay?", queue="payments", call_id="1")
        >>> model.reviews.cancel(question, "lee").status
        'cancelled'
        """
        reason = storable_text(reason, limit=_NOTE_BYTES)

        def change(review: Review, at: datetime) -> None:
            still_open(review, at, by=None)
            close(review, "cancelled", "reject", by, at, reason=reason)

        return self._change(which, change, "cancelled", by=by, note=reason)

    def verdict(
        self, which: Which, verdict: Verdict, by: str, *, outcome: bool | None = None, reason: str | None = None
    ) -> Review:
        """Give a verdict on a run, and correct its outcome; scores follow from the next refresh on.

        The recorded outcome is kept beside the corrected one (``SessionSuccYN``, ``ReviewedSuccYN``).

        Args:
            which: A question of phase ``post``.
            verdict: ``correct``, ``partly``, ``wrong`` or ``harmful``.
            by: Who judges.
            outcome: Whether the run succeeded. When not given, ``correct`` means yes, ``wrong`` and ``harmful`` mean
                no, and ``partly`` corrects nothing.
            reason: Why.

        Raises:
            Conflict: The question has been answered, has expired, or is claimed by another person.
            ValidationError: The question is about a step before it is taken.
            NotFound: The run does not exist any more.

        >>> with model.session("USR294", "a café") as session:
        ...     session.succeed()
        >>> question = model.reviews.ask("USR294", session.session_id, "Was it right?", phase="post", queue="runs")
        >>> model.reviews.verdict(question, "wrong", "lee", reason="it is closed").verdict
        'wrong'
        >>> model.repository.session("USR294", session.session_id).corrected
        False
        """
        meant = {"correct": True, "partly": None}.get(verdict, False) if outcome is None else outcome
        reason = storable_text(reason, limit=_NOTE_BYTES)

        def change(review: Review, at: datetime) -> None:
            if review.phase != "post":
                raise ValidationError(
                    "phase", review.phase, "must be `post`: answer a question about a step with `Reviews.decide`"
                )
            still_open(review, at, by=person(by))
            if meant is not None and self._repository.session(review.user_id, review.session_id) is None:
                raise NotFound("session", f"{review.user_id} {review.session_id}")
            queue, due_at = review.queue, review.due_at
            close(review, "completed", None, by, at, reason=reason)
            review.verdict, review.outcome = verdict, meant
            review.queue, review.due_at = queue, due_at  # it leaves the queue when the outcome is corrected

        review = self._apply(self._change(which, change, f"verdict {verdict}", by=by, note=reason))
        for listener in self.on_verdict:
            listener(review)
        return review

    def _apply(self, review: Review) -> Review:
        """Correct the outcome of the run; if the process dies meanwhile, the next sweep does it.

        A run that was deleted after the verdict stays deleted; the question leaves its queue all the same.
        """
        session = None
        if review.outcome is not None:
            session = self._repository.session(review.user_id, review.session_id)
            if session is not None and session.corrected != review.outcome:
                session.corrected = review.outcome
                self._recorder.record(session)

        def change(review: Review, _: datetime) -> None:
            review.queue, review.due_at = None, None

        gone = review.outcome is not None and session is None
        note = "the run does not exist any more" if gone else None
        return self._change(review, change, "applied", by=review.decided_by or "", note=note)

    # Deadlines

    def sweep(self, queue: str = DEFAULT_QUEUE) -> Swept:
        """Expire and escalate the overdue questions of a queue, and apply verdicts that are not applied yet.

        >>> model.reviews.sweep("payments").expired
        0
        """
        expired = escalated = applied = 0
        for review in split_readable(self._queued(queue, None, None)[0], Review)[0]:
            at = self._now()
            try:
                if review.status == "completed":
                    self._apply(review)
                    applied += 1
                elif is_past(review.answer_until, at):
                    done = self._change(review, expire, "expired", by="")
                    expired += 1
                    if self._report is not None:
                        self._report("review.expired", done)
                elif is_past(review.escalate_at, at) and review.escalate_to not in (None, review.queue):
                    done = self._change(review, escalate, "escalated", by="", note=review.escalate_to)
                    escalated += 1
                    if self._report is not None:
                        self._report("review.escalated", done)
            except Conflict:
                continue  # a person answered it meanwhile
        return Swept(expired, escalated, applied)

    # Write

    def _change(
        self,
        which: Which,
        change: Callable[[Review, datetime], None],
        what: str,
        *,
        by: str,
        note: str | None = None,
    ) -> Review:
        """Read, change, and write over the version that was read; again if it was changed meanwhile."""
        for _ in range(_ATTEMPTS):
            review = self.get(which)
            at, before = self._now(), review.status
            change(review, at)
            event = event_of(at, what, by=by, note=self._redact(note), before=before or "", after=review.status or "")
            review.trail = with_event(review.trail, event)
            try:
                self._writer.save(review, existing=True)
            except StaleVersion:
                continue
            self._repository.invalidate([review])
            return review
        raise Conflict(f"review {_named(which)[2]} was changed by others {_ATTEMPTS} times in a row: try again")


def _named(which: Which) -> tuple[str, str, str]:
    if isinstance(which, Review):
        return which.user_id, which.session_id, which.review_id
    parts = which.split("/", 2) if isinstance(which, str) else ()
    if len(parts) != 3:
        raise ValidationError("review", which, "must be user, session and review id, joined by slashes")
    return parts[0], parts[1], parts[2]


def _new_id(at: datetime) -> str:
    return f"{keys.format_time('asked_at', at)}-{uuid.uuid4().hex[:8]}"


def _stable_id(phase: str, call_id: str, digest: str) -> str:
    return hashlib.sha256(json.dumps([phase, call_id, digest]).encode()).hexdigest()[:32]
