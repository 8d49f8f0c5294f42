"""From a request in words to a text for a model's prompt, and back: record, learn, plan, follow."""

from agentmodel import AgentModel

with AgentModel.local() as model:
    # --8<-- [start:record]
    @model.tool(agent="finder", domain="store search")
    def locate(place: str) -> str:
        """Return where a place is."""
        return f"the coordinates of {place}"

    @model.tool(agent="finder", domain="store search")
    def search(near: str) -> str:
        """Return the cafés near a place."""
        return f"cafés near {near}"

    for place in ("the stadium", "the park"):
        with model.session("USRmina", f"find a quiet café near {place}"):
            search(locate(place))
    model.drain()  # journal → table
    model.refresh()  # table → warehouse: scores and patterns
    model.publish()  # scores and the best sequences → table
    # --8<-- [end:record]

    # --8<-- [start:plan]
    request = "please find a quiet café near the museum"
    plan = model.suggest("USRmina", request=request)
    print(plan.agent, [step.tool for step in plan.steps])
    print(*plan.reasons, sep="\n")
    # --8<-- [end:plan]

    # --8<-- [start:prompt]
    print(plan.as_prompt())
    print(plan.as_prompt(language="ko"))
    # --8<-- [end:prompt]

    # --8<-- [start:follow]
    with model.session("USRmina", request, plan=plan) as session:
        place = locate("the museum")
        print(model.next_tools(session).as_prompt())
        search(place)
    # --8<-- [end:follow]

    # --8<-- [start:category]
    for mapping in model.repository.user_mappings("USRmina"):
        print(mapping.category, mapping.executions)
    # --8<-- [end:category]
