"""An agent of the OpenAI Agents SDK is recorded: one object, as trace processor and as hooks."""

import asyncio

from agents import Agent, RunConfig, Runner, add_trace_processor, function_tool, set_trace_processors
from agents.testing import ScriptedModel, assistant_message, function_call

from agentmodel import AgentModel
from agentmodel.integrations.openai_agents import AgentModelRecorder, Tracker


@function_tool
def search(near: str) -> str:
    """Find cafés."""
    return f"a café near the {near}"


yours = ScriptedModel([[function_call("search", {"near": "park"}, call_id="c1")], [assistant_message("Go.")]])
set_trace_processors([])  # leave this out to go on sending traces to OpenAI
with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    recorder = AgentModelRecorder(tracker)
    add_trace_processor(recorder)
    config = RunConfig(group_id="t1", trace_metadata={"user_id": "kim"}, tool_error_formatter=recorder.tool_error)
    agent = Agent(name="finder", model=yours, tools=[search])
    asyncio.run(Runner.run(agent, "find a café near the park", hooks=recorder, run_config=config))
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for call in model.repository.session_history("USRkim", session.session_id).executions:
        print(session.request, "|", call.agent_id, call.tool_name, call.values, call.status)
