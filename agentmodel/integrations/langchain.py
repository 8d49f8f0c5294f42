"""A callback handler that records the tool calls of LangChain and LangGraph agents.

    with Tracker(model, domain="cafes") as tracker:
        config = {"callbacks": [AgentModelCallback(tracker)], "configurable": {"thread_id": "t1"}, "metadata": {"user_id": "kim"}}
        agent.invoke({"messages": [...]}, config)

The thread is the session; ``user_id`` and ``category`` of the config's metadata say whom and what it is for. The handler
only listens: what callbacks do not show (unknown tools, rejections) is seen by the middleware that acts,
`AgentModelMiddleware`, which is found here too.
"""  # noqa: E501  # a config is read at once

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec
from uuid import UUID

from typing_extensions import override

from agentmodel.exceptions import MissingExtraError
from agentmodel.integrations._calls import Run, Tracker, check_tracker

try:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
    from langchain_core.outputs import ChatGeneration, LLMResult
    from langgraph.errors import GraphBubbleUp

    from agentmodel.integrations._langchain import CALLBACK, request_of, tell_turn, text_of
except ModuleNotFoundError as error:
    raise MissingExtraError("langchain", "the LangChain callback handler", error.name) from error

if TYPE_CHECKING:
    from agentmodel.integrations.langchain_middleware import AgentModelMiddleware

__all__ = ["AgentModelCallback", "AgentModelMiddleware", "Tracker"]

P = ParamSpec("P")


def __getattr__(name: str) -> Any:
    """The middleware, loaded when it is first used: the handler works without the package ``langchain``."""
    if name != "AgentModelMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agentmodel.integrations.langchain_middleware import AgentModelMiddleware

    return AgentModelMiddleware


def _guarded(method: Callable[P, None]) -> Callable[P, None]:
    """A callback that counts and logs what fails in it; LangChain would log it, and nobody would count."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:  # noqa: BLE001  # what fails here is never the agent's: it is counted, and told
            handler = args[0]
            if isinstance(handler, AgentModelCallback):
                handler.tracker.failed(method.__name__)

    return guarded


class AgentModelCallback(BaseCallbackHandler):
    """Records every attempt of every tool call that a LangChain or LangGraph run makes.

    Args:
        tracker: What writes; its ``domain`` is the agents' domain.
        agent: Name of agents that have none (``create_agent(name=…)`` gives one).

    Attributes:
        tracker: The same; its ``errors`` counts what was not recorded.
    """

    run_inline = True  # in the order of the events; nothing here waits

    def __init__(self, tracker: Tracker, *, agent: str = "agent") -> None:
        check_tracker(tracker)
        self.tracker = tracker
        self._agent = agent
        self._lock = threading.Lock()
        self._runs: dict[UUID, tuple[Run, str]] = {}  # the run, and the name of the graph's node
        self._calls: dict[UUID, tuple[Run, str, int]] = {}

    # Runs

    def _begin(
        self, run_id: UUID, parent: UUID | None, metadata: Mapping[str, Any] | None, request: str | None = None
    ) -> Run:
        told = metadata or {}
        with self._lock:
            known = None if parent is None else self._runs.get(parent)
            if known is None:
                run = self.tracker.run(
                    str(told.get("thread_id") or parent or run_id),
                    user=text_of(told.get("user_id")),
                    request=text_of(told.get("request")) or request,
                    category=text_of(told.get("category")),
                )
            else:
                run = known[0]
            self._runs[run_id] = run, str(told.get("langgraph_node") or "model")
        return run

    def run_of(self, run_id: UUID) -> Run | None:
        """The run that LangChain's run of this id is part of, while it lasts."""
        with self._lock:
            known = self._runs.get(run_id)
        return None if known is None else known[0]

    def _end(self, run_id: UUID) -> tuple[Run, str] | None:
        with self._lock:
            return self._runs.pop(run_id, None)

    @override
    @_guarded
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
        """Know which run this is part of."""
        self._begin(run_id, parent_run_id, metadata, request_of(inputs))

    @override
    @_guarded
    def on_chain_end(
        self, outputs: dict[str, Any], *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """The end of the outermost one ends the run."""
        ended = self._end(run_id)
        if ended is not None and parent_run_id is None:
            ended[0].finish()

    @override
    @_guarded
    def on_chain_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """An error that leaves the outermost one is the session's failure; an interrupt or a cancelled task is none."""
        ended = self._end(run_id)
        if ended is not None and parent_run_id is None:
            failed = isinstance(error, Exception) and not isinstance(error, GraphBubbleUp)
            ended[0].finish(succeeded=False if failed else None)

    # Turns of the model

    @override
    @_guarded
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
        """Know which run this turn is part of."""
        self._begin(run_id, parent_run_id, metadata)

    @override
    @_guarded
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the turn."""
        self._end(run_id)

    @override
    @_guarded
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Take the calls that the model asks for, in its order, and what they cost."""
        turn = self._end(run_id)
        for generation in [one for many in response.generations for one in many]:
            message = generation.message if isinstance(generation, ChatGeneration) else None
            if turn is None or not isinstance(message, AIMessage) or not message.tool_calls:
                continue
            tell_turn(*turn, message)

    # Tools

    @override
    @_guarded
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
        """A call begins, or is tried again."""
        run = self._begin(run_id, parent_run_id, metadata)
        call_id = str(kwargs.get("tool_call_id") or run_id)
        attempt = run.start(
            call_id,
            agent=text_of((metadata or {}).get("lc_agent_name")) or self._agent,
            tool=str(kwargs.get("name") or serialized.get("name") or "tool"),
            arguments=input_str if inputs is None else inputs,
            source=CALLBACK,
        )
        with self._lock:
            self._calls[run_id] = run, call_id, attempt

    @override
    @_guarded
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A call gave a result; a tool may also say in its message that it failed."""
        call = self._call(run_id)
        if call is not None:
            failed = isinstance(output, ToolMessage) and output.status == "error"
            run, call_id, attempt = call
            run.end(
                call_id,
                attempt,
                status="error" if failed else "ok",
                result=output.content if isinstance(output, ToolMessage) else output,
                error_type="_OTHER" if failed else None,
                source=CALLBACK,
            )

    @override
    @_guarded
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A call raised; an interrupt of the graph and a cancelled task are no failure of the tool."""
        call = self._call(run_id)
        if call is not None:
            interrupted = isinstance(error, GraphBubbleUp) or not isinstance(error, Exception)
            run, call_id, attempt = call
            run.end(
                call_id,
                attempt,
                status="interrupted" if interrupted else "error",
                result=str(error),
                error_type=type(error).__qualname__,
                source=CALLBACK,
            )

    def _call(self, run_id: UUID) -> tuple[Run, str, int] | None:
        self._end(run_id)
        with self._lock:
            return self._calls.pop(run_id, None)
