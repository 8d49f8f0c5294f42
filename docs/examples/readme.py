from agentmodel import Agent, AgentModel, Domain

with AgentModel.local() as model:  # real engines on this machine, nothing to configure
    model.repository.put(
        Domain(domain_id="DMN001", name="Store search"),
        Agent(agent_id="AGT001", domain_id="DMN001", name="map agent"),
        Agent(agent_id="AGT002", domain_id="DMN001", name="review agent"),
    )
    for agent_id, found in [("AGT001", "Cafe Onda"), ("AGT002", "Bean Yard"), ("AGT001", None), ("AGT002", "Mirae")]:
        with model.session("USR001", request="a quiet café", category="cafe search") as session:
            with session.process("search") as process, process.call(agent_id, "TL001", values={"near": "park"}) as call:
                call.result = found
                if found is None:
                    call.fail("no answer")
    model.drain(), model.refresh(), model.publish()  # journal → table → warehouse → scores
    for agent in model.repository.top_agents("DMN001"):
        print(f"{agent.name}: {agent.successes} of {agent.executions} succeeded, score {agent.score:.2f}")
