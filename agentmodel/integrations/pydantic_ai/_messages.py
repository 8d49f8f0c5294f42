"""How the capability reads the contexts, messages and errors of Pydantic AI."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai import RunContext, exceptions
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart, ToolReturn
from pydantic_core import to_jsonable_python

from agentmodel._values.text import error_text, type_name
from agentmodel.dynamo.models import Status
from agentmodel.integrations._tracking.messages import content_text
from agentmodel.suggest.guard import as_content

__all__ = [
    "Returned", "as_json", "asked_of", "error_of", "is_output", "note_in", "noted_in", "request_of", "returns_of",
    "told", "with_notice",
]  # fmt: skip

_WRAPPERS = tuple(
    getattr(exceptions, name)
    for name in ("ModelRetry", "ToolRetryError", "ToolFailed", "ToolFailedError", "UnexpectedModelBehavior")
    if hasattr(exceptions, name)  # a tool that fails without a retry came after 2.0
)
_STATUSES: dict[str, Status] = {"success": "ok", "denied": "rejected", "interrupted": "interrupted"}


@dataclass(frozen=True, slots=True)
class Returned:
    """What the model reads of a call.

    Attributes:
        call: The call, as the model made it.
        status: How the call ended, as far as the message says.
        content: What the model reads.
    """

    call: ToolCallPart
    status: Status
    content: Any


def as_json(value: Any) -> Any:
    """Return arguments or a result as JSON; as they are where they have no such form, or may be read only once."""
    try:
        return value if isinstance(value, Iterator) else to_jsonable_python(value, serialize_unknown=True)
    except Exception:  # noqa: BLE001  # a serializer of the application's; the record says what could not be told
        return value


def told(ctx: RunContext[Any], name: str) -> str | None:
    """Return what a run was told: a text or id of its metadata, else of its ``deps``, a mapping or an object."""
    for source in (ctx.metadata, ctx.deps):
        value = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
        if isinstance(value, (str, int, uuid.UUID)) and value != "":
            return str(value)
    return None


def request_of(ctx: RunContext[Any]) -> str | None:
    """Return what the user asked for: the text of the prompt, else of the last prompt in the messages."""
    prompt = ctx.prompt
    if prompt is None:
        prompts = (
            part.content for one in reversed(ctx.messages) for part in one.parts if part.part_kind == "user-prompt"
        )
        prompt = next(prompts, None)
    return content_text(prompt)


def is_output(ctx: RunContext[Any], tool: str) -> bool | None:
    """Return whether a tool is how the model gives its answer, which is no call; None if there is no such tool."""
    manager = ctx.tool_manager
    definition = None if manager is None else manager.get_tool_def(tool)
    return None if definition is None else definition.kind == "output"


def asked_of(messages: Sequence[ModelMessage]) -> dict[str, ToolCallPart]:
    """Return the calls of the model's last message, by their ids."""
    last = next((one for one in reversed(messages) if isinstance(one, ModelResponse)), None)
    return {} if last is None else {one.tool_call_id: one for one in last.parts if isinstance(one, ToolCallPart)}


def returns_of(messages: Sequence[ModelMessage]) -> Iterator[Returned]:
    """Yield what the model reads of the calls of its last message."""
    asked = asked_of(messages)
    last = messages[-1] if messages else None
    for part in last.parts if isinstance(last, ModelRequest) else ():
        call = asked.get(getattr(part, "tool_call_id", None) or "")
        if call is not None and part.part_kind in ("tool-return", "retry-prompt"):
            outcome = getattr(part, "outcome", None)  # a retry prompt, as older versions send it, has none
            yield Returned(call, _STATUSES.get(str(outcome), "error"), getattr(part, "content", None))


def error_of(error: BaseException) -> tuple[str, str]:
    """Return the type of a tool's error, and what the model reads of it.

    The framework's own errors are the wrapping of what happened: a tool that raises ``ModelRetry(…) from error`` failed
    by ``error``.
    """
    text = error_text(error.__cause__ if isinstance(error, _WRAPPERS[1:]) and error.__cause__ else error)
    while isinstance(error, _WRAPPERS) and error.__cause__ is not None:
        error = error.__cause__
    return type_name(error), text


def with_notice(result: Any, notice: str | None) -> Any:
    """Return a result with the notice that a person edited the call before it."""
    if notice is None:
        return result
    if isinstance(result, ToolReturn):
        return replace(result, return_value=with_notice(result.return_value, notice))
    return f"{notice}\n{as_content(result)}" if _is_plain(result) else [notice, result]


def _is_plain(result: Any) -> bool:
    return result is None or isinstance(result, (str, int, float, dict, list))


def noted_in(message: ModelMessage, key: str) -> Any:
    """Return what is kept in a message's metadata, which the framework stores and no model reads; None if nothing."""
    return (message.metadata or {}).get(key)


def note_in(message: ModelMessage, key: str, value: Any) -> None:
    """Keep something in a message's metadata."""
    message.metadata = {**(message.metadata or {}), key: value}
