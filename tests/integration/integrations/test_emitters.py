"""What emitters of spans do, told by small spans: placeholders, repeated messages, calls that are left, and dialects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.dynamo.models import ToolExecution
from agentmodel.integrations._tracking.conventions import Event, Span
from agentmodel.integrations._tracking.requested import requested_messages
from agentmodel.integrations._tracking.spans import SpanCall, calls
from agentmodel.integrations.otlp import _records as records
from agentmodel.traces import TraceRecord

ADK = "gcp.vertex.agent"


def span(number: int, name: str = "chat", parent: int | None = None, **values: Any) -> Span:
    """A span that begins at a second and lasts one, or until `until`."""
    until = values.pop("until", number + 1)
    return Span(
        trace_id="t", span_id=str(number), parent_id=None if parent is None else str(parent), name=name,
        started_ns=number * 10**9, ended_ns=until * 10**9, **values,
    )  # fmt: skip


def tool(number: int, name: str = "search", parent: int | None = None, **values: Any) -> Span:
    """A tool's span; `told` are its attributes."""
    told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, **values.pop("told", {})}
    return span(number, f"execute_tool {name}", parent, attributes=told, **values)


def asking(number: int, *asked: tuple[str, str, Any], parent: int | None = None, tokens: int | None = None) -> Span:
    """A model's span that requests calls, by id, tool and arguments."""
    return span(number, parent=parent, attributes=messages(asked, tokens=tokens))


def messages(*said: Any, tokens: int | None = None) -> dict[str, Any]:
    """Messages of a model as the newest conventions have them, and their tokens."""
    told = [
        {
            "role": "assistant",
            "parts": [
                dict(zip(("id", "name", "arguments"), one, strict=True)) | {"type": "tool_call"} for one in asked
            ],
        }
        for asked in said
    ]
    return {"gen_ai.output.messages": json.dumps(told)} | (
        {} if tokens is None else {"gen_ai.usage.input_tokens": tokens}
    )


def arguments(**values: Any) -> dict[str, str]:
    """Arguments of a call, as its span has them."""
    return {"gen_ai.tool.call.arguments": json.dumps(values)}


class TestRequests:
    def test_the_last_request_of_the_same_call_gives_its_id(self) -> None:
        """Calls without an id, or with a placeholder, are the requests of their tool and arguments, in their order."""
        asked = asking(1, ("c1", "search", {"q": 1}), ("c2", "search", {"q": 2}), tokens=8)
        first = tool(4, told={**arguments(q=1), "gen_ai.tool.call.id": "<not specified>"})
        made = calls([asked, tool(3, told=arguments(q=2)), first])

        assert [("c1", 4), ("c2", 4)] == [(one.call_id, one.input_tokens) for one in made]

    def test_a_request_is_of_one_call(self) -> None:
        """The same call that is asked for twice is two; one that is made again with one request is a retry of it."""
        asked = asking(1, ("c1", "search", {"q": 1}), ("c2", "search", {"q": 1}))
        same = [tool(number, told=arguments(q=1)) for number in (3, 4, 5)]

        assert ["c1", "c1", "c2"] == [one.call_id for one in calls([asked, *same])]

    def test_calls_at_once_without_a_request_of_their_own_are_no_retry(self) -> None:
        """A program that makes a call while the model's own runs makes another one."""
        asked = asking(1, ("c1", "search", {"q": 1}))
        made = calls([asked, tool(3, told=arguments(q=1), until=9), tool(4, told=arguments(q=1), until=9)])

        assert ["c1", "4"] == [one.call_id for one in made]

    def test_a_call_that_nobody_requested_has_its_own_id(self) -> None:
        """Neither another tool's request, nor one that came later, nor one of two others with other arguments is its."""
        asked = asking(1, ("c1", "book", {"q": 1}), ("c2", "search", {"q": 1}), ("c3", "search", {"q": 2}))
        made = calls([asked, tool(3, told=arguments(q=3)), tool(5, "pay"), asking(7, ("c4", "pay", {}))])

        assert ["3", "5"] == [one.call_id for one in made]

    def test_arguments_that_a_person_changed(self) -> None:
        """The only request of a tool is that of its call, also where it was made with other arguments."""
        made = calls([asking(1, ("c1", "pay", {"amount": 8})), tool(3, "pay", told=arguments(amount=5))])

        assert [("c1", {"amount": 5})] == [(one.call_id, one.arguments) for one in made]

    def test_two_instrumentations_of_one_request(self) -> None:
        """A span that has the id and one that has not are one call where they overlap."""
        known = tool(3, scope="a", until=6, told={**arguments(q=1), "gen_ai.tool.call.id": "c1"})
        other = tool(4, scope="b", until=5, told=arguments(q=1))

        assert ["c1"] == [one.call_id for one in calls([asking(1, ("c1", "search", {"q": 1})), known, other])]

    def test_agents_at_once_that_number_their_calls_alike(self) -> None:
        """Two agents whose models both ask for `call_0` make two calls, also of one tool with the same arguments."""
        agents = [span(0, "invoke_agent", None, until=20, attributes={"gen_ai.agent.name": "boss"})]
        agents += [
            span(number, "invoke_agent", 0, until=20, attributes={"gen_ai.agent.name": name})
            for number, name in ((1, "left"), (2, "right"))
        ]
        asked = [
            replace(asking(3 + number, ("call_0", "pay", {}), parent=number, tokens=number), ended_ns=9 * 10**9)
            for number in (1, 2)
        ]
        told = {"gen_ai.tool.call.id": "call_0"}
        made = [tool(number, "pay", parent, told=told, until=15) for number, parent in ((10, 2), (11, 1))]

        assert [("left", "call_0~2", 1, 1), ("right", "call_0", 2, 2)] == [
            (one.agent, one.call_id, one.turn, one.input_tokens) for one in calls([*agents, *asked, *made])
        ]

    def test_messages_on_an_enclosing_span_change_nothing(self) -> None:
        """An agent's span that repeats the messages of its models neither reorders calls nor counts their tokens."""
        first, second = ("c1", "search", {"q": 1}), ("c2", "search", {"q": 2})
        agent = span(0, "invoke_agent", attributes=messages([second], [first], tokens=100), until=20)
        asked = [asking(1, first, parent=0, tokens=7), asking(5, second, parent=0, tokens=9)]
        made = [
            tool(3, parent=0, told={"gen_ai.tool.call.id": "c1"}),
            tool(7, parent=0, told={"gen_ai.tool.call.id": "c2"}),
        ]

        assert [("c1", 1, 7), ("c2", 2, 9)] == [
            (one.call_id, one.turn, one.input_tokens) for one in calls([agent, *asked, *made])
        ]

    def test_messages_of_an_agents_span_alone(self) -> None:
        """Where only the agent's span has the messages, they give the order; its tokens are those of the whole run."""
        agent = span(
            0, "invoke_agent", attributes=messages([("c1", "search", {})], [("c2", "book", {})], tokens=100), until=20
        )
        made = [tool(3, "book", parent=0), tool(4, parent=0)]

        assert [("c1", 1, None), ("c2", 2, None)] == [
            (one.call_id, one.turn, one.input_tokens) for one in calls([agent, *made])
        ]


OPENAI = {
    "role": "assistant",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": 1}'}}],
}
DIALECTS: dict[str, dict[str, Any]] = {
    "conventions since 2025": {"attributes": messages([("c1", "search", {"q": 1})])},
    "conventions since 2025, an object": {
        "attributes": {"gen_ai.output.messages": json.loads(messages([("c1", "search", {"q": 1})])["gen_ai.output.messages"])}
    },
    "conventions since 2025, an event": {
        "events": [Event("gen_ai.client.inference.operation.details", messages([("c1", "search", {"q": 1})]))]
    },
    "events of 2024 and 2025": {"events": [Event("gen_ai.choice", {"message": json.dumps(OPENAI)})]},
    "events of 2024, flat": {"events": [Event("gen_ai.choice", OPENAI)]},
    "events of early 2024": {"events": [Event("gen_ai.content.completion", {"gen_ai.completion": json.dumps([OPENAI])})]},
    "Strands": {
        "events": [
            Event(
                "gen_ai.choice",
                {"message": json.dumps([{"text": "so"}, {"toolUse": {"toolUseId": "c1", "name": "search", "input": {"q": 1}}}])},
            )
        ]
    },
    "OpenLLMetry of 2024": {
        "attributes": {
            "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.tool_calls.0.id": "c1",
            "gen_ai.completion.0.tool_calls.0.name": "search", "gen_ai.completion.0.tool_calls.0.arguments": '{"q": 1}',
        }
    },
    "OpenInference": {
        "attributes": {
            "openinference.span.kind": "LLM",
            "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c1",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "search",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"q": 1}',
        }
    },
    "Haystack": {
        "attributes": {
            "haystack.agent.step.llm.output": json.dumps(
                {"replies": [{"role": "assistant", "content": [{"tool_call": {"tool_name": "search", "arguments": {"q": 1}, "id": "c1"}}]}]}
            )
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("values", DIALECTS.values(), ids=DIALECTS)
def test_what_a_model_requests_in_each_dialect(values: dict[str, Any]) -> None:
    """Id, tool and arguments of a requested call are read in the newest conventions and in those of years ago."""
    ((asked,),) = requested_messages(span(1, **values))

    assert ("c1", "search", {"q": 1}) == (asked.call_id, asked.tool, asked.arguments)


def otlp_value(value: Any) -> dict[str, Any]:
    """A value as OTLP-JSON has it."""
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": key, "value": otlp_value(one)} for key, one in value.items()]}}
    if isinstance(value, list):
        return {"arrayValue": {"values": [otlp_value(one) for one in value]}}
    return {"stringValue": str(value)}


LOGGED: dict[str, list[tuple[str, dict[str, Any], Any]]] = {
    "since 2025": [
        (
            "gen_ai.client.inference.operation.details",
            {
                "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "a café"}]}],
                "gen_ai.output.messages": [
                    {
                        "role": "assistant",
                        "parts": [{"type": "tool_call", "id": "c1", "name": "search", "arguments": "{}"}],
                    }
                ],
            },
            None,
        )
    ],
    "of 2024 and 2025": [
        ("gen_ai.user.message", {"gen_ai.system": "openai"}, {"content": "a café"}),
        (
            "gen_ai.choice",
            {"gen_ai.system": "openai"},
            {
                "index": "0",
                "message": {
                    "role": "assistant",
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "search", "arguments": "{}"}}],
                },
            },
        ),
    ],
}


@pytest.mark.parametrize("logged", LOGGED.values(), ids=LOGGED)
def test_messages_that_are_logged_beside_the_spans(
    tmp_path: Path, logged: list[tuple[str, dict[str, Any], Any]]
) -> None:
    """Files have the messages as log records too: they give a call its id, its tokens and its request."""

    def exported(number: int, name: str, **attributes: str) -> dict[str, Any]:
        times = {"startTimeUnixNano": str(number * 10**9), "endTimeUnixNano": str((number + 1) * 10**9)}
        given = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
        return {"traceId": "t1", "spanId": f"s{number}", "name": name, **times, "attributes": given}

    model_span = exported(1, "chat gpt")
    model_span["attributes"] = [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}}]
    tool_span = exported(3, "execute_tool search", **{"gen_ai.operation.name": "execute_tool"})
    logs = [
        {
            "traceId": "t1", "spanId": "s1", "timeUnixNano": "1", "eventName": name, "body": None if body is None else otlp_value(body),
            "attributes": [{"key": key, "value": otlp_value(value)} for key, value in attributes.items()],
        }
        for name, attributes, body in logged
    ]  # fmt: skip
    path = tmp_path / "spans.json"
    document = {
        "resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}],
        "resourceSpans": [{"scopeSpans": [{"spans": [model_span, tool_span]}]}],
    }
    path.write_text(json.dumps(document), "utf-8")
    (one,) = records(path)

    assert isinstance(one, TraceRecord)
    assert ("search", 7, "a café") == (one.tool, one.input_tokens, one.request)


@pytest.mark.parametrize(
    "given",
    ["not JSON", "7", "[1, null, [], {}]", '[{"parts": 7}]', '[{"parts": [1, {"type": "tool_call"}, {"toolUse": 1}]}]',
     '{"replies": [7, {"content": "x"}]}', '[{"tool_calls": [{"id": "None", "function": {}}]}]', "[" * 900 + "]" * 900],
)  # fmt: skip
def test_whatever_stands_where_messages_stand(given: str) -> None:
    """An emitter's own shapes request nothing, and the call is recorded."""
    names = (
        "gen_ai.output.messages",
        "haystack.agent.step.llm.output",
        "gen_ai.input.messages",
        "input.value",
        "crew_tasks",
    )
    asked = span(1, attributes=dict.fromkeys(names, given), events=[Event("gen_ai.choice", {"message": given})])
    (call,) = calls([asked, tool(3)])

    assert ("3", None) == (call.call_id, call.request)


class TestOutcomes:
    @pytest.mark.parametrize(
        "error", ["CancelledError", "asyncio.exceptions.CancelledError", "trio.Cancelled", "GeneratorExit"]
    )
    def test_a_call_that_is_left_is_no_failure(self, error: str) -> None:
        """Exceptions from outside end a call without an answer of its tool."""
        (one,) = calls([tool(1, failed=True, events=[Event("exception", {"exception.type": error})])])

        assert ("interrupted", None) == (one.status, one.error_type)

    @pytest.mark.parametrize(
        ("description", "error_type"),
        [
            ("ConnectionError: gone", "ConnectionError"),
            ("httpx.ReadTimeout", "ReadTimeout"),
            ("ConnectionError('gone')", "ConnectionError"),
            ("CancelledError()", None),
            ("Tool 'search' failed: 1 validation error for Search\nq\n  Field required", "ValidationError"),
            ("The card was refused: Error 5", "_OTHER"),
        ],
    )
    def test_the_description_tells_what_no_event_does(self, description: str, error_type: str | None) -> None:
        """A status whose description begins with an exception's name gives the type, and its text is the result."""
        (one,) = calls([tool(1, failed=True, description=description)])

        assert (error_type, description) == (one.error_type, one.result)
        assert ("interrupted" if error_type is None else "error") == one.status

    def test_an_exceptions_text_is_the_result(self) -> None:
        """What the exception says is kept where a tool returned nothing; what it returned goes first."""
        raised = [Event("exception", {"exception.type": "ValueError", "exception.message": "no route"})]
        told = {"gen_ai.tool.call.result": "closed"}
        made = calls([tool(1, failed=True, events=raised), tool(3, failed=True, events=raised, told=told)])

        assert ["no route", "closed"] == [one.result for one in made]

    @pytest.mark.parametrize("failed", [False, True])
    def test_a_deferred_call_of_pydantic_ai_is_none(self, failed: bool) -> None:
        """A call that waits for a person or is made elsewhere ends well, or by older conventions with an error."""
        asked = asking(1, ("c1", "pay", {"amount": 8}), tokens=7)
        told = {"gen_ai.tool.call.id": "c1", "pydantic_ai.tool.deferral.name": "ApprovalRequired"}
        made = tool(5, "pay", told={"gen_ai.tool.call.id": "c1", "gen_ai.tool.call.result": "paid 8"})

        assert [("paid 8", "ok", 7)] == [
            (one.result, one.status, one.input_tokens)
            for one in calls([asked, tool(3, "pay", told=told, failed=failed), made])
        ]

    @pytest.mark.parametrize("goes_on", [False, True])
    def test_a_call_without_a_result_waits_unless_its_agent_goes_on(self, goes_on: bool) -> None:
        """OpenAI Agents' span of a call that waits looks like that of a tool that returned None, until the next turn."""
        scope = "openinference.instrumentation.openai_agents"
        agent = span(0, "finder", attributes={"openinference.span.kind": "AGENT"}, until=30, scope=scope)
        told = {"openinference.span.kind": "TOOL", "tool.name": "pay", "input.value": "{}"}
        made = [span(number, "pay", 1, attributes=told, scope=scope) for number in (2, 3)]
        turns = [span(1, "turn", 0, until=9, scope=scope), span(12, "turn", 0, scope=scope)]
        inside = span(5, "model", 4, scope=scope)  # of an agent that runs inside of a tool
        child = span(4, "ask", 1, attributes=told | {"output.value": "done", "tool.name": "ask"}, scope=scope, until=7)
        spans = [agent, *turns[: 1 + goes_on], *made, child, inside]

        wanted = ["pay", "pay", "ask"] if goes_on else ["ask"]
        assert wanted == [one.tool for one in calls(spans)]

    def test_without_content_every_call_counts(self) -> None:
        """Where an emitter of OpenAI Agents writes neither arguments nor results, no call is taken for one that waits."""
        made = tool(3, scope="opentelemetry.instrumentation.openai_agents")

        assert [("search", "ok")] == [(one.tool, one.status) for one in calls([made])]

    def test_adks_merged_span_is_no_call(self) -> None:
        """The span that ADK makes of all answers of a turn is not a tool with a success."""
        assert [] == calls([tool(1, "(merged tools)", scope=ADK, told={"gcp.vertex.agent.event_id": "e"})])

    def test_adks_call_without_an_answer_is_left(self) -> None:
        """Without an error and without the event of an answer the run ended first; with the event it succeeded."""
        given = {"gen_ai.tool.call.id": "c2", "gcp.vertex.agent.event_id": "e"}
        placeholder = {"gen_ai.tool.call.id": "<not specified>"}
        made = calls([tool(1, scope=ADK, told=placeholder), tool(3, scope=ADK, told=given), tool(5, told=placeholder)])

        assert ["interrupted", "ok", "ok"] == [one.status for one in made]


OI = {"openinference.span.kind": "TOOL"}


class TestNames:
    @pytest.mark.parametrize("name", ["gen_ai.tool.call.id", "tool.id", "tool_call.id"])
    def test_ids(self, name: str) -> None:
        """A call's id stands in one of three attributes."""
        (one,) = calls([tool(1, told={name: "c1"})])

        assert "c1" == one.call_id

    @pytest.mark.parametrize(
        "scope", ["openinference.instrumentation.smolagents", "openinference.instrumentation.llama_index"]
    )
    def test_arguments_of_a_python_call(self, scope: str) -> None:
        """``kwargs`` around arguments is taken off; elsewhere it is an argument's own name."""
        wrapped = {**OI, "input.value": json.dumps({"args": [], "sanitize_inputs_outputs": True, "kwargs": {"q": 1}})}
        positional = {**OI, "input.value": json.dumps({"args": ["a"], "kwargs": {}})}
        own = {**OI, "input.value": json.dumps({"kwargs": {"q": 1}})}
        made = calls(
            [
                tool(1, scope=scope, told=wrapped),
                tool(3, scope=scope, told=positional),
                tool(5, scope="other", told=own),
            ]
        )

        assert [{"q": 1}, {"args": ["a"]}, {"kwargs": {"q": 1}}] == [one.arguments for one in made]

    @pytest.mark.parametrize(
        "around",
        [
            {
                "attributes": {"openinference.span.kind": "AGENT", "graph.node.id": "finder"},
                "scope": "openinference.instrumentation.crewai",
            },
            {"attributes": {"openinference.span.kind": "AGENT"}, "scope": "openinference.instrumentation.smolagents"},
            {"attributes": {"gen_ai.agent.name": "finder"}},
        ],
    )
    def test_agents(self, around: dict[str, Any]) -> None:
        """An agent's name is an attribute, a node of OpenInference's graph, or the name of smolagents' span."""
        (one,) = calls([span(0, "finder.run", **around), tool(1, parent=0)])

        assert "finder" == one.agent

    def test_a_workflow_hands_over(self) -> None:
        """A call of a LlamaIndex workflow is of the agent whose step came last before it, whatever the run ends with."""
        scope = "openinference.instrumentation.llama_index"

        def step(number: int, agent: str) -> Span:
            return span(
                number,
                "setup_agent",
                0,
                scope=scope,
                attributes={"output.value": f"AgentSetup(current_agent_name='{agent}')"},
            )

        run = span(
            0,
            "AgentWorkflow.run",
            until=9,
            scope=scope,
            attributes={"output.value": "AgentOutput(current_agent_name='payer')"},
        )
        made = calls([run, step(1, "finder"), tool(2, parent=0), step(3, "payer"), tool(4, "pay", parent=0)])

        assert [("search", "finder"), ("pay", "payer")] == [(one.tool, one.agent) for one in made]

    def test_crewais_descriptions_are_no_names(self) -> None:
        """A tool's name ends with its line."""
        (one,) = calls([span(1, "search.run", attributes={**OI, "tool.name": "Tool Name: search\nTool Arguments: {}"})])

        assert "search" == one.tool


TOLD = {
    "gen_ai.agent.name": "finder",
    "user.id": "kim",
    "session.id": "talk",
    "agentmodel.request": "a café",
    "agentmodel.category": "cafés",
}


def who(one: SpanCall) -> tuple[str | None, ...]:
    """What can be told beside a call's span."""
    return one.agent, one.user, one.session, one.request, one.category


def test_a_resource_tells_what_no_span_does() -> None:
    """Agent, user, session, request and category of the resource hold where no span of the trace has them."""
    others = dict.fromkeys(TOLD, "else")
    around = span(0, "run", until=9, attributes=others)

    assert tuple(TOLD.values()) == who(*calls([tool(1, resource=TOLD)]))
    assert ("else",) * 5 == who(*calls([around, tool(1, parent=0, resource=TOLD)]))


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table."""
    with AgentModel.from_settings(settings) as made:
        made.table.create()
        yield made
        made.table.delete()


def test_arguments_of_the_processor_tell_what_nothing_else_does(model: AgentModel) -> None:
    """What the program gives the processor holds where neither baggage, nor a span, nor the resource has a value."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra opentelemetry is not installed")
    from opentelemetry import baggage
    from opentelemetry.sdk.resources import Resource

    from agentmodel.integrations.opentelemetry import AgentModelSpanProcessor

    def recorded(attributes: dict[str, str], user: str) -> list[tuple[str | None, str | None, ToolExecution]]:
        provider = sdk.TracerProvider(resource=Resource(attributes))
        processor = AgentModelSpanProcessor(
            model, domain="cafes", agent="finder", user="kim", session="talk", request="a café", category="cafés"
        )
        provider.add_span_processor(processor)
        context = baggage.set_baggage("agentmodel.request", "a bar") if attributes else None
        provider.get_tracer("test").start_span(
            "execute_tool search", context, attributes={"gen_ai.operation.name": "execute_tool"}
        ).end()
        provider.shutdown()
        model.drain()
        return [
            (session.request, session.category, call)
            for session in model.repository.sessions(f"USR{user}")
            for call in model.repository.session_history(f"USR{user}", session.session_id).executions
        ]

    ((request, category, call),) = recorded({}, "kim")
    ((other_request, other_category, other),) = recorded({"user.id": "ada", "gen_ai.agent.version": "7"}, "ada")

    assert ("a café", "cafés", None) == (request, category, call.revision)
    assert ("a bar", "cafés", "7") == (other_request, other_category, other.revision)
    assert call.agent_id == other.agent_id
