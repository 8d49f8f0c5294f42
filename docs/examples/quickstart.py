"""The loop, step by step: record, drain, refresh, publish, suggest."""

from __future__ import annotations

# --8<-- [start:catalogue]
from agentmodel import Agent, AgentModel, Domain, Tool, User

CATALOGUE = [
    Domain(domain_id="DMN001", name="Store search"),
    Agent(agent_id="AGT001", domain_id="DMN001", name="map agent"),
    Agent(agent_id="AGT002", domain_id="DMN001", name="review agent"),
    Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="find_on_map"),
    Tool(agent_id="AGT002", tool_id="TL002", domain_id="DMN001", name="read_reviews"),
    User(user_id="USR001", name="Mina"),
]
# --8<-- [end:catalogue]


# --8<-- [start:tools]
def find_on_map(place: str) -> list[str]:
    """A tool of yours; this one knows one park only."""
    return {"park": ["Cafe Onda"]}[place]


def read_reviews(place: str) -> list[str]:
    """Another one, which knows every place."""
    return [f"quiet café at the {place}"]


# --8<-- [end:tools]


# --8<-- [start:record]
def search(model: AgentModel, place: str) -> None:
    """One session: an exception of a tool is recorded as a failed call, and raised again."""
    with model.session("USR001", request=f"a quiet café at the {place}") as session:
        with session.process("locate") as process:
            try:
                with process.call("AGT001", "TL001", values={"place": place}) as call:
                    call.result = find_on_map(place)
                return
            except KeyError:
                print(f"the map does not know the {place}")
    with model.session("USR001", request=f"a quiet café at the {place}") as session:
        with (
            session.process("ask visitors") as process,
            process.call("AGT002", "TL002", values={"place": place}) as call,
        ):
            call.result = read_reviews(place)


# --8<-- [end:record]


# --8<-- [start:loop]
with AgentModel.local() as model:
    model.repository.put(*CATALOGUE)
    for place in ("park", "harbour", "station"):
        search(model, place)

    model.drain()  # journal → table
    model.refresh()  # table → warehouse: scores and patterns
    model.publish()  # scores → agents, best processes → users

    for agent in model.repository.top_agents("DMN001"):
        print(f"{agent.name}: {agent.successes} of {agent.executions}, score {agent.score:.2f}")

    plan = model.suggest("USR001", request="a quiet café at the lake")
    for step in plan.steps:
        print(f"next time: {step.process}, with {step.tool} of the {plan.agent}")
    print(*plan.reasons, sep="\n")
# --8<-- [end:loop]
