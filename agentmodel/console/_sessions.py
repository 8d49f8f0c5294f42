"""Sessions: all of them by time, and one of them with its calls and where it went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlencode

from starlette.responses import Response

from agentmodel import keys
from agentmodel._lookup.diagnosis import diagnose, failed
from agentmodel._lookup.ids import Ids
from agentmodel._lookup.sessions import SessionFinder, SessionPage
from agentmodel.client import AgentModel
from agentmodel.console._entrance import Visit
from agentmodel.console._reader import WarehouseReader
from agentmodel.console._site import Site
from agentmodel.console._timeline import span, timeline
from agentmodel.dynamo.models import Review, Suggestion, ToolExecution, UserSession
from agentmodel.exceptions import NotFound

if TYPE_CHECKING:
    from agentmodel.redshift.session_list import SessionFilter

__all__ = ["SPANS", "SessionPages"]

_SHOWN = 50  # sessions of a page
_ITEMS = 300  # of a session's page: its steps, calls and questions
SPANS = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
_NARROW = ("user", "agent", "tool", "category", "outcome", "text", "since", "sort")
_Outcome = Literal["succeeded", "failed", "unknown"]


class SessionPages:
    """The pages of sessions.

    Args:
        model: The installation.
        site: Makes the pages.
        reader: Gives the warehouse.
    """

    def __init__(self, model: AgentModel, site: Site, reader: WarehouseReader) -> None:
        self._model, self._site, self._reader, self._list = model, site, reader, SessionFinder(model)

    def sessions(self, visit: Visit) -> Response:
        """Show sessions, newest first: those of all users to an operator, to others their own.

        A user's own ones come from table and Valkey, with what was recorded a moment ago; those of several users, and
        those that are searched for, from the warehouse as of the last refresh, with newer ones, which are marked.
        """
        asked = {name: visit.asked(name) for name in _NARROW}
        is_operator = "operator" in visit.caller.roles
        narrowed = any(asked[name] for name in _NARROW if name != "user")
        cursor = visit.asked("after") or None
        page, fresh, missing = SessionPage((), None), False, False
        if not self._reader.is_set:
            user = self._user(visit, asked["user"])
            fresh = user is not None and not narrowed
            missing = not fresh
            if fresh:
                page = self._list.of_user(cast("str", user), limit=_SHOWN, cursor=cursor)
        else:
            with self._reader.opened() as warehouse:
                user = self._user(visit, asked["user"])
                fresh = user is not None and not narrowed
                if fresh:
                    page = self._list.of_user(cast("str", user), limit=_SHOWN, cursor=cursor)
                else:
                    page = self._list.of_all(
                        warehouse, self._narrowed(user, asked), limit=_SHOWN, cursor=cursor,
                        oldest_first=asked["sort"] == "oldest",
                    )  # fmt: skip
        query = urlencode({name: text for name, text in asked.items() if text})
        older = f"?{query}{'&' if query else ''}{urlencode({'after': page.cursor})}"
        return self._site.page(
            visit.request, "sessions.html", visit, rows=page.rows, asked=asked, is_operator=is_operator, fresh=fresh,
            missing=missing, after=cursor, complete=page.complete, first=f"?{query}",
            older=None if page.cursor is None else older,
        )  # fmt: skip

    def _user(self, visit: Visit, text: str) -> str | None:
        """Return the user whose sessions are shown; None for those of all users."""
        if "operator" in visit.caller.roles:
            return Ids(self._model).user(text, field="user") if text else None
        return visit.caller.history_of(keys.id_of("USR", text, field="user") if text else None)

    def _narrowed(self, user: str | None, asked: dict[str, str]) -> SessionFilter:
        from agentmodel.redshift.session_list import SessionFilter

        ids, span = Ids(self._model), SPANS.get(asked["since"])
        outcome = asked["outcome"] if asked["outcome"] in ("succeeded", "failed", "unknown") else None
        return SessionFilter(
            user_id=user,
            since=None if span is None else datetime.now(UTC) - span,
            category=asked["category"] or None,
            agent=ids.agent(asked["agent"] or None, field="agent"),
            tool=ids.tool(asked["tool"] or None, field="tool"),
            outcome=cast("_Outcome | None", outcome),
            text=asked["text"] or None,
        )

    def session(self, visit: Visit) -> Response:
        """Show one session: how it ended and why, its calls, questions, and its plan beside what was done."""
        path = visit.request.path_params
        user = visit.caller.history_of(path["user"])
        repository = self._model.repository
        session = repository.session(user, path["session"])
        if session is None:
            raise NotFound("session", f"{user} {path['session']}")
        cursor = visit.asked("after") or None
        history = repository.session_history(user, session.session_id, limit=_ITEMS, cursor=cursor)
        names = {step.process_id: step.name for step in history.processes}
        calls, now, plan = history.executions, datetime.now(UTC), self._plan(session)
        agents = {agent_id: repository.agent(agent_id) for agent_id in dict.fromkeys(c.agent_id for c in calls)}
        return self._site.page(
            visit.request, "session.html", visit, session=session, user=repository.user(user), steps=names, calls=calls,
            reviews=history.reviews, found=diagnose(session, history), is_part=bool(history.cursor or cursor),
            complete=history.complete, timeline=timeline(calls, names, history.reviews, now=now), failed=failed,
            plan=plan, beside=_beside(plan or [], _names_of(calls)), waited=_waited, now=now, **self._paid(calls),
            agents={key: agent.name for key, agent in agents.items() if agent is not None},
            older=None if history.cursor is None else f"?{urlencode({'after': history.cursor})}",
            reference=self._model.reviews.reference,
        )  # fmt: skip

    def _paid(self, calls: Sequence[ToolExecution]) -> dict[str, Any]:
        """Return what calls took and cost, together and each; None where no prices are set."""
        prices = self._model.prices
        return {
            "totals": {
                "calls": len(calls),
                "failed": sum(map(failed, calls)),
                "milliseconds": sum(call.duration_ms or 0 for call in calls),
                "input": sum(call.input_tokens or 0 for call in calls),
                "output": sum(call.output_tokens or 0 for call in calls),
                "cost": None if prices is None else prices.total(calls),
            },
            "priced": prices is not None,
            "costs": [None if prices is None else prices.cost(call) for call in calls],
        }

    def _plan(self, session: UserSession) -> list[str] | None:
        """Return the tools of the plan that the session followed; None where it had none."""
        if not session.suggestion_id:
            return None
        suggestion = self._model.table.get(Suggestion.at(session.user_id, session.suggestion_id))
        if suggestion is None or not suggestion.choice:
            return None
        tools = {tool.tool_id: tool.name for tool in self._model.repository.agent_tools(suggestion.choice)}
        return [tools.get(tool_id, tool_id) for tool_id in suggestion.steps]


def _beside(planned: list[str], made: list[str]) -> list[tuple[str, str]]:
    """Return the steps of a plan beside those that were made; '' where the other has none.

    >>> _beside(["find", "rate", "book"], ["find", "book", "pay"])
    [('find', 'find'), ('rate', ''), ('book', 'book'), ('', 'pay')]
    """
    rows: list[tuple[str, str]] = []
    for kind, a, b, c, d in SequenceMatcher(None, planned, made, autojunk=False).get_opcodes():
        if kind == "equal":
            rows += zip(planned[a:b], made[c:d], strict=True)
        else:
            rows += [(name, "") for name in planned[a:b]] + [("", name) for name in made[c:d]]
    return rows


def _waited(review: Review, now: datetime) -> str:
    """Return how long a question waited for a person; '' where it was asked of nobody."""
    if review.asked_at is None or review.source is not None:
        return ""
    return span(max(((review.decided_at or now) - review.asked_at).total_seconds(), 0.0))


def _names_of(calls: Sequence[ToolExecution]) -> list[str]:
    """Return the tools in their order; a tool that was called again at once counts once."""
    names: list[str] = []
    for call in calls:
        if not names or names[-1] != call.tool_name:
            names.append(call.tool_name)
    return names
