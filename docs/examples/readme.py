from agentmodel import Agent, AgentModel

with AgentModel.local() as model:  # real engines on this machine, nothing to configure
    for number, name in enumerate(("map agent", "review agent"), 1):
        model.repository.put(Agent(agent_id=f"AGT00{number}", domain_id="DMN001", name=name))
    for agent_id, answer in [("AGT001", "Cafe Onda"), ("AGT002", "Bean Yard"), ("AGT001", ""), ("AGT002", "Mirae")]:
        with model.session("USR001", request="a quiet café") as session:
            with session.process("search") as process, process.call(agent_id, "TL001", values={"near": "park"}) as call:
                call.result = answer
                if not answer:
                    call.fail("no answer")
    model.drain()  # Valkey's journal → DynamoDB
    model.refresh()  # DynamoDB → warehouse: scores and patterns
    model.publish()  # scores → agents, best processes → users
    plan = model.suggest("USR001", request="a quiet café nearby")
    print(f"Ask the {plan.agent}.", *plan.reasons, sep="\n")
