"""The run that every recorder is driven through, told without a framework, and the executions it should give.

A recorder is added by a file ``test_recorder_<name>.py``: it runs `SCRIPT` through the real framework and calls `check`
with what it cannot show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentmodel import AgentModel, keys

AGENT, USER, SESSION = "finder", "ada", "thread-7"
REQUEST, CATEGORY, DOMAIN = "find a café", "cafe search", "support"


@dataclass(frozen=True)
class Asked:
    """A call that the model asks for."""

    call_id: str
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """What the model says at once: its calls and what they cost."""

    calls: tuple[Asked, ...]
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Shown:
    """An execution, as far as recorders are compared."""

    case: str
    tool: str
    status: str
    attempt: int
    arguments: Any
    error_type: str | None
    tokens: tuple[int | None, int | None]


SCRIPT = (
    Turn((Asked("c1", "search", {"q": "a"}), Asked("c2", "search", {"q": "b"})), 11, 5),
    Turn((Asked("c3", "flaky", {"q": "c"}),), 20, 4),
    Turn((Asked("c4", "broken", {"q": "d"}),), 30, 4),
    Turn((Asked("c5", "search", {"wrong": 1}),), 40, 4),
    Turn((Asked("c6", "nope", {"q": "f"}),), 50, 4),
    Turn((Asked("c7", "pay", {"amount": 7}),), 60, 4),
    Turn((Asked("c8", "pay", {"amount": 8}),), 70, 4),
    Turn((Asked("c9", "search", {"q": "a"}),), 80, 4),
)
"""``flaky`` fails once and then works, ``broken`` always fails; ``c7`` is rejected, ``c8`` is edited to pay 5, ``c9``
is answered from a cache."""

EXPECTED = (
    Shown("parallel calls", "search", "ok", 1, {"q": "a"}, None, (6, 3)),
    Shown("parallel calls", "search", "ok", 1, {"q": "b"}, None, (5, 2)),
    Shown("retry", "flaky", "error", 1, {"q": "c"}, "ConnectionError", (20, 4)),
    Shown("retry", "flaky", "ok", 2, {"q": "c"}, None, (None, None)),
    Shown("failure", "broken", "error", 1, {"q": "d"}, "ValueError", (30, 4)),
    Shown("invalid arguments", "search", "error", 1, {"wrong": 1}, "ValidationError", (40, 4)),
    Shown("unknown tool", "nope", "unknown_tool", 1, {"q": "f"}, None, (50, 4)),
    Shown("rejected", "pay", "rejected", 1, {"amount": 7}, None, (60, 4)),
    Shown("edited", "pay", "edited", 1, {"amount": 5}, None, (70, 4)),
    Shown("cache hit", "search", "cache_hit", 1, {"q": "a"}, None, (80, 4)),
)


def learned_that_searches_stay(model: AgentModel, *, named: Callable[[str], str] = str) -> None:
    """Let the response cache know, as if from earlier sessions, that no tool of the scenario changes what is found.

    Args:
        model: Whose cache.
        named: Gives the name under which a tool is recorded.
    """
    assert model.valkey is not None
    domain_id, agent_id = keys.stable_id("DMN", DOMAIN), keys.stable_id("AGT", DOMAIN, AGENT)
    names = [named(tool) for tool in ("pay", "flaky", "broken", "nope")]
    tools = [f"{domain_id}:{name}" for name in names] + [f"{agent_id}:{keys.stable_id('TL', name)}" for name in names]
    key = f"{model.settings.valkey_prefix}:answers-effects:{domain_id}:{named('search')}"
    model.valkey.execute(("HSET", key, *(each for tool in tools for each in (f"same:-{tool}", 2))))


def shown(model: AgentModel, *, user_id: str = "USRada") -> list[Shown]:
    """What the history holds of the run, in the order of the calls."""
    (session,) = list(model.repository.sessions(user_id))
    history = model.repository.session_history(user_id, session.session_id)
    return [
        Shown(
            "",
            call.tool_name,
            str(call.status),
            call.attempt,
            json.loads(call.values or "null"),
            call.error_type,
            (call.input_tokens, call.output_tokens),
        )
        for call in sorted(history.executions, key=lambda call: (call.call_number or 0, call.attempt))
    ]


def expected(*, without: Collection[str] = (), looks: Mapping[str, str] | None = None) -> list[Shown]:
    """What a recorder gives that does not show some cases, or to which some look like another status."""
    seen = looks or {}
    return [
        replace(call, case="", status=seen.get(call.case, call.status)) for call in EXPECTED if call.case not in without
    ]
