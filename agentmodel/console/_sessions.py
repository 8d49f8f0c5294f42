"""Sessions: all of them by time, and one of them with its calls and where it went wrong."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast
from urllib.parse import urlencode

from starlette.responses import Response

from agentmodel import keys
from agentmodel.client import AgentModel
from agentmodel.console._diagnosis import diagnose
from agentmodel.console._entrance import Visit
from agentmodel.console._reader import WarehouseReader
from agentmodel.console._site import Site
from agentmodel.console._timeline import failed, timeline
from agentmodel.dynamo.models import Suggestion, UserSession
from agentmodel.exceptions import CursorError, NotFound

__all__ = ["SessionPages"]

_SHOWN = 50  # sessions of a page
_ITEMS = 300  # of a session's page: its steps, calls and questions
_SPANS = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
_NARROW = ("user", "agent", "tool", "category", "outcome", "text", "since")
_Outcome = Literal["succeeded", "failed", "unknown"]


class SessionPages:
    """The pages of sessions.

    Args:
        model: The installation.
        site: Makes the pages.
        reader: Gives the warehouse.
    """

    def __init__(self, model: AgentModel, site: Site, reader: WarehouseReader) -> None:
        self._model, self._site, self._reader = model, site, reader

    def sessions(self, visit: Visit) -> Response:
        """Show sessions, newest first: those of all users to an operator, to others their own.

        A user's own ones come from table and Valkey, with what was recorded a moment ago; those of several users, and
        those that are searched for, from the warehouse as of the last refresh.
        """
        asked = {name: visit.asked(name) for name in _NARROW}
        user = keys.id_of("USR", asked["user"], field="user") if asked["user"] else None
        is_operator = "operator" in visit.caller.roles
        if user is not None or not is_operator:
            user = visit.caller.history_of(user)
        narrowed = any(asked[name] for name in _NARROW if name != "user")
        fresh = user is not None and not narrowed
        if not self._reader.is_set and not fresh:
            rows, older, missing = [], None, True
        elif fresh:
            rows, older, missing = *self._own(cast("str", user), visit.asked("after")), False
        else:
            rows, older, missing = *self._all(user, asked, visit.asked("after")), False
        query = urlencode({name: text for name, text in asked.items() if text})
        return self._site.page(
            visit.request, "sessions.html", visit, rows=rows, asked=asked, is_operator=is_operator, fresh=fresh,
            missing=missing, narrowed=narrowed, after=visit.asked("after"),
            older=None if older is None else f"?{query}{'&' if query else ''}{urlencode({'after': older})}",
        )  # fmt: skip

    def _own(self, user: str, cursor: str) -> tuple[list[dict[str, Any]], str | None]:
        page = self._model.repository.sessions(user, _SHOWN, cursor=cursor or None)
        return [_row_of(session, self._model.repository.outcome(session)) for session in page], page.cursor

    def _all(self, user: str | None, asked: dict[str, str], cursor: str) -> tuple[list[dict[str, Any]], str | None]:
        with self._reader.opened() as warehouse:
            from agentmodel.redshift.session_list import SessionFilter, newest_sessions

            span = _SPANS.get(asked["since"])
            outcome = asked["outcome"] if asked["outcome"] in ("succeeded", "failed", "unknown") else None
            narrow = SessionFilter(
                user_id=user,
                since=None if span is None else datetime.now(UTC) - span,
                category=asked["category"] or None,
                agent=asked["agent"] or None,
                tool=asked["tool"] or None,
                outcome=cast("_Outcome | None", outcome),
                text=asked["text"] or None,
            )
            found = newest_sessions(warehouse, narrow, after=_read_position(cursor), limit=_SHOWN + 1)
        rows = [asdict(each) for each in found[:_SHOWN]]
        return rows, _write_position(found[_SHOWN - 1].position) if len(found) > _SHOWN else None

    def session(self, visit: Visit) -> Response:
        """Show one session: how it ended and why, its calls, questions, and its plan beside what was done."""
        path = visit.request.path_params
        user = visit.caller.history_of(path["user"])
        repository = self._model.repository
        session = repository.session(user, path["session"])
        if session is None:
            raise NotFound("session", f"{user} {path['session']}")
        history = repository.session_history(
            user, session.session_id, limit=_ITEMS, cursor=visit.asked("after") or None
        )
        names = {step.process_id: step.name for step in history.processes}
        calls = history.executions
        found = diagnose(session, calls, history.reviews)
        agents = {agent_id: repository.agent(agent_id) for agent_id in dict.fromkeys(c.agent_id for c in calls)}
        return self._site.page(
            visit.request, "session.html", visit, session=session, user=repository.user(user), steps=names, calls=calls,
            reviews=history.reviews, found=found, is_part=bool(history.cursor or visit.asked("after")),
            complete=history.complete, timeline=timeline(calls, names), plan=self._plan(session),
            done=_names_of(calls), failed=failed,
            agents={key: agent.name for key, agent in agents.items() if agent is not None},
            totals={
                "calls": len(calls),
                "failed": sum(map(failed, calls)),
                "milliseconds": sum(call.duration_ms or 0 for call in calls),
                "input": sum(call.input_tokens or 0 for call in calls),
                "output": sum(call.output_tokens or 0 for call in calls),
                "cost": None if self._model.prices is None else self._model.prices.total(calls),
            },
            older=None if history.cursor is None else f"?{urlencode({'after': history.cursor})}",
            reference=self._model.reviews.reference,
        )  # fmt: skip

    def _plan(self, session: UserSession) -> list[str] | None:
        """Return the tools of the plan that the session followed; None where it had none."""
        if not session.suggestion_id:
            return None
        suggestion = self._model.table.get(Suggestion.at(session.user_id, session.suggestion_id))
        if suggestion is None or not suggestion.choice:
            return None
        tools = {tool.tool_id: tool.name for tool in self._model.repository.agent_tools(suggestion.choice)}
        return [tools.get(tool_id, tool_id) for tool_id in suggestion.steps]


def _names_of(calls: Any) -> list[str]:
    """Return the tools in their order; a tool that was called again at once counts once."""
    names: list[str] = []
    for call in calls:
        if not names or names[-1] != call.tool_name:
            names.append(call.tool_name)
    return names


def _row_of(session: UserSession, outcome: bool | None) -> dict[str, Any]:
    return {
        "user_id": session.user_id,
        "session_id": session.session_id,
        "started": session.started_at,
        "request": session.request or session.name,
        "category": session.category or "",
        "outcome": outcome,
        "calls": None,
        "failed": None,
        "agents": (),
    }


def _write_position(position: tuple[str, str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _read_position(text: str) -> tuple[str, str, str] | None:
    if not text:
        return None
    try:
        started, session_id, user_id = json.loads(base64.urlsafe_b64decode(text.encode()))
    except ValueError:
        raise CursorError(value=text) from None
    if not all(isinstance(each, str) for each in (started, session_id, user_id)):
        raise CursorError(value=text)
    return started, session_id, user_id
