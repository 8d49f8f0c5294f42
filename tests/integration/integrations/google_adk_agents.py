"""Scripted agents of Google ADK for the tests."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.apps import App, ResumabilityConfig
from google.adk.models import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.genai import types
from pydantic import Field

from tests.integration.integrations.scenario import AGENT, CATEGORY, SESSION, USER, Turn


class Scripted(BaseLlm):  # type: ignore[misc,unused-ignore]  # Any where ADK is not installed
    """A model that says what it is told to, and then that it is done.

    Attributes:
        turns: What it says.
        systems: The instructions of each request.
        results: What it read of the calls, by the call's id.
    """

    model: str = "scripted"
    turns: list[Any] = Field(default_factory=list)
    systems: list[Any] = Field(default_factory=list)
    results: dict[str, Any] = Field(default_factory=dict)

    def __init__(self, turns: Sequence[Turn]) -> None:
        given: dict[str, Any] = {"turns": list(turns)}
        super().__init__(**given)

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:  # ADK's
        """The next turn."""
        self.systems.append(llm_request.config.system_instruction)
        for content in llm_request.contents:
            for part in content.parts:
                if part.function_response:
                    self.results[part.function_response.id] = part.function_response.response
        if not self.turns:
            yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text="done")]))
            return
        turn = self.turns.pop(0)
        parts = [
            types.Part(function_call=types.FunctionCall(id=one.call_id, name=one.tool, args=one.arguments))
            for one in turn.calls
        ]
        usage = types.GenerateContentResponseUsageMetadata(
            prompt_token_count=turn.input_tokens, candidates_token_count=turn.output_tokens
        )
        yield LlmResponse(content=types.Content(role="model", parts=parts), usage_metadata=usage)


def search(q: str) -> str:
    """Search."""
    return f"found {q}"


def broken(q: str) -> str:
    """Fail."""
    raise ValueError(f"no route to {q}")


def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


class Conversation:
    """A runner with an agent, and what waits for a person in its session."""

    def __init__(self, agent: Any, *plugins: Any, service: Any = None, user: str = USER) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ADK calls it experimental
            resumable = ResumabilityConfig(is_resumable=True)
        app = App(name="cafes", root_agent=agent, plugins=list(plugins), resumability_config=resumable)
        self.service = service or InMemorySessionService()
        self.runner = Runner(app=app, session_service=self.service)
        self.waits: dict[str, Any] = {}
        self._user = user

    async def tell_async(self, *parts: Any) -> None:
        """Send a message."""
        if await self.service.get_session(app_name="cafes", user_id=self._user, session_id=SESSION) is None:
            await self.service.create_session(
                app_name="cafes", user_id=self._user, session_id=SESSION, state={"category": CATEGORY}
            )
        self.waits = {}
        message = types.Content(role="user", parts=list(parts))
        async for event in self.runner.run_async(user_id=self._user, session_id=SESSION, new_message=message):
            for call in event.get_function_calls():
                if call.name == "adk_request_confirmation":
                    self.waits[(call.args or {})["originalFunctionCall"]["id"]] = call

    def tell(self, text: str) -> None:
        """Say something."""
        asyncio.run(self.tell_async(types.Part(text=text)))

    def answer(self, decision: Any, *, confirmed: bool = True) -> None:
        """Answer everything that waits with one decision, or each with its own."""
        parts = []
        for call_id, call in self.waits.items():
            payload = decision.get(call_id, decision) if isinstance(decision, dict) else decision
            response = {"confirmed": confirmed, "payload": payload}
            parts.append(
                types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response=response))
            )
        asyncio.run(self.tell_async(*parts))


def agent_of(scripted: Scripted, tools: Sequence[Any], **more: Any) -> Any:
    """An agent."""
    return LlmAgent(
        **{"name": AGENT, "model": scripted, "tools": list(tools), "instruction": "You find cafés.", **more}
    )
