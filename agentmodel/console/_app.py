"""The application: its routes, who may see which, and what an error looks like."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from agentmodel._log import logger
from agentmodel._monitoring.probes import PATHS, Probes, starlette_probe
from agentmodel.callers import Caller, Tokens, digest_of, roles_of
from agentmodel.client import AgentModel
from agentmodel.console._agents import AgentPages
from agentmodel.console._decisions import DecisionPages
from agentmodel.console._effect import EffectPages
from agentmodel.console._entrance import (
    COOKIE,
    COOKIE_SECONDS,
    Entrance,
    Headed,
    TooManyAttempts,
    Unreadable,
    Visit,
    form_of,
)
from agentmodel.console._inbox import InboxPages
from agentmodel.console._plans import PlanPages
from agentmodel.console._reader import WarehouseReader
from agentmodel.console._sessions import SessionPages
from agentmodel.console._site import STATIC, Site, mount_of
from agentmodel.exceptions import AgentModelError, Conflict, NotAllowed, NotFound, ValidationError

__all__ = ["console"]

_log = logger(__name__)
_Page: TypeAlias = Callable[[Visit], Response]
_Answer: TypeAlias = Callable[[Request], Awaitable[Response]]


def console(
    model: AgentModel,
    *,
    tokens: Tokens | None = None,
    caller: Caller | None = None,
    secret: str | None = None,
    release_warehouse: bool = False,
) -> Starlette:
    """Return the console as an ASGI application, to be served or mounted.

        app.mount("/agents", console(model, tokens=Tokens.of_file("tokens.json")))

    Args:
        model: The installation that it shows.
        tokens: Whose tokens open it. Without them nobody logs in, and only requests of this machine are answered.
        caller: Who looks where there are no tokens; a user ``USRlocal`` with the roles reader, reviewer, operator and
            curator when not given.
        secret: Signs the cookies. Several processes that serve the console need the same one. Without it each makes one
            when it starts, and people log in again after a restart.
        release_warehouse: Whether the model's warehouse is closed after each page, so that other processes can open a
            DuckDB file. Nothing else may use the warehouse of this model meanwhile.

    Raises:
        ValidationError: ``secret`` is shorter than 32 characters.

    >>> from starlette.testclient import TestClient
    >>> app = console(model)
    >>> TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000)).get("/").status_code
    200
    """
    if secret is not None and len(secret) < 32:
        raise ValidationError("secret", "…", "must have at least 32 characters, such as secrets.token_hex(32)")
    local = Caller(user_id="USRlocal", roles=roles_of(["reader", "reviewer", "operator", "curator"]))
    site = Site()
    door = _Door(site, Entrance(tokens, caller or local, secret or secrets.token_hex(32)))
    reader = WarehouseReader(model, release=release_warehouse)
    decisions = DecisionPages(model, site, reader)
    inbox = InboxPages(model, site, decisions)
    sessions, agents = SessionPages(model, site, reader), AgentPages(model, site, reader)
    plans, effect = PlanPages(model, site), EffectPages(model, site, reader)
    probes, knows = Probes(model, "console"), None if tokens is None else _knower(tokens)
    return Starlette(
        routes=[
            Route("/", door.read(inbox.home), name="home"),
            Route("/inbox", door.read(inbox.inbox), name="inbox"),
            Route("/inbox/news", door.read(inbox.news), name="news"),
            Route("/inbox/{ref:path}", door.read(inbox.inbox), name="review"),
            Route("/decide/{ref:path}", door.write(inbox.decide), methods=["POST"], name="decide"),
            Route("/decisions", door.read(decisions.decisions), name="decisions"),
            Route("/sessions", door.read(sessions.sessions), name="sessions"),
            Route("/sessions/{user}/{session}", door.read(sessions.session), name="session"),
            Route("/agents", door.read(agents.agents), name="agents"),
            Route("/agents/{agent}", door.read(agents.agent), methods=["GET"], name="agent"),
            Route("/agents/{agent}", door.write(agents.describe), methods=["POST"], name="describe"),
            Route("/agents/{agent}/{tool}", door.write(agents.edit), methods=["POST"], name="edit"),
            Route("/plans", door.read(plans.empty), methods=["GET"], name="plans"),
            Route("/plans", door.write(plans.plan), methods=["POST"]),
            Route("/effect", door.read(effect.effect), name="effect"),
            Route("/log-in", door.log_in_page, methods=["GET"], name="login"),
            Route("/log-in", door.log_in, methods=["POST"]),
            Route("/log-out", door.write(door.log_out), methods=["POST"], name="logout"),
            *(Route(path, starlette_probe(probes, path, knows)) for path in PATHS),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
        ],
        middleware=[Middleware(Headed)],
    )


def _knower(tokens: Tokens) -> Callable[[str], Awaitable[bool]]:
    async def knows(token: str) -> bool:
        return tokens.of_digest(digest_of(token)) is not None

    return knows


class _Door:
    """Lets requests in: who is it, does the form come from here, and what is answered when something fails."""

    def __init__(self, site: Site, entrance: Entrance) -> None:
        self._site, self._entrance = site, entrance

    def read(self, page: _Page) -> _Answer:
        """Return the endpoint of a page, which runs in a thread since stores are asked synchronously."""

        async def answer(request: Request) -> Response:
            return await run_in_threadpool(self._answered, request, page, None)

        return answer

    def write(self, action: _Page) -> _Answer:
        """Return the endpoint of a form."""

        async def answer(request: Request) -> Response:
            form = await form_of(request)
            if isinstance(form, Unreadable):
                return self._problem(request, form.problem, status=form.status)
            if not self._entrance.is_own(request.headers):
                return self._problem(request, "foreign form", status=403)
            return await run_in_threadpool(self._answered, request, action, form)

        return answer

    def _answered(self, request: Request, page: _Page, form: dict[str, str] | None) -> Response:
        visit = None
        try:
            visit = self._entrance.visit(request)
            if visit is None:
                return RedirectResponse(request.url_for("login").path, 303)
            if form is not None:
                if not self._entrance.permits(visit, form.pop("csrf", "")):
                    return self._problem(request, "old form", visit, status=403)
                visit.form.update(form)
            return page(visit)
        except NotAllowed as error:
            return self._problem(request, "not allowed", visit, status=403, detail=str(error))
        except NotFound as error:
            return self._problem(request, "not found", visit, status=404, detail=str(error))
        except Conflict as error:
            return self._problem(request, "conflict", visit, status=409, detail=str(error))
        except ValidationError as error:
            return self._problem(request, "wrong input", visit, status=422, detail=str(error))
        except AgentModelError as error:
            _log.warning("console.failed path=%s: %s", request.url.path, error)
            return self._problem(request, "unavailable", visit, status=503)

    def _problem(
        self, request: Request, problem: str, visit: Visit | None = None, *, status: int, detail: str = ""
    ) -> Response:
        return self._site.page(request, "problem.html", visit, status=status, problem=problem, detail=detail)

    # Log in and out

    async def log_in_page(self, request: Request) -> Response:
        """Ask for a token."""
        if not self._entrance.has_tokens:
            return RedirectResponse(request.url_for("home").path, 303)
        return self._site.page(request, "login.html", problem="")

    async def log_in(self, request: Request) -> Response:
        """Take a token and set the cookie."""
        form = await form_of(request)
        if isinstance(form, Unreadable):
            return self._problem(request, form.problem, status=form.status)
        if not self._entrance.is_own(request.headers):
            return self._problem(request, "foreign form", status=403)
        try:
            cookie = self._entrance.log_in(request, form.get("token", "").strip())
        except TooManyAttempts:
            return self._site.page(request, "login.html", status=429, problem="many")
        if cookie is None:
            return self._site.page(request, "login.html", status=401, problem="wrong")
        answer = RedirectResponse(request.url_for("home").path, 303)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=COOKIE_SECONDS,
            path=mount_of(request),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    def log_out(self, visit: Visit) -> Response:
        """Delete the cookie."""
        answer = RedirectResponse(visit.request.url_for("login").path, 303)
        answer.delete_cookie(COOKIE, path=mount_of(visit.request))
        return answer
