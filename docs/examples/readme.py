from agentmodel import AgentModel

with AgentModel.local() as model:  # real engines on this machine

    @model.tool(agent="finder")
    def locate(place: str) -> str:
        return "37.51, 127.07"

    @model.tool(agent="finder")
    def search(near: str) -> str:
        return "Cafe Onda"

    def agent(request: str, place: str) -> None:
        plan = model.suggest("USRmina", request=request)
        print(plan.as_prompt(), end="\n\n")  # for the model's prompt
        with model.session("USRmina", request, plan=plan) as session:
            search(locate(place))  # a language model would choose
            session.succeed()
        history = model.repository.session_history("USRmina", session.session_id)
        for call in history.executions:
            print("recorded:", call.tool_name, call.values, "→", call.result)

    agent("find a quiet café near the stadium", "stadium")
    model.drain()  # Valkey's journal → DynamoDB
    model.refresh()  # DynamoDB → warehouse: scores and patterns
    model.publish()  # scores → agents, best processes → users
    print("\nThe second time:\n")
    agent("a quiet café near the museum please", "museum")
