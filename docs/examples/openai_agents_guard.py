"""A person decides about a call of the OpenAI Agents SDK: the run stops, and goes on with the answer."""

import asyncio

from agents import Agent, RunConfig, Runner, add_trace_processor, function_tool, set_trace_processors
from agents.testing import ScriptedModel, assistant_message, function_call

from agentmodel import AgentModel
from agentmodel.integrations.openai_agents import AgentModelGuard, AgentModelRecorder, Tracker


@function_tool
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


async def main() -> None:
    """Ask, decide, and go on."""
    with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
        recorder = AgentModelRecorder(tracker)
        add_trace_processor(recorder)
        guard = AgentModelGuard(recorder, model.guard(review=["pay"]))
        agent = Agent(name="finder", model=yours, tools=guard.tools(pay))
        told = {"user_id": "kim", "session_id": "t1"}
        config = RunConfig(call_model_input_filter=guard.plan, tool_error_formatter=recorder.tool_error)
        result = await Runner.run(agent, "pay the bill", context=told, hooks=recorder, run_config=config)
        state = result.to_state()  # state.to_string() keeps it while nobody has decided
        print(len(await guard.answered(state, session="t1", user="kim")), "open question")

        (review,) = model.reviews.inbox()
        print(review.question, review.arguments, "|", review.reason)
        model.reviews.decide(review, decision="approve", by="lee")

        print(len(await guard.answered(state, session="t1", user="kim")), "open questions")
        result = await Runner.run(agent, state, hooks=recorder, run_config=config)
        tracker.flush()
        (session,) = model.repository.sessions("USRkim")
        for call in model.repository.session_history("USRkim", session.session_id).executions:
            print(result.final_output, call.tool_name, call.values, call.result, call.status)


set_trace_processors([])  # leave this out to go on sending traces to OpenAI
yours = ScriptedModel([[function_call("pay", {"amount": 8}, call_id="c1")], [assistant_message("Paid.")]])
asyncio.run(main())
