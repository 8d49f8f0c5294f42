"""Say how a run went when that is known later: the next refresh counts it."""

from __future__ import annotations

from agentmodel import Agent, AgentModel, Domain, Tool

with AgentModel.local() as model:
    model.repository.put(
        Domain(domain_id="DMN001", name="cafes"),
        Agent(agent_id="AGT001", domain_id="DMN001", name="finder"),
        Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="book"),
    )
    with model.session("USR001", request="book a quiet café", category="booking") as session:
        with session.process("book") as process, process.call("AGT001", "TL001") as call:
            call.result = "table 4"  # the call worked, so the run counts as a success

    def learn() -> str:
        model.drain()
        model.refresh()
        model.publish()
        agent = model.repository.agent("AGT001")
        return f"{agent.successes} of {agent.executions} runs succeeded" if agent else "no agent"

    print("by its calls:", learn())

    # an hour later, in another program: all it needs is the user and the id of the session
    model.outcome(
        session.session_id, user_id="USR001", succeeded=False, source="event", by="cancellation", reason="too loud"
    )
    print("by the event:", learn())

    model.outcome(session.session_id, user_id="USR001", score=0.9, source="evaluator", by="judge")
    print("by the event still, which is trusted more:", learn())
