"""A person decides about a call of an agent of CrewAI: it is blocked, and made when the model tries again."""

import json
from collections.abc import Iterator
from typing import Any

from crewai import Agent, Crew, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool

from agentmodel import AgentModel
from agentmodel.integrations.crewai import AgentModelCrewHooks, Tracker


@tool("pay")
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


class Scripted(BaseLLM):
    said: Any = None

    def supports_function_calling(self) -> bool:
        return True

    def get_input_tokens_count(self, *_told: Any) -> int:
        return 9

    def call(self, messages: Any, *_told: Any, **_named: Any) -> Any:  # what your model says
        if messages[-1]["role"] == "tool":
            print("the model reads:", messages[-1]["content"].partition(" A person was asked")[0])
        return next(self.said)


def answers() -> Iterator[Any]:
    function = {"name": "pay", "arguments": json.dumps({"amount": 8})}
    while True:
        yield [{"id": "c1", "type": "function", "function": function}]
        yield "Done."


yours = Scripted(model="scripted", said=answers())
agent = Agent(role="cashier", goal="pay", backstory="You pay.", tools=[pay], llm=yours)
crew = Crew(agents=[agent], tasks=[Task(description="pay the bill", expected_output="a receipt", agent=agent)])
with AgentModel.local() as model, Tracker(model, domain="cafes") as tracker:
    ours = AgentModelCrewHooks(tracker, guard=model.guard(review=["pay"]))
    with ours.session("t1", user="kim"):
        crew.kickoff()
    (review,) = model.reviews.inbox()
    print(review.question, review.arguments, review.reason)
    model.reviews.decide(review, "edit", "lee", arguments={"amount": 5})
    with ours.session("t1", user="kim"):
        crew.kickoff()
    tracker.flush()
    (session,) = model.repository.sessions("USRkim")
    for made in model.repository.session_history("USRkim", session.session_id).executions:
        print(made.tool_name, made.values, made.status)
