"""Where a session went wrong: the calls whose failure nothing made good, and what people decided."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agentmodel.access.repository import SessionHistory
from agentmodel.dynamo.models import Review, ToolExecution, UserSession

__all__ = ["Diagnosis", "diagnose", "failed"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known of how a session went.

    Attributes:
        outcome: Whether it succeeded, see `SessionHistory.outcome`; of a part of a long session, by the calls in it.
        basis: Where the outcome is from: ``reviewed``, ``reported``, ``recorded``, ``calls`` or ``nothing``.
        unresolved: Failed calls that no later call of the same tool made good, in their order.
        recovered: How many failed calls a later one made good.
        refused: Questions that ended against the call: rejected, expired or cancelled.
        is_open: Whether the session has neither an end nor a recorded outcome.
    """

    outcome: bool | None
    basis: str
    unresolved: tuple[ToolExecution, ...]
    recovered: int
    refused: tuple[Review, ...]
    is_open: bool


def failed(call: ToolExecution) -> bool:
    """Return whether a call failed or was not made."""
    return not call.succeeded and call.status not in ("cache_hit", "edited")


def diagnose(session: UserSession, history: SessionHistory) -> Diagnosis:
    """Return where a session went wrong.

    A failed call counts as made good when the same tool of the same agent succeeds later in the session.

    Args:
        session: The session.
        history: Its calls in their order, and its questions.
    """
    unresolved: list[ToolExecution] = []
    worked: set[tuple[str, str]] = set()
    recovered = 0
    for call in reversed(history.executions):
        tool = call.agent_id, call.tool_id
        if not failed(call):
            worked.add(tool)
        elif tool in worked:
            recovered += 1
        else:
            unresolved.append(call)
    outcome = history.outcome(reviewed=session.corrected, recorded=session.succeeded)
    if outcome is None and history.cursor is not None and history.executions:
        outcome = not unresolved
    reported = replace(history, complete=False).outcome()  # without its calls
    known = (
        ("reviewed", session.corrected),
        ("reported", reported),
        ("recorded", session.succeeded),
        ("calls", outcome),
    )
    basis = next((name for name, said in known if said is not None), "nothing")
    refused = tuple(r for r in history.reviews if r.decision == "reject" or r.status in ("rejected", "cancelled"))
    is_open = session.ended_at is None and session.succeeded is None
    return Diagnosis(outcome, basis, tuple(reversed(unresolved)), recovered, refused, is_open)
