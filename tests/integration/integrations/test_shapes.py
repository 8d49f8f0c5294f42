"""What a framework can hand us has one description: the same messages, answers and agents at every entry point."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmodel.integrations._tracking.conventions import Span, request_of
from agentmodel.integrations._tracking.messages import content_text, last_request, user_texts
from agentmodel.integrations._tracking.spans import calls

TEXT = st.text("aé ☕\n", min_size=1, max_size=12)
TEXT_PART = st.one_of(
    TEXT,
    st.builds(lambda text: {"type": "text", "text": text}, TEXT),
    st.builds(lambda text: {"type": "input_text", "text": text}, TEXT),
    st.builds(lambda text: {"type": "text", "content": text}, TEXT),
    st.builds(lambda text: {"text": text}, TEXT),
    st.builds(lambda text: SimpleNamespace(text=text), TEXT),
    st.builds(lambda text: SimpleNamespace(kind="text-content", content=text), TEXT),
)
OTHER_PART: st.SearchStrategy[Any] = st.sampled_from([
    {"type": "image_url", "image_url": {"url": "https://x/y.png"}}, {"type": "blob", "content": "aGk="}, {"image": {"format": "png"}},
    {"type": "reasoning", "text": "hm"}, {"type": "thinking", "thinking": "hm"}, {"type": "tool_result", "content": "found"},
    {"toolResult": {"content": [{"text": "found"}]}}, SimpleNamespace(kind="binary", data=b"x", content="x"), 7, None, [],
])  # fmt: skip
NO_USER = st.sampled_from([
    ("system", "You help."), {"role": "assistant", "content": "yes"}, {"type": "function_call_output", "output": "found"},
    {"role": "user", "content": []}, SimpleNamespace(type="ai", content="yes"), None, 7, {}, (), ("a", "b", "c"),
])  # fmt: skip


def text_in(part: Any) -> str:
    """The text of a part that has one."""
    if isinstance(part, dict):
        return str(part.get("text", part.get("content")))
    return str(getattr(part, "text", None) or getattr(part, "content", part))


SHAPES: tuple[Callable[[Any], Any], ...] = (
    lambda content: {"role": "user", "content": content},
    lambda content: {"type": "human", "content": content},
    lambda content: {"role": "user", "parts": content},
    lambda content: ("user", content),
    lambda content: ["human", content],
    lambda content: SimpleNamespace(role="user", content=content),
    lambda content: SimpleNamespace(role=SimpleNamespace(value="user"), content=content),
    lambda content: SimpleNamespace(type="human", content=content),
    lambda content: {"lc": 1, "kwargs": {"type": "human", "content": content}},
)
"""A user's message, in each shape."""


class TestMessages:
    @given(
        st.lists(
            st.one_of(TEXT_PART.map(lambda part: (text_in(part), part)), OTHER_PART.map(lambda part: ("", part))),
            max_size=5,
        )
    )
    @settings(max_examples=50, deadline=None)
    def test_the_text_of_parts(self, parts: list[tuple[str, Any]]) -> None:
        """The texts among a content's parts are its text; images, thoughts and results of tools have none."""
        wanted = "\n".join(text for text, _ in parts if text).strip()

        assert (wanted or None) == content_text([part for _, part in parts])

    @given(st.lists(st.one_of(NO_USER, st.tuples(st.sampled_from(SHAPES), TEXT)), max_size=5))
    @settings(max_examples=50, deadline=None)
    def test_users_among_messages(self, given_messages: list[Any]) -> None:
        """What the user said is found in each shape of a message, in its order, and nothing that others said."""
        made = [
            (one[1], one[0](one[1])) if isinstance(one, tuple) and one and callable(one[0]) else ("", one)
            for one in given_messages
        ]
        wanted = [text.strip() for text, _ in made if text.strip()]

        assert wanted == list(user_texts([message for _, message in made]))
        assert (wanted[-1] if wanted else None) == last_request([message for _, message in made])

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["role", "type", "content", "parts", "text", "kwargs", "messages"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=12,
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_whatever_stands_there(self, anything: Any) -> None:
        """Values that are no messages raise nothing, in objects and in spans."""
        told = {
            name: json.dumps(anything)
            for name in ("gen_ai.input.messages", "input.value", "crew_tasks", "haystack.agent.input")
        }

        assert all(isinstance(text, str) and text.strip() for text in user_texts(anything))
        assert isinstance(content_text(anything), str | None)
        assert isinstance(request_of(Span("t", "1", None, "chat", attributes=told)), str | None)


PARTS = [
    {"type": "text", "text": "a café"},
    {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
    {"type": "text", "text": "near the park"},
]
SAID = "a café\nnear the park"


COMMAND: dict[str, Any] = {"graph": None, "goto": [], "resume": None}
ANSWER = {"content": "no table", "type": "tool", "tool_call_id": "c1", "status": "error"}


@pytest.mark.parametrize(
    "message",
    [{"type": "tool", "data": ANSWER}, {"type": "constructor", "kwargs": ANSWER}, ANSWER],
    ids=["OpenInference", "OpenLLMetry", "LangSmith"],
)
@pytest.mark.parametrize(
    "update", [lambda one: {"messages": [{"type": "ai", "data": {}}, one]}, lambda one: [one]], ids=["state", "list"]
)
def test_an_error_in_a_command_of_a_span(message: dict[str, Any], update: Callable[[Any], Any]) -> None:
    """The three instrumentations of LangChain write a `Command`, or several, each in its way; its message decides."""
    command = {**COMMAND, "update": update(message)}
    for output in (command, {"output": command}, [COMMAND, command], {"output": [command]}):
        told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.result": json.dumps(output)}
        (one,) = calls([Span("t", "1", None, "execute_tool book", attributes=told)])

        assert ("error", "no table", "c1") == (one.status, one.result, one.call_id)


@pytest.mark.parametrize("content", [PARTS, SAID])
def test_a_message_of_parts_is_the_same_request_everywhere(content: Any) -> None:
    """Strands, OpenAI Agents and spans give the text of a user's parts as the request, as LangChain does."""
    strands_content = (
        [{"text": part["text"]} for part in PARTS if "text" in part] if content is PARTS else [{"text": content}]
    )
    openai_content = (
        [{**part, "type": "input_text"} if "text" in part else part for part in PARTS] if content is PARTS else content
    )
    parts = (
        [{"type": "text", "content": one["text"]} if "text" in one else one for one in PARTS]
        if content is PARTS
        else [{"type": "text", "content": content}]
    )
    told = {"gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}])}

    assert SAID == last_request([{"role": "user", "content": strands_content}])
    assert SAID == last_request(
        [{"role": "user", "content": openai_content}, {"type": "function_call_output", "output": "x"}]
    )
    assert SAID == request_of(Span("t", "1", None, "chat", attributes=told))
