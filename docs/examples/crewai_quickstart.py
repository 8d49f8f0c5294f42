from typing import Any

from crewai import Agent, Crew, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool

from agentmodel import AgentModel
from agentmodel.integrations.crewai import AgentModelCrewHooks, Tracker


@tool("search")
def search(near: str) -> str:
    """Find a café."""
    return f"a café near the {near}"


call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"near": "park"}'}}
said: Any = iter([[call], "Go to the café near the park."])  # what your model says
does: Any = {"call": lambda *_, **__: next(said), "supports_function_calling": lambda _: True}
yours: Any = type("Scripted", (BaseLLM,), does | {"get_input_tokens_count": lambda *_: 9})(model="scripted")
agent = Agent(role="finder", goal="find places", backstory="You know the town.", tools=[search], llm=yours)
crew = Crew(agents=[agent], tasks=[Task(description="find a café", expected_output="a café", agent=agent)])
with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    with AgentModelCrewHooks(tracker).session("t1", user="kim", request="find a café"):
        crew.kickoff()
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for made in model.repository.session_history("USRkim", session.session_id).executions:
        print(session.request, "|", made.agent_id, made.tool_name, made.values, made.status)
