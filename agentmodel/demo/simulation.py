"""The simulation: agents of the demo world at work for some weeks, recorded through the `Recorder` like any others.

Nobody writes scores or outcomes into a store here: the seed decides how skilled each agent is and how often it is
asked, the tools fail and the answers please accordingly, and what comes of it is what was recorded. Time is simulated
too, so that the weeks take seconds and end the day before the day they are counted to.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from agentmodel.demo.world import AGENTS, CATEGORIES, PLACES, ROUTINES, STORES, TOOLS, USERS, Category, Store, ToolOf
from agentmodel.exceptions import ValidationError

if TYPE_CHECKING:
    from agentmodel.access.recorder import ProcessRecorder, SessionRecorder
    from agentmodel.client import AgentModel

__all__ = ["DAYS", "SESSIONS", "Recorded", "Simulation"]

SESSIONS = 360
"""Sessions that are recorded when nobody says how many."""

DAYS = 20
"""Days they are spread over; less than the days that history is kept."""

MOST = 100_000

_TOOL = {tool.tool_id: tool for tool in TOOLS}
_BREAKABLE = tuple(long[1][1] for _, long in ROUTINES.values())
_FAULTS = (TimeoutError, ConnectionError, LookupError)

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Recorded:
    """What a simulation recorded.

    Attributes:
        sessions: Sessions.
        calls: Tool calls, every attempt one.
        failures: Calls that failed.
        retries: Second attempts.
        broken_tool: The tool that broke halfway.
        skills: True skill of each agent, 0 to 1; nothing but the simulation knows it.
    """

    sessions: int = 0
    calls: int = 0
    failures: int = 0
    retries: int = 0
    broken_tool: str = ""
    skills: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Clock:
    """A clock that stands still but for what the simulation does."""

    at: datetime

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, milliseconds: float) -> None:
        self.at += timedelta(milliseconds=round(milliseconds))


@dataclass(frozen=True, slots=True)
class _Visit:
    """One session to come: who asks for what, when, and who does it."""

    at: datetime
    user_id: str
    category: Category
    place: str
    agent_id: str


def _unseen(what: str, done: int, of: int) -> None:
    """Shows no progress."""


class _Unserved(Exception):
    """The request was given up."""


class Simulation:
    """Some weeks of the demo world.

    Args:
        seed: Decides everything: the same seed does the same on the same day.
        sessions: How many sessions.
        as_of: The day after the last one.

    Raises:
        ValidationError: The number of sessions is out of range.
    """

    def __init__(self, *, seed: int, sessions: int = SESSIONS, as_of: date) -> None:
        if not 1 <= sessions <= MOST:
            raise ValidationError("sessions", sessions, f"give a number from 1 to {MOST}")
        self._dice = random.Random(seed)  # noqa: S311  # a simulation has to be repeatable, not secret
        self._wanted = sessions
        self._first = datetime.combine(as_of - timedelta(days=DAYS), time(), UTC)
        agents = [agent_id for agent_id, _, _ in AGENTS]
        self._skills = dict(zip(agents, self._around((0.92, 0.78, 0.62, 0.45)), strict=True))
        self._asked = dict(zip(agents, self._around((0.34, 0.28, 0.22, 0.16)), strict=True))
        self._tastes = {user_id: self._dice.sample(CATEGORIES, 2) for user_id, _ in USERS}
        self._broken = self._dice.choice(_BREAKABLE)
        self._halfway = self._first + timedelta(days=DAYS / 2)
        self._clock = _Clock(self._first)
        self.recorded = Recorded(broken_tool=_TOOL[self._broken].name, skills=self._skills)

    def _around(self, values: tuple[float, ...]) -> list[float]:
        """The values in some order, each moved a little."""
        return [round(value + self._dice.uniform(-0.05, 0.05), 3) for value in self._dice.sample(values, len(values))]

    def run(self, model: AgentModel, progress: Progress = _unseen) -> Recorded:
        """Record all sessions, in the order of their times.

        Args:
            model: Whose recorder is used; the catalogue has to be there (see `agentmodel.demo.world.seed`).
            progress: Told how far it is.
        """
        visits = sorted((self._visit() for _ in range(self._wanted)), key=lambda visit: (visit.at, visit.user_id))
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
                    self._clock.pass_by(self._dice.uniform(200, 1500))
                    with session.process(step) as process:
                        self._try(process, _TOOL[tool_id], visit, found or list(STORES))
            except _Unserved as error:
                session.fail(f"given up: {error}")
            else:
                self._judge(session, self._skills[visit.agent_id])

    def _try(self, process: ProcessRecorder, tool: ToolOf, visit: _Visit, found: list[Store]) -> None:
        """Call a tool; once more if it fails, mostly; then the request is given up."""
        for attempt in (1, 2):
            try:
                with process.call(tool.agent_id, tool.tool_id, values={"place": visit.place}) as call:
                    self.recorded.calls += 1
                    self.recorded.retries += attempt == 2
                    call.result = self._answer(tool, visit, found)
                    call.input_tokens, call.output_tokens = self._dice.randint(300, 900), self._dice.randint(20, 120)
                return
            except _FAULTS as error:
                self.recorded.failures += 1
                if attempt == 2 or self._dice.random() < 0.15:
                    raise _Unserved(f"{tool.name} failed: {error}") from error
                self._clock.pass_by(500)

    def _answer(self, tool: ToolOf, visit: _Visit, found: list[Store]) -> Any:
        self._clock.pass_by(tool.milliseconds * self._dice.uniform(0.6, 1.8))
        if tool.tool_id == self._broken and visit.at >= self._halfway and self._dice.random() < 0.9:
            raise ConnectionError(f"{tool.name} was moved: 404 Not Found")
        if self._dice.random() < 0.03 + 0.22 * (1 - self._skills[tool.agent_id]):
            raise tool.fault()
        return tool.run(visit.place, found)

    def _judge(self, session: SessionRecorder, skill: float) -> None:
        """The user says how it was; one in ten says nothing."""
        told, pleased = self._dice.random() < 0.9, self._dice.random() < skill
        if told and pleased:
            session.succeed("the user took the proposal")
        elif told:
            session.fail("the user asked again elsewhere")
