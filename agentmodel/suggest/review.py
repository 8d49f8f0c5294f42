"""Review: people are asked before a risky step, and say afterwards how a run went.

Every change of a question is one conditional write over the version it was read from, so two reviewers never both
decide, and what happened to it (its trail) only grows. An answer is bound to the hash of the exact arguments it was
given for. Who does not answer in time has answered: by default with a rejection; that is so from the deadline on,
whether or not anybody has swept it up.
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
from agentmodel.access.pages import Page, read_cursor, sorted_out, write_cursor
from agentmodel.access.recorder import Recorder
from agentmodel.access.repository import Repository
from agentmodel.config import Settings
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.models import Agent, Phase, Review, ReviewStatus, Tool, Verdict
from agentmodel.dynamo.table import INDEX, Query, Table
from agentmodel.dynamo.write import Writer
from agentmodel.exceptions import AlreadyExists, Conflict, NotFound, StaleVersion, ValidationError
from agentmodel.suggest._transitions import (
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
)
from agentmodel.suggest.advise import Failing, Place
from agentmodel.suggest.answers import Answer, Decision, answer_of, arguments_hash, status_now
from agentmodel.suggest.policy import Policy
from agentmodel.suggest.waiting import Waits
from agentmodel.ttl import expiry

__all__ = ["DEFAULT_QUEUE", "Answer", "Decision", "Reviews", "Swept", "Which", "check_decision", "check_terms"]

DEFAULT_QUEUE = "review"
"""Where questions go that name no queue."""

Which: TypeAlias = "Review | str"
"""A review, or its reference: user, session and review id joined by slashes, as `Reviews.reference` gives it."""

_ANSWERED: Mapping[str, ReviewStatus] = {
    "approve": "approved",
    "edit": "edited",
    "reject": "rejected",
    "respond": "responded",
}
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Swept:
    """What `Reviews.sweep` did: questions that expired, were escalated, and verdicts that it finished applying."""

    expired: int = 0
    escalated: int = 0
    applied: int = 0


class Reviews(Waits):
    """Questions to people, and their answers.

    Args:
        settings: Lifetimes.
        table: The table.
        writer: Its writer.
        repository: Reads sessions, and drops near copies.
        recorder: Writes corrected outcomes.
        policy: Says when a person is to be asked.
        now: Gives the present time.
        sleep: Waits some seconds.

    Attributes:
        on_verdict: Called with a question after a verdict on its run was given and applied.
    """

    def __init__(
        self,
        settings: Settings,
        table: Table,
        *,
        writer: Writer,
        repository: Repository,
        recorder: Recorder,
        policy: Policy | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(now, sleep)
        self._settings = settings
        self._table = table
        self._writer = writer
        self._repository = repository
        self._recorder = recorder
        self._policy = policy if policy is not None else Policy(repository)
        self.on_verdict: list[Callable[[Review], None]] = []

    def needed(
        self,
        agent_id: str,
        tool_id: str,
        *,
        tool: Tool | None = None,
        agent: Agent | None = None,
        failing: Mapping[Place, Failing] | None = None,
    ) -> tuple[str, ...]:
        """Why a person should be asked before this agent calls this tool; empty where nobody need.

        What is at hand of the items, and of what fails now, is not read again.
        """
        return self._policy.reasons(agent_id, tool_id, tool=tool, agent=agent, failing=failing)

    # Ask

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
            user_id: Whom the run is for.
            session_id: The run.
            question: What a person is to say.
            phase: Before a step (``pre``), or of a run that has ended (``post``).
            queue: Where the people look who answer.
            process_id: The step.
            agent_id: The agent that wants to take it.
            tool_id: The tool it wants to call.
            arguments: With exactly these arguments; JSON.
            reason: Why a person is asked.
            allowed: What may be answered.
            answer_within: From when on it counts as answered by ``on_expiry``.
            on_expiry: That answer.
            escalate_after: When it moves to another queue.
            escalate_to: That queue.
            call_id: Identity of the call: asked again with the same arguments, it is the same question.

        Returns:
            The question; the one that is there already when it was asked before.

        Raises:
            ValidationError: An argument is not accepted.
        """
        check_terms(allowed, on_expiry, answer_within, escalate_after, escalate_to)
        at = self._now()
        digest = arguments_hash(arguments)
        until = at + answer_within
        review = Review(
            user_id=user_id,
            session_id=session_id,
            review_id=_new_id(at) if call_id is None else _stable_id(phase, call_id, digest),
            question=question,
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
            trail=[event_of(at, "asked", by=agent_id or "", note=reason)],
            expires_at=max(expiry(at, days=self._settings.ttl_days_high), expiry(until, days=1)),
        )
        try:
            self._writer.put_new(review)
        except AlreadyExists:
            return self.get(review)
        self._repository.changed([review])
        return self.get(review)

    # Look

    @staticmethod
    def id_of(call_id: str, *, arguments: Any = None, phase: Phase = "pre") -> str:
        """The review id of the question about a call with these arguments; see `ask`."""
        return _stable_id(phase, call_id, arguments_hash(arguments))

    def about(self, user_id: str, session_id: str, call_id: str, *, arguments: Any = None) -> Review | None:
        """The question that was asked about a call with these arguments, or None."""
        review_id = self.id_of(call_id, arguments=arguments)
        return self._table.get(Review.at(user_id, session_id, review_id), consistent=True)

    @staticmethod
    def reference(review: Review) -> str:
        """A short text that names a review: user, session and review id."""
        return f"{review.user_id}/{review.session_id}/{review.review_id}"

    def get(self, which: Which) -> Review:
        """A question as it stands now.

        Raises:
            NotFound: There is none, or it has outlived its lifetime.
            ValidationError: The reference is none.
        """
        key = Review.at(*_named(which))
        review = self._table.get(key, consistent=True)
        if review is None:
            raise NotFound("review", "/".join(_named(which)))
        return review

    def status(self, which: Which) -> ReviewStatus:
        """Where a question stands now, its deadline and the end of a claim considered."""
        return status_now(self.get(which), self._now())

    def answer(self, which: Which) -> Answer | None:
        """The answer to a question, or None while it is open."""
        return answer_of(self.get(which), self._now())

    def inbox(self, queue: str = DEFAULT_QUEUE, *, limit: int = 100, cursor: str | None = None) -> Page[Review]:
        """The open questions of a queue, the most urgent first; those that expired are left out."""
        asked = ("reviews", queue)
        items, last = self._queued(queue, limit, None if cursor is None else read_cursor(asked, cursor))
        reviews, aside = sorted_out(items, Review)
        now = self._now()
        still = tuple(review for review in reviews if status_now(review, now) in OPEN)
        return Page(still, None if last is None else write_cursor(asked, last), tuple(aside))

    def _queued(self, queue: str, limit: int | None, start: Item | None) -> tuple[list[Item], Item | None]:
        found = self._table.query(Query(keys.REVIEW_QUEUE.build(queue), INDEX), limit=limit, start=start)
        return found.items, found.last

    # Answer

    def claim(self, which: Which, by: str, *, minutes: float = 15.0) -> Review:
        """Keep a question for oneself for a while; nobody else can answer it until then.

        Raises:
            Conflict: Somebody else keeps it, or it is answered, or expired.
        """

        def change(review: Review, at: datetime) -> None:
            still_open(review, at, by=person(by))
            review.status = "claimed"
            review.claimed_by = by
            review.claimed_until = at + timedelta(minutes=minutes)

        return self._change(which, change, "claimed", by=by)

    def release(self, which: Which, by: str) -> Review:
        """Give a claimed question back."""

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
        """Answer a question that is asked before a step; of many who try at once, one does.

        Args:
            which: The question.
            decision: ``approve`` the step as it is, ``edit`` its arguments, ``reject`` it, or ``respond`` in its place.
            by: Who decides.
            reason: Why; a rejection needs one.
            arguments: With ``edit``: the arguments to call with.
            response: With ``respond``: what is given back instead of the tool's result.
            arguments_hash: Of the arguments that the reviewer saw; refused when they are others.

        Raises:
            Conflict: It is answered already, expired, or kept by somebody else.
            ValidationError: The answer is not allowed, or lacks its part.
        """

        def change(review: Review, at: datetime) -> None:
            check_decision(review, decision, by, at, reason=reason, arguments=arguments, response=response)
            if arguments_hash is not None and arguments_hash != review.arguments_hash:
                raise ValidationError("arguments_hash", arguments_hash, "the question is about other arguments")
            review.final_arguments = arguments if decision == "edit" else review.arguments
            review.response = response
            close(review, _ANSWERED[decision], decision, by, at, reason=reason)

        return self._change(which, change, decision, by=by, note=reason)

    def cancel(self, which: Which, by: str, *, reason: str | None = None) -> Review:
        """Withdraw a question: its step is not taken any more."""

        def change(review: Review, at: datetime) -> None:
            still_open(review, at, by=None)
            close(review, "cancelled", "reject", by, at, reason=reason)

        return self._change(which, change, "cancelled", by=by, note=reason)

    def verdict(
        self, which: Which, verdict: Verdict, by: str, *, outcome: bool | None = None, reason: str | None = None
    ) -> Review:
        """Say how a run went; ``outcome`` then corrects its outcome, from the next refresh on.

        The recorded outcome stays beside the corrected one (``SessionSuccYN``, ``ReviewedSuccYN``).

        Args:
            which: A question of phase ``post``.
            verdict: ``correct``, ``partly``, ``wrong`` or ``harmful``.
            by: Who says so.
            outcome: Whether the run succeeded; when not given, only ``correct`` and ``wrong`` or worse say so.
            reason: Why.

        Raises:
            Conflict: It is answered already, expired, or kept by somebody else.
            ValidationError: The question is asked before a step.
            NotFound: The run does not exist any more.
        """
        meant = {"correct": True, "partly": None}.get(verdict, False) if outcome is None else outcome

        def change(review: Review, at: datetime) -> None:
            if review.phase != "post":
                raise ValidationError("phase", review.phase, "a verdict is given after a run; decide this one")
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
        """Correct the outcome of the run; a kill before or after is made good by the next sweep.

        A run that was deleted after the verdict stays deleted: the verdict leaves its queue without it.
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

    # Time

    def sweep(self, queue: str = DEFAULT_QUEUE) -> Swept:
        """Write down what time decided in a queue: expired and escalated questions; and finish verdicts."""
        expired = escalated = applied = 0
        for review in sorted_out(self._queued(queue, None, None)[0], Review)[0]:
            at = self._now()
            try:
                if review.status == "completed":
                    self._apply(review)
                    applied += 1
                elif is_past(review.answer_until, at):
                    self._change(review, expire, "expired", by="")
                    expired += 1
                elif is_past(review.escalate_at, at) and review.escalate_to not in (None, review.queue):
                    self._change(review, escalate, "escalated", by="", note=review.escalate_to)
                    escalated += 1
            except Conflict:
                continue  # somebody answered it meanwhile
        return Swept(expired, escalated, applied)

    # How it is written

    def _change(
        self,
        which: Which,
        change: Callable[[Review, datetime], None],
        what: str,
        *,
        by: str,
        note: str | None = None,
    ) -> Review:
        """Read, change, and write over the version that was read; again when somebody else came first."""
        for _ in range(_TRIES):
            review = self.get(which)
            at, before = self._now(), review.status
            change(review, at)
            event = event_of(at, what, by=by, note=note, before=before or "", after=review.status or "")
            review.trail = [*(review.trail or ()), event]
            try:
                self._writer.save(review, existing=True)
            except StaleVersion:
                continue
            self._repository.changed([review])
            return review
        raise Conflict(f"review {_named(which)[2]} is changed by others all the time: try again")


def _named(which: Which) -> tuple[str, str, str]:
    if isinstance(which, Review):
        return which.user_id, which.session_id, which.review_id
    parts = str(which).split("/", 2)
    if len(parts) != 3:
        raise ValidationError("review", which, "user, session and review id, joined by slashes")
    return parts[0], parts[1], parts[2]


def _new_id(at: datetime) -> str:
    return f"{keys.format_time('asked_at', at)}-{uuid.uuid4().hex[:8]}"


def _stable_id(phase: str, call_id: str, digest: str) -> str:
    return hashlib.sha256(json.dumps([phase, call_id, digest]).encode()).hexdigest()[:32]
