"""Hypothesis strategies for all entities of the table and the parts of their keys.

Values are constructed to be valid; nothing is filtered out. Hard cases come from pools (`HARD_TOKENS`, `HARD_TEXTS`)
and are drawn often: other scripts, the separator and its escapes, characters that sort next to it, maximum lengths.
Every strategy of an entity takes attributes as keyword arguments: values to use as they are, or strategies to draw them
from::

    agents(domain_id="DMN001", score=scores())
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from agentmodel import keys
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Review,
    Suggestion,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.exceptions import MissingExtraError

try:
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
except ModuleNotFoundError as error:
    raise MissingExtraError("testing", "agentmodel.testing", error.name) from error

__all__ = [
    "HARD_TEXTS", "HARD_TOKENS", "GeneratedHistory", "agents", "domains", "entities", "executions", "histories", "ids",
    "json_values", "key_texts", "mappings", "numbers", "processes", "reviews", "scores", "suggestions", "texts",
    "times", "tools", "user_sessions", "users",
]  # fmt: skip

Prefix = Literal["DMN", "AGT", "TL", "USR", "SESS", "PRC"]
E = TypeVar("E", bound=Entity)

HARD_TOKENS: Final = (
    "001",
    "0",
    "00",
    "1",
    "999",
    "A1000",
    "METADATA",
    "AGTSCORE",
    "TL001",
    "DMN",
    "-",
    "~",
    "a.b",
    "a+b",
    "a=b:c@d",
    "20250614001",
    "매장",
    "한글-에이전트",
    "東京",
    "कि",
    "é",
    "ﬁ",
    "𝒳",
    "𐐷",
    "x" * 128,
    "한" * 128,
)
"""Tokens for ids that are likely to reveal mistakes."""

HARD_TEXTS: Final = (
    "#",
    "%",
    "%23",
    "%25",
    "%2523",
    "##",
    "a#b",
    "a%23b",
    "a",
    "a#",
    "a ",
    " a",
    "a!",
    '"',
    "$",
    "001",
    "METADATA",
    "UserPrcToolMapp#",
    "매장검색:카페,식당",
    "한",
    "하",
    "café #1 100%",
    "\u0338",
    "\x00",
    "\x7f",
    "\ufffd",
    "😀",
    "\U0010ffff",
)
"""Free texts, in Unicode NFC, that are likely to reveal mistakes in keys."""


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


# Parts of keys


def _tokens() -> SearchStrategy[str]:
    letter = st.characters(codec="utf-8", categories=["L"])
    marks = st.text(st.characters(codec="utf-8", categories=["Mn", "Mc"]), max_size=2)
    clusters = st.one_of(
        st.sampled_from("abzABZ019-_.:@+=~"),
        st.characters(codec="utf-8", categories=["Nd"]),
        letter,
        st.tuples(letter, marks).map("".join),  # a mark after `=` would be composed with it into another character
    )
    return st.lists(clusters, min_size=1, max_size=12).map("".join).map(_normal)


def ids(prefix: Prefix) -> SearchStrategy[str]:
    """Draw ids with this prefix, in any script, such as ``AGT001`` and ``AGT매장``."""
    return st.one_of(st.sampled_from(HARD_TOKENS), _tokens()).map(lambda token: prefix + token)


def texts(*, min_size: int = 0, max_size: int = 60) -> SearchStrategy[str]:
    """Draw free text as it may be stored: any characters but lone surrogates, in Unicode NFC.

    Args:
        min_size: Least number of characters before normalisation.
        max_size: Greatest number of characters before normalisation, which may turn one into three.
    """
    hard = st.sampled_from(
        [text for text in HARD_TEXTS if min_size <= len(text) <= max_size] or ["#" * max(1, min_size)]
    )
    return st.one_of(hard, st.text(st.characters(codec="utf-8"), min_size=min_size, max_size=max_size).map(_normal))


def key_texts() -> SearchStrategy[str]:
    """Draw free text that fits into a key: not empty, and short enough for a sort key when escaped."""
    return texts(min_size=1)


def numbers() -> SearchStrategy[int]:
    """Draw whole numbers that fit into a key, often near the values where their text gets longer."""
    borders = sorted({0, 1, *(10**digits + step for digits in range(1, 29) for step in (-1, 0, 1)), 10**29 - 1})
    return st.one_of(st.sampled_from(borders), st.integers(0, 2000), st.integers(0, 10**29 - 1))


def scores() -> SearchStrategy[float]:
    """Draw scores from 0 to below 10⁸, with at most six decimals."""
    millionths = st.one_of(
        st.sampled_from((0, 1, 999_999, 10**6, 60 * 10**6, 10**13 - 1, 10**13, 10**14 - 1)),
        st.integers(0, 200 * 10**6),
        st.integers(0, 10**14 - 1),
    )
    return millionths.map(lambda n: float(f"{n // 10**6}.{n % 10**6:06d}"))


def times(
    first: datetime = datetime(1, 1, 2, tzinfo=UTC), last: datetime = datetime(9999, 12, 30, tzinfo=UTC)
) -> SearchStrategy[datetime]:
    """Draw aware times in any time zone between two UTC times."""
    moments = st.datetimes(first.replace(tzinfo=None), last.replace(tzinfo=None), timezones=st.just(UTC))
    zones = st.one_of(st.just(UTC), st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))))
    return st.tuples(moments, zones).map(lambda drawn: drawn[0].astimezone(drawn[1]))


def json_values() -> SearchStrategy[Any]:
    """Draw JSON objects, as tool specifications and user profiles are."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        texts(),
    )
    inner = st.recursive(
        leaves,
        lambda each: st.one_of(st.lists(each, max_size=3), st.dictionaries(texts(), each, max_size=3)),
        max_leaves=5,
    )
    return st.dictionaries(texts(max_size=20), inner, max_size=3)


# Entities: values are drawn by the declared type of each attribute, so a new attribute needs no change here


def _of_type(hint: Any) -> SearchStrategy[Any]:
    """Draw values of a declared type; never None for an optional one, since the attribute may be left out instead."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _of_type(next(arg for arg in args if arg is not NoneType))
    if origin is Literal:
        return st.sampled_from(args)
    if origin is dict and args[1] is not Any:
        return st.dictionaries(texts(min_size=1, max_size=20), _of_type(args[1]), max_size=3)
    if origin is list:
        return st.lists(_of_type(args[0]), max_size=3)
    simple: dict[Any, Callable[[], SearchStrategy[Any]]] = {
        str: texts,
        int: lambda: st.integers(0, 10**12),
        float: scores,
        bool: st.booleans,
        datetime: times,
    }
    return simple.get(hint, json_values)()


@cache
def _declared(kind: type[Entity]) -> dict[str, tuple[bool, SearchStrategy[Any]]]:
    """Return for each attribute of a class whether it is required, and the strategy for its values."""
    hints = get_type_hints(kind)
    return {
        name: (field.required and field.default_value is None, _of_type(get_args(hints[name])[0]))
        for name, field in kind.layout.fields.items()
    }


_COMMON: dict[str, SearchStrategy[Any]] = {
    "version": st.integers(1, 2**63 - 1),
    "expires_at": times(datetime(2100, 1, 1, tzinfo=UTC)).map(lambda moment: moment.replace(microsecond=0)),
}


def _entity(kind: type[E], fixed: dict[str, Any], **special: SearchStrategy[Any]) -> SearchStrategy[E]:
    """Draw entities of a class: attributes of keys from ``special``, the others by their declared type."""
    given = {name: value if isinstance(value, SearchStrategy) else st.just(value) for name, value in fixed.items()}
    needed: dict[str, SearchStrategy[Any]] = dict(given)
    optional: dict[str, SearchStrategy[Any]] = {}
    known = _COMMON | special
    for name, (required, drawn) in _declared(kind).items():
        if name not in given:
            (needed if required else optional)[name] = known.get(name, drawn)
    return st.fixed_dictionaries(needed, optional=optional).map(lambda values: kind(**values))


def domains(**fixed: Any) -> SearchStrategy[Domain]:
    """Draw domains; ``fixed`` gives attributes by value or strategy."""
    return _entity(Domain, fixed, domain_id=ids("DMN"), name=key_texts())


def agents(**fixed: Any) -> SearchStrategy[Agent]:
    """Draw agents; ``fixed`` gives attributes by value or strategy."""
    return _entity(Agent, fixed, agent_id=ids("AGT"), domain_id=ids("DMN"))


def tools(**fixed: Any) -> SearchStrategy[Tool]:
    """Draw tools; ``fixed`` gives attributes by value or strategy."""
    return _entity(Tool, fixed, agent_id=ids("AGT"), tool_id=ids("TL"), domain_id=ids("DMN"), name=key_texts())


def users(**fixed: Any) -> SearchStrategy[User]:
    """Draw users; ``fixed`` gives attributes by value or strategy."""
    return _entity(User, fixed, user_id=ids("USR"))


def user_sessions(**fixed: Any) -> SearchStrategy[UserSession]:
    """Draw sessions without their history; ``fixed`` gives attributes by value or strategy."""
    return _entity(UserSession, fixed, user_id=ids("USR"), session_id=ids("SESS"), name=key_texts())


def processes(**fixed: Any) -> SearchStrategy[UserSessionProcess]:
    """Draw processes, with numbered or other ids; ``fixed`` gives attributes by value or strategy."""
    return _entity(
        UserSessionProcess,
        fixed,
        user_id=ids("USR"),
        session_id=ids("SESS"),
        process_id=st.one_of(ids("PRC"), numbers().map(keys.process_id)),
    )


def _short_ids(prefix: Prefix) -> SearchStrategy[str]:
    """Draw ids that are so short that three of them fit into one sort key."""
    short = st.sampled_from([token for token in HARD_TOKENS if len(token) < 100])
    return st.one_of(short, _tokens()).map(lambda token: prefix + token)


def executions(**fixed: Any) -> SearchStrategy[ToolExecution]:
    """Draw tool calls; ``fixed`` gives attributes by value or strategy."""
    return _entity(
        ToolExecution,
        fixed,
        user_id=ids("USR"),
        session_id=ids("SESS"),
        process_id=st.one_of(_short_ids("PRC"), numbers().map(keys.process_id)),
        agent_id=_short_ids("AGT"),
        tool_id=_short_ids("TL"),
        attempt=st.one_of(st.just(1), numbers().map(lambda number: number or 1)),
    )


def mappings(**fixed: Any) -> SearchStrategy[UserToolMapping]:
    """Draw mappings (a user's best tool sequences); ``fixed`` gives attributes by value or strategy."""
    return _entity(UserToolMapping, fixed, user_id=ids("USR"), category=key_texts(), index_number=st.integers(0, 998))


def reviews(**fixed: Any) -> SearchStrategy[Review]:
    """Draw reviews (questions to people), pending or not; ``fixed`` gives attributes by value or strategy."""
    return _entity(Review, fixed, user_id=ids("USR"), session_id=ids("SESS"), review_id=key_texts(), queue=key_texts())


def suggestions(**fixed: Any) -> SearchStrategy[Suggestion]:
    """Draw recorded suggestions; ``fixed`` gives attributes by value or strategy."""
    return _entity(Suggestion, fixed, user_id=ids("USR"), suggestion_id=key_texts())


def entities() -> SearchStrategy[Entity]:
    """Draw an entity of any class."""
    return st.one_of(
        domains(),
        agents(),
        tools(),
        users(),
        user_sessions(),
        processes(),
        executions(),
        mappings(),
        reviews(),
        suggestions(),
    )


# Whole sessions


@dataclass(frozen=True, slots=True)
class GeneratedHistory:
    """A session with its processes and tool calls, as a recorder stores them.

    Attributes:
        session: The session.
        processes: Its processes, in order.
        executions: Its tool calls, in the order in which they were made; attempts are numbered from 1.
    """

    session: UserSession
    processes: tuple[UserSessionProcess, ...]
    executions: tuple[ToolExecution, ...]

    @property
    def entities(self) -> tuple[UserSession | UserSessionProcess | ToolExecution, ...]:
        """The session, its processes and its tool calls."""
        return (self.session, *self.processes, *self.executions)


@st.composite
def _histories(draw: DrawFn, fixed: dict[str, Any], most_processes: int, most_calls: int) -> GeneratedHistory:
    session = draw(user_sessions(**fixed))
    home = {"user_id": session.user_id, "session_id": session.session_id}
    tool_pool = draw(st.lists(st.tuples(_short_ids("AGT"), _short_ids("TL")), min_size=1, max_size=3))
    known_times = draw(st.booleans())
    moment = draw(times(datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)))
    steps: list[UserSessionProcess] = []
    calls: list[ToolExecution] = []
    for number in range(1, draw(st.integers(0, most_processes)) + 1):
        steps.append(draw(processes(**home, process_id=keys.process_id(number), call_id=f"step-{number}")))
        attempts: dict[tuple[str, str], int] = {}
        for agent_id, tool_id in draw(st.lists(st.sampled_from(tool_pool), max_size=most_calls)):
            attempts[agent_id, tool_id] = attempt = attempts.get((agent_id, tool_id), 0) + 1
            moment += timedelta(microseconds=draw(st.integers(0, 10**7)))
            place = {
                "process_id": keys.process_id(number),
                "agent_id": agent_id,
                "tool_id": tool_id,
                "attempt": attempt,
            }
            order = {"call_number": len(calls) + 1, "call_id": f"call-{len(calls) + 1}"}
            calls.append(draw(executions(**home, **place, **order, executed_at=moment if known_times else None)))
    return GeneratedHistory(session, tuple(steps), tuple(calls))


def histories(*, most_processes: int = 3, most_calls: int = 4, **fixed: Any) -> SearchStrategy[GeneratedHistory]:
    """Draw whole sessions with their processes and tool calls.

    Processes are numbered from 1 and calls are in order; a second call of a tool in a process is a second attempt.
    Either all calls of a session have a time or none has.

    Args:
        most_processes: Greatest number of processes in a session.
        most_calls: Greatest number of calls in a process.
        fixed: Attributes of the session, by value or strategy.
    """
    return _histories(fixed, most_processes, most_calls)
