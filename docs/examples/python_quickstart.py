"""Plain Python functions are tools: one decorator."""

from agentmodel import AgentModel
from agentmodel.exceptions import ReviewPending

with AgentModel.local() as model:

    @model.tool(agent="finder", cache="user")
    def search(near: str) -> list[str]:
        """Find cafés."""
        return [f"a café near the {near}"]

    @model.tool(agent="finder", review="always")
    def book(place: str) -> str:
        """Book a table."""
        return f"booked {place}"

    with model.session("USR001", "book a table near the park") as session:
        found = search("park") + search("park")
        try:
            book(found[0])
        except ReviewPending as pending:
            model.reviews.decide(pending.review, "approve", "kim")  # a person does, later and elsewhere
            book(found[0])
    for call in model.repository.session_history("USR001", session.session_id).executions:
        print(call.tool_name, call.values, call.status, call.result)
