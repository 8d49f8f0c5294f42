"""Record one call that was made elsewhere, at the same cost whatever its session has already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._values.text import NAME_BYTES, storable_text
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Status, ToolExecution, UserSession, UserSessionProcess
from agentmodel.exceptions import NotFound, TableUnavailable, Unavailable, ValidationError
from agentmodel.integrations.mcp._schemas import RecordResult

__all__ = ["CallToRecord", "check_known", "record"]

_log = logger(__name__)

_CALL_ID_CHARACTERS = 200
_GOOD = (None, "edited", "cache_hit")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallToRecord:
    """A call as its caller tells it."""

    agent_id: str
    tool_id: str
    succeeded: bool
    process: str
    arguments: Any
    result: Any
    error_type: str | None
    status: Status | None
    duration_ms: int | None
    call_id: str | None
    revision: str | None = None


def record(
    model: AgentModel,
    user_id: str,
    call: CallToRecord,
    *,
    session_id: str | None,
    request: str | None,
    category: str | None,
    may_add: bool,
) -> RecordResult:
    """Record a call as a step of its own.

    Its number in the session is claimed by the write of the step, under the id of the call: told again, the call has
    the number that it has already. Nothing reads the history of the session.

    Args:
        model: The installation.
        user_id: The user.
        call: The call.
        session_id: The session to continue, or None for a new one.
        request: What is asked, in the user's words.
        category: The kind of request.
        may_add: Whether the agent and the tool need not be in the catalogue.

    Raises:
        ValidationError: A value is not accepted, or the catalogue has no such agent or tool; nothing was recorded.
    """
    if call.succeeded and call.status not in _GOOD:
        raise ValidationError(
            "succeeded", True, f"must be false for a call that is {call.status}, because it was not made"
        )
    if call.call_id is not None and not 0 < len(call.call_id) <= _CALL_ID_CHARACTERS:
        raise ValidationError("call_id", call.call_id, f"must have 1 to {_CALL_ID_CHARACTERS} characters")
    tool_name = _tool_name(model, call, may_add=may_add)
    session = _session(model, user_id, session_id, request=request, category=category)
    recorder, now = model.recorder, model.recorder.now()
    session.ended_at = now
    step = UserSessionProcess(
        user_id=user_id,
        session_id=session.session_id,
        process_id=recorder.next_process_id(session, call.call_id, new=session_id is None),
        name=storable_text(call.process) or "step",
        prompt=session.request,
        started_at=now,
        call_id=storable_text(call.call_id),
    )
    both: list[UserSession | UserSessionProcess] = [session, step]
    process_id = cast("UserSessionProcess", recorder.record_many(both)[1].entity).process_id
    made = ToolExecution(
        user_id=user_id,
        session_id=session.session_id,
        process_id=process_id,
        agent_id=call.agent_id,
        tool_id=call.tool_id,
        tool_name=tool_name,
        values=storable_text(call.arguments),
        result=storable_text(call.result),
        succeeded=call.succeeded,
        status=call.status if call.succeeded else call.status or "error",
        error_type=None if call.succeeded else storable_text(call.error_type),
        executed_at=now,
        duration_ms=call.duration_ms,
        call_number=keys.parse_number(process_id.removeprefix("PRC")),
        call_id=storable_text(call.call_id),
        revision=storable_text(call.revision, limit=NAME_BYTES) or recorder.agent_revision(call.agent_id),
    )
    recorded = recorder.record(made).entity
    return RecordResult(
        user_id=user_id, session_id=session.session_id, process_id=process_id, call_id=recorded.call_id or ""
    )


def check_known(model: AgentModel, user_id: str, session_id: str) -> None:
    """Check that the history has a session, before something is said about it; not while the table does not answer.

    Raises:
        NotFound: It has not.
    """
    try:
        found = model.repository.session(user_id, keys.check_id("session_id", session_id, "SESS"))
    except Unavailable as error:
        _log.warning("recording an outcome without a look whether there is a session %s: %s", session_id, error)
        return
    if found is None:
        raise NotFound("session", f"{session_id} of {user_id}")


def _tool_name(model: AgentModel, call: CallToRecord, *, may_add: bool) -> str:
    """Return the name of the tool in the catalogue, which must have it unless the caller may add some."""
    try:
        tool = model.repository.tool(call.agent_id, call.tool_id)
        if tool is not None and may_add:
            return tool.name
        agent = None if may_add else model.repository.agent(call.agent_id)
    except TableUnavailable as error:
        _log.warning("recording %s of %s without a look into the catalogue: %s", call.tool_id, call.agent_id, error)
        return keys.name_of("TL", call.tool_id)
    if tool is not None and agent is not None:
        return tool.name
    if not may_add:
        kind, missing = ("agent_id", call.agent_id) if agent is None else ("tool_id", call.tool_id)
        raise ValidationError(
            kind,
            missing,
            "must be in the catalogue, because this caller may record what is there only: add it there, or give the "
            "caller the role curator",
        )
    return keys.name_of("TL", call.tool_id)


def _session(
    model: AgentModel, user_id: str, session_id: str | None, *, request: str | None, category: str | None
) -> UserSession:
    """Return the session to write: the stored one with what is new, or a new one."""
    made = model.recorder.session(user_id, request, category=category, session_id=session_id).entity
    if session_id is None:
        model.recorder.open(made, new=True)
        return made
    return model.recorder.continued(made) or made
