"""The inbox: open questions of a queue, one of them with what a person needs to decide it, and its answer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast, get_args

from starlette.responses import RedirectResponse, Response

from agentmodel._lookup.diagnosis import failed
from agentmodel._runtime.process import ForkSafeLock
from agentmodel.client import AgentModel
from agentmodel.console._decisions import DecisionPages
from agentmodel.console._entrance import Visit
from agentmodel.console._form import edited_arguments, fields_of
from agentmodel.console._site import Site
from agentmodel.console._timeline import timeline
from agentmodel.dynamo.models import VERDICTS, Review, Tool
from agentmodel.exceptions import Conflict, ValidationError
from agentmodel.suggest.review import DEFAULT_QUEUE, Decision, status_now

__all__ = ["InboxPages"]

_SHOWN = 50  # questions of a list
_CALLS = 8  # of the session so far
_ITEMS = 200  # of the session, that they are looked for in
_NEWS_SECONDS = 2.0  # for which one read of a queue answers every page that asks for news
_SOON = 15 * 60  # seconds before the deadline


class InboxPages:
    """The pages of the inbox.

    Args:
        model: The installation.
        site: Makes the pages.
        decisions: Knows what was decided before.
    """

    def __init__(self, model: AgentModel, site: Site, decisions: DecisionPages) -> None:
        self._model, self._site, self._decisions = model, site, decisions
        self._news: dict[str, tuple[float, str]] = {}
        self._lock = ForkSafeLock()

    def home(self, visit: Visit) -> Response:
        """Lead to the first page that somebody may see."""
        page = "inbox" if "reviewer" in visit.caller.roles else "sessions"
        return RedirectResponse(visit.request.url_for(page).path, 303)

    def inbox(self, visit: Visit) -> Response:
        """Show the questions of a queue, and one of them."""
        return self._page(visit)

    def news(self, visit: Visit) -> Response:
        """Answer 304 while the questions of a queue are those that the page shows."""
        visit.caller.need("reviewer")
        queue = visit.asked("queue") or DEFAULT_QUEUE
        with self._lock:
            read, version = self._news.get(queue, (-_NEWS_SECONDS, ""))
            if time.monotonic() - read >= _NEWS_SECONDS:
                version = _version(self._open(queue))
                if len(self._news) >= 100:
                    self._news.clear()
                self._news[queue] = time.monotonic(), version
        tag = f'"{version}"'
        same = visit.request.headers.get("if-none-match") == tag
        return Response(status_code=304 if same else 200, headers={"etag": tag, "cache-control": "no-cache"})

    def _open(self, queue: str) -> list[Review]:
        return list(self._model.reviews.inbox(queue, limit=_SHOWN))

    def _page(
        self, visit: Visit, *, status: int = 200, problem: str = "", typed: Mapping[str, str] | None = None
    ) -> Response:
        visit.caller.need("reviewer")
        ref, now = visit.request.path_params.get("ref"), datetime.now(UTC)
        chosen = None if ref is None else self._model.reviews.get(ref)
        queue = visit.asked("queue") or (chosen and chosen.queue_name) or DEFAULT_QUEUE
        found = self._open(queue)
        current = chosen or next(iter(found), None)
        here = "review" if ref else "inbox"
        return self._site.page(
            visit.request,
            "inbox.html",
            visit,
            status=status,
            queue=queue,
            version=_version(found),
            chosen=ref is not None,
            here=visit.request.url_for(here, **({"ref": ref} if ref else {})).path,
            done=visit.asked("done"),
            problem=problem,
            rows=[self._row(review, now) for review in found],
            current=None if current is None else self._detail(visit, current, now, typed or {}),
        )

    def _row(self, review: Review, now: datetime) -> dict[str, Any]:
        tool = self._tool(review)
        return {
            "review": review,
            "ref": self._model.reviews.reference(review),
            "status": status_now(review, now),
            "left": _left(review, now),
            "soon": _left(review, now) < _SOON,
            "tool": review.tool_id if tool is None else tool.name,
        }

    def _tool(self, review: Review) -> Tool | None:
        if not review.agent_id or not review.tool_id:
            return None
        return self._model.repository.tool(review.agent_id, review.tool_id)

    def _detail(self, visit: Visit, review: Review, now: datetime, typed: Mapping[str, str]) -> dict[str, Any]:
        repository = self._model.repository
        tool = self._tool(review)
        history = repository.session_history(review.user_id, review.session_id, newest_first=True, limit=_ITEMS)
        calls = history.executions[::-1]
        names = {step.process_id: step.name for step in history.processes}
        session = repository.session(review.user_id, review.session_id)
        own = review.user_id == visit.caller.user_id
        return self._row(review, now) | {
            "known_tool": tool,
            "agent": repository.agent(review.agent_id) if review.agent_id else None,
            "user": repository.user(review.user_id),
            "session": session,
            "may_read_session": own or "operator" in visit.caller.roles,
            "may_decide": not own or self._model.settings.mcp_self_review,
            "fields": fields_of(review.arguments, None if tool is None else tool.spec, typed),
            "calls": calls[-_CALLS:],
            "made": len(calls),
            "timeline": timeline(calls, names, history.reviews, now=now),
            "failed": sum(map(failed, calls)),
            "waits": bool(history.reviews),
            "before": self._decisions.earlier(review),
            "typed": typed,
            "earlier": [
                each
                for each in history.reviews
                if each.review_id != review.review_id
                and each.decided_at is not None
                and review.tool_id is not None
                and (each.agent_id, each.tool_id) == (review.agent_id, review.tool_id)
            ][:_CALLS],
            "verdicts": VERDICTS,
            "trail": review.trail or [],
        }

    def decide(self, visit: Visit) -> Response:
        """Take an answer; where it comes too late or is not accepted, show the question with what was typed."""
        ref, form = visit.request.path_params["ref"], visit.form
        reviews = self._model.reviews
        review = reviews.get(ref)
        visit.caller.check_reviewer(ref, review.user_id, self_review=self._model.settings.mcp_self_review)
        try:
            self._answer(review, form, visit.caller.user_id)
        except Conflict as error:
            return self._page(visit, status=409, problem=str(error), typed=form)
        except ValidationError as error:
            return self._page(visit, status=422, problem=str(error), typed=form)
        if form.get("decision") == "claim":
            return RedirectResponse(visit.request.url_for("review", ref=ref).path, 303)
        inbox = visit.request.url_for("inbox").include_query_params(
            queue=review.queue_name or DEFAULT_QUEUE, done=form.get("decision", "")
        )
        return RedirectResponse(f"{inbox.path}?{inbox.query}", 303)

    def _answer(self, review: Review, form: Mapping[str, str], by: str) -> None:
        reviews, decision = self._model.reviews, form.get("decision", "")
        reason = form.get("reason", "").strip() or None
        if decision == "claim":
            reviews.claim(review, by)
        elif decision == "release":
            reviews.release(review, by)
        elif decision == "verdict":
            verdict = form.get("verdict", "")
            if verdict not in VERDICTS:
                raise ValidationError("verdict", verdict, "must be one of " + ", ".join(VERDICTS))
            outcome = {"succeeded": True, "failed": False}.get(form.get("outcome", ""))
            reviews.verdict(review, verdict, by, outcome=outcome, reason=reason)
        elif decision in get_args(Decision):
            tool = self._tool(review)
            arguments = edited_arguments(review.arguments, form, None if tool is None else tool.spec)
            if decision == "approve" and arguments != review.arguments:  # what was typed would be dropped
                raise ValidationError("arguments", "…", "must be as proposed: save and approve, or put them back")
            reviews.decide(
                review,
                cast("Decision", decision),
                by,
                reason=reason,
                arguments=arguments if decision == "edit" else None,
                response=form.get("response") or None if decision == "respond" else None,
                arguments_hash=form.get("hash"),
            )
        else:
            raise ValidationError("decision", decision, "must be made with one of the buttons of the page")


def _version(found: Sequence[Review]) -> str:
    """Return a text that is another one when a question comes, goes or is claimed."""
    told = [f"{each.user_id}/{each.session_id}/{each.review_id} {each.status} {each.claimed_by}" for each in found]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _left(review: Review, now: datetime) -> float:
    """Return the seconds until the deadline."""
    return 0.0 if review.answer_until is None else (review.answer_until - now).total_seconds()
