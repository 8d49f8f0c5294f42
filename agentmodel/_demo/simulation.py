"""Simulate some weeks of the demo world's agents, and record them through the `Recorder` like a real program.

Scores and outcomes are not written into the stores. The seed decides how skilled each agent is and how often it is
asked. Tools fail and users are satisfied accordingly; everything else is learned from what was recorded. The clock is
simulated too: weeks pass in seconds, and the last day is the day before ``as_of``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from agentmodel._demo.world import AGENTS, CATEGORIES, PLACES, ROUTINES, STORES, TOOLS, USERS, Category, DemoTool, Store
from agentmodel.exceptions import ValidationError

if TYPE_CHECKING:
    from agentmodel.access.recorder import ProcessRecorder, SessionRecorder
    from agentmodel.client import AgentModel

__all__ = ["API_KEY", "DAYS", "SESSIONS", "SimulatedHistory", "Simulation"]

SESSIONS = 360
"""Number of sessions that the demo records by default."""

DAYS = 20
"""Days over which the sessions are spread; fewer than the days for which history is kept."""

API_KEY = "sk-demo-0123456789abcdefghij"
"""An API key that opens nothing; the first call has it, to show that it is not kept."""

MAX_SESSIONS = 100_000
"""Largest number of sessions that a simulation records."""

_TOOL = {tool.tool_id: tool for tool in TOOLS}
_BREAKABLE = tuple(long[1][1] for _, long in ROUTINES.values())
_FAULTS = (TimeoutError, ConnectionError, LookupError)

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class SimulatedHistory:
    """What a simulation recorded.

    Attributes:
        sessions: Number of sessions.
        calls: Number of tool calls; each attempt counts.
        failures: Number of calls that failed.
        retries: Number of calls that were second attempts.
        broken_tool: Name of the tool that breaks halfway.
        skills: True skill of each agent by id, 0 to 1; it is not stored anywhere.
        first_arguments: Arguments of the first call as they are kept: the API key in them is masked by a model that
            redacts.
    """

    sessions: int = 0
    calls: int = 0
    failures: int = 0
    retries: int = 0
    broken_tool: str = ""
    skills: dict[str, float] = field(default_factory=dict)
    first_arguments: str = ""


@dataclass(slots=True)
class _Clock:
    """A clock that only the simulation moves."""

    at: datetime

    def __call__(self) -> datetime:
        return self.at

    def advance(self, milliseconds: float) -> None:
        self.at += timedelta(milliseconds=round(milliseconds))


@dataclass(frozen=True, slots=True)
class _Visit:
    """A session to simulate: who asks for what, when, and which agent serves it."""

    at: datetime
    user_id: str
    category: Category
    place: str
    agent_id: str


def _no_progress(what: str, done: int, total: int) -> None:
    """Show no progress."""


class _GivenUp(Exception):
    """A tool failed for good, so the agent gave the request up."""


class Simulation:
    """Simulates some weeks of the demo world.

    Args:
        seed: Seed of all random draws: the same seed gives the same history on the same day.
        sessions: Number of sessions, 1 to `MAX_SESSIONS`.
        as_of: The day after the last simulated one.

    Attributes:
        recorded: What was recorded so far.

    Raises:
        ValidationError: The number of sessions is out of range.
    """

    def __init__(self, *, seed: int, sessions: int = SESSIONS, as_of: date) -> None:
        if not 1 <= sessions <= MAX_SESSIONS:
            raise ValidationError("sessions", sessions, f"must be a number from 1 to {MAX_SESSIONS}")
        self._dice = random.Random(seed)  # noqa: S311  # a simulation has to be repeatable, not secret
        self._sessions = sessions
        self._first = datetime.combine(as_of - timedelta(days=DAYS), time(), UTC)
        agents = [agent_id for agent_id, _, _ in AGENTS]
        self._skills = dict(zip(agents, self._varied((0.92, 0.78, 0.62, 0.45)), strict=True))
        self._asked = dict(zip(agents, self._varied((0.34, 0.28, 0.22, 0.16)), strict=True))
        self._tastes = {user_id: self._dice.sample(CATEGORIES, 2) for user_id, _ in USERS}
        self._broken = self._dice.choice(_BREAKABLE)
        self._halfway = self._first + timedelta(days=DAYS / 2)
        self._clock = _Clock(self._first)
        self.recorded = SimulatedHistory(broken_tool=_TOOL[self._broken].name, skills=self._skills)

    def _varied(self, values: tuple[float, ...]) -> list[float]:
        """Return the values in random order, each changed by up to 0.05."""
        return [round(value + self._dice.uniform(-0.05, 0.05), 3) for value in self._dice.sample(values, len(values))]

    def run(self, model: AgentModel, progress: Progress = _no_progress) -> SimulatedHistory:
        """Record all sessions, in the order of their times.

        Args:
            model: The model to record in; add the catalogue with `agentmodel._demo.world.seed` before.
            progress: Called after each session with what is done, how many sessions are done, and of how many.

        Returns:
            What was recorded.
        """
        visits = sorted((self._visit() for _ in range(self._sessions)), key=lambda visit: (visit.at, visit.user_id))
        with self._simulated_time(model):
            for done, visit in enumerate(visits, start=1):
                self._serve(model, visit)
                progress("record", done, len(visits))
        return self.recorded

    @contextmanager
    def _simulated_time(self, model: AgentModel) -> Iterator[None]:
        before = model.recorder.now
        model.recorder.now = self._clock
        try:
            yield
        finally:
            model.recorder.now = before

    def _visit(self) -> _Visit:
        dice = self._dice
        user_id = dice.choice(USERS)[0]
        at = self._first + timedelta(days=dice.randrange(DAYS), seconds=dice.uniform(0, 23 * 3600))
        return _Visit(
            at=at.replace(microsecond=at.microsecond // 1000 * 1000),
            user_id=user_id,
            category=dice.choice(self._tastes[user_id]),
            place=dice.choice(PLACES),
            agent_id=dice.choices(list(self._asked), weights=list(self._asked.values()))[0],
        )

    def _serve(self, model: AgentModel, visit: _Visit) -> None:
        self._clock.at = visit.at
        request = self._dice.choice(visit.category.requests).format(place=visit.place)
        found = [s for s in STORES if s.place == visit.place and s.kind in visit.category.kinds]
        routine = self._dice.choice(ROUTINES[visit.agent_id])
        with model.session(visit.user_id, request, category=visit.category.name) as session:
            self.recorded.sessions += 1
            try:
                for step, tool_id in routine:
                    self._clock.advance(self._dice.uniform(200, 1500))
                    with session.process(step) as process:
                        self._call(process, _TOOL[tool_id], visit, found or list(STORES))
            except _GivenUp as error:
                session.fail(f"given up: {error}")
            else:
                self._rate(session, self._skills[visit.agent_id])

    def _call(self, process: ProcessRecorder, tool: DemoTool, visit: _Visit, found: list[Store]) -> None:
        """Call a tool; if it fails, call it once more in 85 of 100 cases, then give the request up."""
        for attempt in (1, 2):
            key = {} if self.recorded.calls else {"api_key": API_KEY}
            made = process.call(tool.agent_id, tool.tool_id, values={"place": visit.place} | key)
            try:
                with made as call:
                    self.recorded.calls += 1
                    self.recorded.retries += attempt == 2
                    call.result = self._answer(tool, visit, found)
                    call.input_tokens, call.output_tokens = self._dice.randint(300, 900), self._dice.randint(20, 120)
                return
            except _FAULTS as error:
                self.recorded.failures += 1
                if attempt == 2 or self._dice.random() < 0.15:
                    raise _GivenUp(f"{tool.name} failed: {error}") from error
                self._clock.advance(500)
            finally:
                if key and made.receipt is not None:
                    self.recorded.first_arguments = made.receipt.entity.values or ""

    def _answer(self, tool: DemoTool, visit: _Visit, found: list[Store]) -> Any:
        self._clock.advance(tool.milliseconds * self._dice.uniform(0.6, 1.8))
        if tool.tool_id == self._broken and visit.at >= self._halfway and self._dice.random() < 0.9:
            raise ConnectionError(f"{tool.name} was moved: 404 Not Found")
        if self._dice.random() < 0.03 + 0.22 * (1 - self._skills[tool.agent_id]):
            raise tool.fault()
        return tool.run(visit.place, found)

    def _rate(self, session: SessionRecorder, skill: float) -> None:
        """Record whether the user was satisfied; one user in ten does not say."""
        answered, satisfied = self._dice.random() < 0.9, self._dice.random() < skill
        if answered and satisfied:
            session.succeed("the user took the proposal")
        elif answered:
            session.fail("the user asked again elsewhere")
