"""A callback handler that records the tool calls of LangChain and LangGraph agents.

    with Tracker(model, domain="cafes") as tracker:
        config = {"callbacks": [AgentModelCallback(tracker)], "configurable": {"thread_id": "t1"}, "metadata": {"user_id": "kim"}}
        agent.invoke({"messages": [...]}, config)

The thread is the session; the config's metadata has the user (``user_id``) and the ``category`` of the request; the user
may be in ``configurable`` too. The handler only listens. Callbacks do not report unknown tools and rejected calls: `AgentModelMiddleware` records those.
"""  # noqa: E501  # a config is read at once

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables.config import ensure_config
from langgraph.errors import GraphBubbleUp
from typing_extensions import override

from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.text import error_text, type_name
from agentmodel.integrations._failures import count_failures
from agentmodel.integrations._tracking.foreign_ids import id_or_none
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker, check_tracker
from agentmodel.integrations.langchain._messages import (
    CALLBACK,
    answer_in,
    asked_for,
    report_turn,
    request_of,
    scope_of,
    text_of,
    user_of,
)

__all__ = ["AgentModelCallback"]


@dataclass(slots=True)
class _Outermost:
    """An outermost run of LangChain; its tracked run is made when something is reported of it.

    Handlers are shown the metadata of a config, and not its ``configurable``. Inside of the run that can be read from
    the context, so the user is looked for there and then.
    """

    session: str
    metadata: Mapping[str, Any]
    request: str | None
    run: TrackedRun | None = None


class AgentModelCallback(BaseCallbackHandler):
    """Records every attempt of every tool call that a LangChain or LangGraph run makes.

    Args:
        tracker: Writes the history; its ``domain`` is the domain of the agents.
        agent: Name for agents that have none (``create_agent(name=…)`` gives one).

    Attributes:
        tracker: The same; its ``errors`` counts what could not be recorded.
    """

    run_inline = True  # keeps the order of the events; nothing here waits

    def __init__(self, tracker: Tracker, *, agent: str = "agent") -> None:
        check_tracker(tracker)
        self.tracker = tracker
        self._agent = agent
        self._lock = ForkSafeLock()
        # by the number of their ids, which Python hashes without a call; each run with its metadata
        self._runs: dict[int, tuple[_Outermost, Mapping[str, Any]]] = {}
        self._calls: dict[int, tuple[TrackedRun, str, int]] = {}

    # Runs

    def _begin(
        self, run_id: UUID, parent: UUID | None, metadata: Mapping[str, Any] | None, inputs: Any = None
    ) -> _Outermost:
        given = metadata or {}
        with self._lock:
            known = None if parent is None else self._runs.get(parent.int)
            if known is not None:
                self._runs[run_id.int] = known[0], given
                return known[0]
        # only its inputs are looked through: those of a chain inside of it may be a long state
        session = id_or_none(text_of(given.get("thread_id"))) or str(parent or run_id)
        outermost = _Outermost(session, given, request_of(inputs))
        with self._lock:
            self._runs[run_id.int] = outermost, given
        return outermost

    def _tracked(self, outermost: _Outermost) -> TrackedRun:
        """Return the tracked run, which is made at the first call."""
        given = outermost.metadata
        with self._lock:
            if outermost.run is None:
                outermost.run = self.tracker.run(
                    outermost.session,
                    user=user_of({"metadata": given, "configurable": ensure_config().get("configurable")}),
                    request=asked_for(given) or outermost.request,
                    category=text_of(given.get("category")),
                )
            return outermost.run

    def run_of(self, run_id: UUID) -> TrackedRun | None:
        """Return the tracked run that LangChain's run of this id is part of; None once it has ended."""
        with self._lock:
            known = self._runs.get(run_id.int)
        return None if known is None else self._tracked(known[0])

    def _end(self, run_id: UUID) -> tuple[_Outermost, Mapping[str, Any]] | None:
        with self._lock:
            return self._runs.pop(run_id.int, None)

    @override
    @count_failures
    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Register a chain under the run that it is part of."""
        self._begin(run_id, parent_run_id, metadata, inputs)

    @override
    @count_failures
    def on_chain_end(
        self, outputs: dict[str, Any], *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """End the run when the outermost chain ends."""
        ended = self._end(run_id)
        if ended is not None and parent_run_id is None:
            self._tracked(ended[0]).finish()

    @override
    @count_failures
    def on_chain_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """End the run when the outermost chain raises: as a failure, unless it is an interrupt or a cancelled task."""
        ended = self._end(run_id)
        if ended is not None and parent_run_id is None:
            failed = isinstance(error, Exception) and not isinstance(error, GraphBubbleUp)
            self._tracked(ended[0]).finish(succeeded=False if failed else None)

    # Turns of the model

    @override
    @count_failures
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Register a turn under the run that it is part of."""
        self._begin(run_id, parent_run_id, metadata)

    @override
    @count_failures
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Drop the turn."""
        self._end(run_id)

    @override
    @count_failures
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Report which calls the model requests, in its order, and how many tokens the turn took."""
        turn = self._end(run_id)
        for generation in [one for many in response.generations for one in many]:
            message = generation.message if isinstance(generation, ChatGeneration) else None
            if turn is None or not isinstance(message, AIMessage) or not message.tool_calls:
                continue
            outermost, given = turn
            node = str(given.get("langgraph_node") or "model")
            report_turn(self._tracked(outermost), node, message, scope=scope_of(given))

    # Tools

    @override
    @count_failures
    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the start of an attempt of a call."""
        run = self._tracked(self._begin(run_id, parent_run_id, metadata))
        call_id = id_or_none(kwargs.get("tool_call_id")) or str(run_id)
        attempt = run.start(
            call_id,
            agent=text_of((metadata or {}).get("lc_agent_name")) or self._agent,
            tool=str(kwargs.get("name") or serialized.get("name") or "tool"),
            arguments=input_str if inputs is None else inputs,
            source=CALLBACK,
            scope=scope_of(metadata),
        )
        with self._lock:
            self._calls[run_id.int] = run, call_id, attempt

    @override
    @count_failures
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Report the end of an attempt that returned; a tool may also report in its message that it failed."""
        call = self._call(run_id)
        if call is not None:
            run, call_id, attempt = call
            answer = answer_in(output, call_id)
            failed = answer is not None and answer.status == "error"
            run.end(
                call_id,
                attempt,
                status="error" if failed else "ok",
                result=output if answer is None else answer.content,
                error_type="_OTHER" if failed else None,
                source=CALLBACK,
            )

    @override
    @count_failures
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Report the end of an attempt that raised; an interrupt or a cancelled task is no failure of the tool."""
        call = self._call(run_id)
        if call is not None:
            interrupted = isinstance(error, GraphBubbleUp) or not isinstance(error, Exception)
            run, call_id, attempt = call
            run.end(
                call_id,
                attempt,
                status="interrupted" if interrupted else "error",
                result=error_text(error),
                error_type=type_name(error),
                source=CALLBACK,
            )

    def _call(self, run_id: UUID) -> tuple[TrackedRun, str, int] | None:
        with self._lock:
            self._runs.pop(run_id.int, None)
            return self._calls.pop(run_id.int, None)
