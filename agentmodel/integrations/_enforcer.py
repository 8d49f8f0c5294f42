"""Carry out a guard's decisions about the calls of tracked runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker
from agentmodel.suggest.guard import Enforcer, Guard, GuardDecision, Resolution
from agentmodel.suggest.plan import Language, Plan

__all__ = ["RunEnforcer", "prompt_of"]


class RunEnforcer(Enforcer):
    """Carries out a guard's decisions about the calls of tracked runs.

    Args:
        guard: Decides about each call.
        tracker: Counts and logs what fails.
    """

    def __init__(self, guard: Guard, tracker: Tracker) -> None:
        super().__init__(guard, failed=tracker.failed)
        self._reported = tracker.reported

    def plan(
        self, run: TrackedRun, *, request: str | None, category: str | None, domain_id: str | None = None
    ) -> Plan | None:
        """Return a plan for a run's request; see `Guard.plan`. It waits for the stores."""
        return self.guard.plan(
            run.user_id, request=request, category=category, domain_id=domain_id, session_id=run.session_id
        )

    def resolve_call(
        self,
        run: TrackedRun,
        agent: str,
        tool: str,
        arguments: Any,
        *,
        call_id: str | None = None,
        scope: str = "",
        asked: tuple[int, datetime | None] | None = None,
        **more: Any,
    ) -> Resolution:
        """Return what happens to a call.

        Args:
            run: The session.
            agent: Name of the agent.
            tool: Name of the tool.
            arguments: What the model requested.
            call_id: The framework's id of the call.
            scope: As in `TrackedRun.turn`.
            asked: How many calls of this id the model asked for, and when for the last one; None takes that from the
                turns of the run.
            more: Further arguments of `Guard.before`.
        """
        if asked is None:
            asked = (1, None) if call_id is None else run.asked(call_id, scope=scope)

        def decide() -> GuardDecision:
            return self.guard.before(
                agent_id=run.agent_id(agent),
                tool_id=run.tool_id(tool),
                tool=tool,
                arguments=arguments,
                user_id=run.user_id,
                session_id=run.session_id,
                call_id=call_id,
                asked=asked[0],
                asked_at=asked[1],
                **more,
            )

        resolution = self.resolve(tool, arguments, decide=decide)
        if resolution.waits and call_id is not None:
            self._reported.note(call_id, tool, datetime.now(UTC))  # the span of a call that waits is no call either
        return resolution


def prompt_of(plan: Plan | None, *, language: Language = "en") -> str | None:
    """Return a plan as text for the prompt; None if there is no plan, it is withheld, or it says nothing."""
    if plan is None or plan.source == "withheld" or (plan.source == "nothing known" and not plan.avoid):
        return None
    return plan.as_prompt(language=language)
