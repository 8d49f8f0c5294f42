"""Every text that a model reads instead of a result, or before one, because of a guard: one function each.

Names and reasons are data from outside, so each is quoted by `prompt_text`, which cuts it and puts it on one line;
arguments are JSON on one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentmodel._values.text import json_text, one_line, prompt_json, prompt_text
from agentmodel.suggest.health import Cusum
from agentmodel.suggest.plan import Fallback, fallback_text
from agentmodel.suggest.review import Answer

__all__ = [
    "as_content", "blocked_text", "call_again_text", "cannot_ask_text", "edited_text", "not_permitted_text",
    "undecided_text",
]  # fmt: skip

_LATER = "Continue without it, or try again later."
_REASON_CHARACTERS = 1000  # of a reviewer's reason


def blocked_text(tool: str, agent_id: str, health: Cusum, fallbacks: Sequence[Fallback]) -> str:
    """Return what the model reads of a tool that is failing.

    >>> blocked_text("search", "AGT001", Cusum(), [Fallback("AGT001", "lookup")])
    '`search` was not called: it has been failing. Use `lookup` instead.'
    """
    since = "" if health.since is None else f" since {health.since:%Y-%m-%d %H:%M} UTC"
    seen = []
    if health.run_calls:
        whose = " for this user" if health.own else ""
        seen.append(f"{health.run_failures} of its last {health.run_calls} calls{whose} failed")
    if health.calls:
        seen.append(f"its usual failure rate is {100 * health.failures / health.calls:.0f} %")
    details = f" ({'; '.join(seen)})" if seen else ""
    text = f"{_not_called(tool)}: it has been failing{since}{details}."
    if health.half_open_at is not None:
        text += f" It can be tried again from {health.half_open_at:%Y-%m-%d %H:%M} UTC on."
    if not fallbacks:
        return f"{text} No other working tool is known that does the same."
    return f"{text} Use {' or '.join(fallback_text(each, agent_id) for each in fallbacks)} instead."


def cannot_ask_text(tool: str) -> str:
    """Return what the model reads where a person may have to approve a call, and cannot be asked."""
    return f"{_not_called(tool)}: a person may have to approve it first, and nobody can be asked at present. {_LATER}"


def undecided_text(tool: str, *, known: bool) -> str:
    """Return what the model reads of a call that waits for a person, where the framework cannot wait.

    Args:
        tool: Name of the tool.
        known: Whether it is known that nobody has decided; otherwise the decision cannot be stored or read.
    """
    state = "has not decided yet" if known else "what they decided cannot be read at present"
    return f"{_not_called(tool)}: a person has to approve it first, and {state}. {_LATER}"


def not_permitted_text(tool: str, answer: Answer) -> str:
    """Return what the model reads of a call that a person, or the deadline of the question, did not permit."""
    if answer.status == "expired":
        return f"{_not_called(tool)}: nobody approved it before the deadline of the question."
    did = "withdrew the question about it" if answer.status == "cancelled" else "rejected it"
    why = one_line(answer.reason or "", longest=_REASON_CHARACTERS).rstrip(".")
    reason = f" Reason: {prompt_text(why, longest=_REASON_CHARACTERS)}." if why else ""
    return f"{_not_called(tool)}: {_person(answer)} {did}.{reason} Do not repeat this call unless you are asked to."


def edited_text(tool: str, answer: Answer) -> str:
    """Return what the model reads before the result of an edited call: its own message has the old arguments."""
    called = f"{prompt_text(tool)} was called with {prompt_json(answer.arguments)}"
    return f"{_person(answer)} edited this call: {called}. Its result:"


def call_again_text(tool: str, answer: Answer) -> str:
    """Return what the model reads of an edited call where the framework cannot change the arguments of a call."""
    return (
        f"{_not_called(tool)}: {_person(answer)} edited the call. "
        f"Call {prompt_text(tool)} again with exactly these arguments: {prompt_json(answer.arguments)}"
    )


def as_content(result: Any) -> str:
    """Return a cached result as text: text as it is, anything else as JSON."""
    return result if isinstance(result, str) else json_text(result)


def _not_called(tool: str) -> str:
    return f"{prompt_text(tool)} was not called"


def _person(answer: Answer) -> str:
    return prompt_text(answer.by) if one_line(answer.by or "") else "a person"
