"""Hooks and in-process tools of one conversation: what they tell is recorded, and a guard decides by them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
from claude_agent_sdk import ClaudeAgentOptions, HookMatcher, SdkMcpTool, create_sdk_mcp_server

from agentmodel._values.text import prompt_text, type_name
from agentmodel.exceptions import Conflict, ValidationError
from agentmodel.integrations._enforcer import RunEnforcer, prompt_of
from agentmodel.integrations._failures import FailuresCounted
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.integrations.claude_agent_sdk._calls import INTERNAL, CallsOfConversation, OpenCall, plain_result
from agentmodel.suggest.guard import Guard, Resolution, as_content, interrupt_question
from agentmodel.suggest.plan import Plan

__all__ = ["ConversationHooks"]

T = TypeVar("T")

_NOT_OF_A_USER = ("Continue from where you left off.", "<task-notification>")
"""How prompts begin that the SDK itself gives: after a deferred call, and when a sub-agent is done."""


class ConversationHooks:
    """Hooks and tools of one conversation.

    Args:
        tracker: Writes the history.
        user: The user that it works for.
        agent: Name of the main agent.
        request: What the user asks for; what they say when None.
        category: The kind of request.
        tools: Tools of this process, by the name of their server.
        guard: Decides; None only records.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        user: str | None,
        agent: str,
        request: str | None,
        category: str | None,
        tools: Mapping[str, Sequence[SdkMcpTool[Any]]],
        guard: Guard | None,
    ) -> None:
        self.tracker = tracker
        self.calls = CallsOfConversation(tracker, agent)
        self.question: dict[str, Any] | None = None
        self._user, self._agent, self._request, self._category = user, agent, request, category
        self._tools = {_name(server, one.name): one for server, given in tools.items() for one in given}
        self._servers = {
            server: create_sdk_mcp_server(server, tools=[self._served(_name(server, one.name), one) for one in given])
            for server, given in tools.items()
        }
        self._enforcer = None if guard is None else RunEnforcer(guard, tracker)
        self._plan: Plan | None = None
        self._deferred: str | None = None

    def options(self, options: ClaudeAgentOptions) -> ClaudeAgentOptions:
        """Return options with the hooks and the tools added.

        Raises:
            ValidationError: The options have a server of the name of one of the tools' servers, or a file of servers.
        """
        servers = options.mcp_servers
        if self._servers:
            if not isinstance(servers, dict):
                raise ValidationError("mcp_servers", str(servers), "must be a mapping of servers where tools= is given")
            for server in self._servers:
                if server in servers:
                    raise ValidationError("tools", server, "must not name a server that options.mcp_servers has too")
            servers = {**servers, **self._servers}
        with FailuresCounted(self.tracker, "revision"):
            self._see(options)
        hooks: dict[Any, list[HookMatcher]] = {event: list(given) for event, given in (options.hooks or {}).items()}
        # a decision that fails must not let the call pass, so the SDK blocks it; the guard itself fails as it is set to
        before = HookMatcher(hooks=[self._before], on_failure=None if self._enforcer is None else "block")
        ours = {
            "UserPromptSubmit": HookMatcher(hooks=[self._prompted]),
            "PreToolUse": before,
            "PostToolUse": HookMatcher(hooks=[self._after]),
            "PostToolUseFailure": HookMatcher(hooks=[self._failed]),
        }
        for event, matcher in ours.items():
            hooks.setdefault(event, []).append(matcher)
        # the parts of a message tell what it took; without them the SDK tells that of its beginning
        return replace(options, hooks=hooks, mcp_servers=servers, include_partial_messages=True)

    def _see(self, options: ClaudeAgentOptions) -> None:
        """Note of which revision the agents are."""
        described = [[name, one.description, one.input_schema] for name, one in self._tools.items()]
        see = self.tracker.revisions.see
        see(self._agent, prompt=options.system_prompt, model=options.model, tools=lambda: described)
        for name, one in (options.agents or {}).items():
            see(name, prompt=one.prompt, model=one.model, tools=partial(list, one.tools or ()))

    # Requests

    async def _prompted(self, given: Any, _tool_use_id: str | None, _context: Any) -> Any:
        """Find the session, and plan for a new request: the SDK keeps the plan in the conversation."""
        with FailuresCounted(self.tracker, "plan"):
            said = given["prompt"].strip()
            if not said or said.startswith(_NOT_OF_A_USER):
                self.calls.opened(given["session_id"], user=self._user)
                return {}
            request, self._deferred, self.question = self._request or said, None, None
            run = self.calls.opened(given["session_id"], user=self._user, request=request, category=self._category)
            if self._enforcer is None:
                return {}
            self._plan = await _in_thread(self._enforcer.plan, run, request=request, category=run.category)
            run.follow(None if self._plan is None else self._plan.suggestion_id)
            text = prompt_of(self._plan)
            return {} if text is None else _output("UserPromptSubmit", additionalContext=text)
        return {}

    # Calls

    async def _before(self, given: Any, _tool_use_id: str | None, _context: Any) -> Any:
        """Decide about a call; without a guard, note that it begins."""
        tool, arguments = given["tool_name"], given["tool_input"]
        if tool in INTERNAL:
            return {}
        resolution = None if self._enforcer is None else self._enforcer.undecided(tool, arguments)
        call = None
        with FailuresCounted(self.tracker, f"a call of {tool}"):
            if self.calls.run is None:
                self.calls.opened(given["session_id"], user=self._user, category=self._category)
            call = self.calls.begin(given)
            if self._enforcer is not None:
                resolution = call.resolution = await self._resolved(call, self._enforcer)
        if resolution is None:
            return {}
        with FailuresCounted(self.tracker, f"a call of {tool}"):
            return await self._carried_out(call, resolution)
        return {} if resolution.permits else _denied(resolution.content)

    async def _resolved(self, call: OpenCall, enforcer: RunEnforcer) -> Resolution:
        run = self.calls.run
        assert run is not None  # noqa: S101  # the caller opened it
        return await _in_thread(
            enforcer.resolve_call,
            run,
            call.agent,
            call.tool,
            call.requested,
            call_id=call.call_id,
            scope=call.sub_agent or "",
            plan=self._plan,
            fresh=call.tool not in self._tools,  # nobody can answer in place of a tool that is elsewhere
        )

    async def _carried_out(self, call: OpenCall | None, resolution: Resolution) -> Any:
        """Return what a decision is to the SDK."""
        decided = resolution.answer is not None
        if resolution.permits:
            if not decided:
                return {}  # the SDK's own rules have their say
            edited = {} if resolution.notice is None else {"updatedInput": resolution.arguments}
            return _output("PreToolUse", permissionDecision="allow", **edited)
        content = resolution.content
        if call is None:
            return _denied(content)
        if not resolution.is_error and call.tool in self._tools:  # its tool in this process gives it
            return _output("PreToolUse", permissionDecision="allow") if decided else {}
        if resolution.waits and resolution.review is not None:
            if not call.inner and self._deferred in (None, call.call_id):
                self._deferred, call.deferred = call.call_id, True
                self.question = interrupt_question(resolution.review, call.tool, trouble=resolution.trouble)
                reason = self.question["question"]
                return _output("PreToolUse", permissionDecision="defer", permissionDecisionReason=reason)
            await self._withdraw(resolution)
            if not call.inner:
                content = (
                    f"{prompt_text(call.tool)} was not called: another call waits for a person, and one can at a time. "
                    "Call it again when that one is done."
                )
        self.calls.end(call, resolution.status or "rejected", result=content)
        return _denied(content)

    async def _withdraw(self, resolution: Resolution) -> None:
        """Withdraw a question about a call that cannot wait, so that nobody answers it in vain."""
        with FailuresCounted(self.tracker, "the question about a call that cannot wait"):
            try:
                if self._enforcer is not None and resolution.review is not None:
                    await _in_thread(self._enforcer.guard.reviews.cancel, resolution.review, "the application")
            except Conflict:
                return  # it was answered meanwhile

    async def _after(self, given: Any, _tool_use_id: str | None, _context: Any) -> Any:
        """Record a call that succeeded, and cache its result if the guard allows it."""
        with FailuresCounted(self.tracker, f"a call of {given['tool_name']}"):
            call = self.calls.get(given)
            if call is None:
                return {}
            resolution, took = call.resolution, given.get("duration_ms")
            if resolution is not None and not resolution.permits and call.served:
                self.calls.end(call, resolution.status or "rejected", result=resolution.content)
                return {}
            arguments, response = given["tool_input"], given["tool_response"]
            notice = None if resolution is None else resolution.notice
            if notice is not None and call.served and isinstance(response, list):
                notice, response = None, response[1:]  # the tool has told it
            result = plain_result(response)
            edited = arguments != call.requested
            self.calls.end(call, "edited" if edited else "ok", took=took, arguments=arguments, result=result)
            if self._enforcer is None or resolution is None:
                return {}
            if resolution.keeps and call.tool in self._tools and arguments == resolution.arguments:
                await _in_thread(self._enforcer.keep, resolution, result)
            if notice is not None:
                return _output("PostToolUse", additionalContext=notice)
        return {}

    async def _failed(self, given: Any, _tool_use_id: str | None, _context: Any) -> Any:
        """Record a call that failed or was interrupted."""
        with FailuresCounted(self.tracker, f"a call of {given['tool_name']}"):
            call = self.calls.get(given)
            if call is None:
                return {}
            told = {"took": given.get("duration_ms"), "arguments": given["tool_input"], "result": given["error"]}
            if given.get("is_interrupt"):
                self.calls.end(call, "interrupted", **told)
            else:
                self.calls.end(call, "error", error_type=_error_type(call, given["error"]), **told)
        return {}

    # Tools of this process

    def _served(self, name: str, tool: SdkMcpTool[Any]) -> SdkMcpTool[Any]:
        """Return a tool that gives what the guard has in place of a result, and tells what it raised."""

        async def handler(arguments: Any) -> dict[str, Any]:
            call = None
            with FailuresCounted(self.tracker, f"a call of {name}"):
                call = self.calls.serve(name, arguments)
                if call is None and self.calls.is_decided(name):  # another hook changed its arguments
                    changed = f"{prompt_text(name)} was not called: its arguments are not those that were decided about"
                    return {**_as_result(changed), "is_error": True}
            resolution = None if call is None else call.resolution
            if resolution is not None and not resolution.permits:
                return _as_result(resolution.content)
            try:
                result: dict[str, Any] = await tool.handler(arguments)
            except Exception as error:
                if call is not None:
                    call.error = error
                raise
            if resolution is None or resolution.notice is None:
                return result
            return {**result, "content": [{"type": "text", "text": resolution.notice}, *result.get("content", ())]}

        return replace(tool, handler=handler)


async def _in_thread(function: Callable[..., T], *args: Any, **more: Any) -> T:
    """Call what waits for a store; the SDK runs on asyncio and on Trio."""
    return await anyio.to_thread.run_sync(partial(function, *args, **more))


def _name(server: str, tool: str) -> str:
    """Return the name by which the model and the permission rules know a tool of a server."""
    return f"mcp__{_plain(server)}__{_plain(tool)}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _output(event: str, **more: Any) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": event, **more}}


def _denied(content: Any) -> dict[str, Any]:
    return _output("PreToolUse", permissionDecision="deny", permissionDecisionReason=as_content(content))


def _as_result(content: Any) -> dict[str, Any]:
    """Return a cached result, or a person's answer, as the SDK's tools give it."""
    match content:
        case [{"type": str()}, *_]:
            return {"content": content}
    return {"content": [{"type": "text", "text": as_content(content)}]}


def _error_type(call: OpenCall, text: str) -> str:
    """Return the type of a failure; the SDK tells only its text."""
    if call.error is not None:
        return type_name(call.error)
    return "ValidationError" if text.startswith("Input validation error") else "tool_error"
