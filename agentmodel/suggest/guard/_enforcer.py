"""Enforcer: carries out what a guard decided about a call, the same way for every framework.

    enforcer = Enforcer(guard, failed=count_and_log)
    resolution = enforcer.resolve("pay", arguments, decide=lambda: guard.before(...))
    while resolution.waits:                                # a person must decide
        resolution = enforcer.answer(resolution, ask(resolution.review))
    if resolution.permits:
        result = pay(**resolution.arguments)               # record it with resolution.status
        enforcer.keep(resolution, result)
    else:
        result = resolution.content                        # the model reads this; record it with resolution.status

A framework supplies what is its own: how the call is made, how a person is asked, and how a result looks in its types.
The methods wait for stores and never raise: an asynchronous framework runs them in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pydantic

from agentmodel._redaction import restored
from agentmodel.dynamo.models import Review, Status
from agentmodel.exceptions import Conflict, ValidationError
from agentmodel.suggest.guard._decision import Blocked, Cached, Go, GuardDecision
from agentmodel.suggest.guard._guard import Guard
from agentmodel.suggest.guard._interrupt import InterruptAnswer
from agentmodel.suggest.guard._texts import call_again_text, edited_text, not_permitted_text, undecided_text
from agentmodel.suggest.review import Answer

__all__ = ["Enforcer", "Resolution"]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What happens to a call: it is made, or the model reads something instead, or a person must decide first.

    Attributes:
        tool: Name of the tool.
        requested: Arguments that the model requested.
        decision: What the guard decided.
        permits: Whether to make the call, with `arguments`.
        arguments: Arguments to make the call with: as requested, or as a person edited them.
        status: Status to record the call with; None if it is made as requested, and so ends as it ends.
        content: What the model reads instead of a result: a text, or a cached result; None if the call is made.
        is_error: Whether the content says that the call was not made, rather than being a result.
        review: The question to a person, if there is one.
        waits: Whether the person must decide first. The status and the content are for a framework that cannot wait.
        trouble: Why the answer of the person could not be accepted, stored or read; empty if it could.
        answer: What the person, or the deadline of the question, decided.
        notice: What the model reads before the result of an edited call; None if it was not edited.
        call_again: What the model reads of an edited call where the framework cannot change arguments; else None.
    """

    tool: str
    requested: Any
    decision: GuardDecision
    permits: bool
    arguments: Any
    status: Status | None = None
    content: Any = None
    is_error: bool = False
    review: Review | None = None
    waits: bool = False
    trouble: str = ""
    answer: Answer | None = None
    notice: str | None = None
    call_again: str | None = None

    @property
    def keeps(self) -> bool:
        """Whether `Enforcer.keep` caches the result of the call; of any other, nobody has to wait for a thread."""
        return isinstance(self.decision, Go) and self.decision.lookup is not None

    @classmethod
    def of(
        cls, tool: str, requested: Any, decision: GuardDecision, *, answer: Answer | None = None, trouble: str = ""
    ) -> Resolution:
        """Return the resolution of a call for a decision of the guard and an answer to its question."""
        made = cls(tool, requested, decision, permits=True, arguments=requested)
        unmade = replace(made, permits=False)
        match decision:
            case Go():
                return made
            case Cached():
                return replace(unmade, status=decision.status, content=decision.result)
            case Blocked():
                return replace(unmade, status=decision.status, content=decision.message, is_error=True)
        unmade = replace(unmade, review=decision.review, answer=answer, is_error=True)
        if answer is None:
            text = undecided_text(tool, known=not trouble)
            return replace(unmade, status="blocked", content=text, waits=True, trouble=trouble)
        if answer.decision == "respond":
            return replace(unmade, status=answer.call_status, content=answer.response, is_error=False)
        if not answer.permits:
            return replace(unmade, status=answer.call_status, content=not_permitted_text(tool, answer))
        made = replace(made, review=decision.review, answer=answer, status=answer.call_status)
        if answer.decision != "edit":
            return made
        edited = restored(answer.arguments, shown=decision.review.arguments, original=requested)
        answer = replace(answer, arguments=edited)
        notice, again = edited_text(tool, answer), call_again_text(tool, answer)
        return replace(made, arguments=answer.arguments, notice=notice, call_again=again)


class Enforcer:
    """Carries out a guard's decisions.

    If the guard raises, the call is made, unless a person may be asked about the tool: then it is blocked.

    Args:
        guard: Decides about each call.
        failed: Counts and logs what failed; called with what it was, inside ``except``.

    Attributes:
        guard: The same.
    """

    def __init__(self, guard: Guard, *, failed: Callable[[str], None]) -> None:
        self.guard = guard
        self._failed = failed

    def resolve(self, tool: str, arguments: Any, *, decide: Callable[[], GuardDecision]) -> Resolution:
        """Return what happens to a call.

        Args:
            tool: Name of the tool.
            arguments: Arguments that the model requested.
            decide: Calls `Guard.before`.
        """
        try:
            decision = decide()
        except Exception:  # noqa: BLE001  # a failure of the guard is never the agent's: it is counted and logged
            self._failed(f"the decision about a call of {tool}")
            return self.undecided(tool, arguments)
        resolution = Resolution.of(tool, arguments, decision)
        return self.answer(resolution) if resolution.waits else resolution

    def undecided(self, tool: str, arguments: Any) -> Resolution:
        """Return what happens to a call that the guard could not decide about."""
        return Resolution.of(tool, arguments, self.guard.undecided(tool))

    def answer(self, resolution: Resolution, given: Any = None) -> Resolution:
        """Store what a person answered, then read what was decided.

        Args:
            resolution: A resolution that waits.
            given: What the person answered, as `InterruptAnswer` or a mapping with its fields; None, ``True`` or ``{}``
                if they may have decided elsewhere.

        Returns:
            The resolution with the decision; one that still waits if there is none, with the reason in `trouble` if
            the answer was not accepted, or could not be stored or read.
        """
        review = resolution.review
        if review is None:
            return resolution
        trouble, answer = self._store(review, resolution.tool, given) if given else "", None
        try:
            answer = self.guard.answer(review)
        except Exception as error:  # noqa: BLE001  # as in `resolve`; the call waits
            self._failed(f"the decision of a person about a call of {resolution.tool}")
            trouble = f"the decision could not be read: {error}"
        return Resolution.of(resolution.tool, resolution.requested, resolution.decision, answer=answer, trouble=trouble)

    def keep(self, resolution: Resolution, result: Any) -> None:
        """Cache the result of a call that was made and succeeded, if the guard allows it."""
        self.guard.after(resolution.decision, result)

    def _store(self, review: Review, tool: str, given: Any) -> str:
        """Store an answer; return what was wrong with it, or nothing."""
        try:
            answer = InterruptAnswer.model_validate(given)
            if answer.decision is not None:
                self.guard.reviews.decide(review, **answer.model_dump())
        except pydantic.ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}".strip() for each in error.errors())
            fields = ", ".join(InterruptAnswer.model_fields)
            return f"the last answer was not accepted: it must be an object with the fields {fields}: {wrong}"
        except (ValidationError, Conflict) as error:
            return f"the last answer was not accepted: {error}"
        except Exception as error:  # noqa: BLE001  # as in `resolve`; the call waits
            self._failed(f"the answer of a person about a call of {tool}")
            return f"the last answer could not be stored: {error}"
        return ""
