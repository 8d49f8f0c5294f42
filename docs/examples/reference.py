"""The small history that the examples of the reference use."""

from __future__ import annotations

# --8<-- [start:imports]
import json
import tempfile
from pathlib import Path

from agentmodel import Agent, AgentModel, Domain, Tool, User
from agentmodel.suggest.plan import Planner

# --8<-- [end:imports]
# --8<-- [start:history]
folder = Path(tempfile.mkdtemp())
prices = folder / "prices.json"
prices.write_text(json.dumps({"gpt-5": {"input_cost_per_token": 1.25e-6, "output_cost_per_token": 1e-5}}))

model = AgentModel.local(prices=str(prices))
model.repository.put(
    Domain(domain_id="DMN001", name="Store search", description="Finds a café near a place."),
    Agent(agent_id="AGT001", domain_id="DMN001", name="map agent"),
    Agent(agent_id="AGT002", domain_id="DMN001", name="review agent"),
    Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="find_on_map", read_only=True),
    Tool(agent_id="AGT002", tool_id="TL002", domain_id="DMN001", name="read_reviews", read_only=True),
    Tool(agent_id="AGT002", tool_id="TL003", domain_id="DMN001", name="book_table", needs_review=True),
    User(user_id="USR001", name="Mina"),
    User(user_id="USR002", name="Jun"),
)
stores = {"park": ["Cafe Onda"]}
planner = Planner(model.repository, log=model.suggestions, holdout=0.5)  # half of the sessions get no plan
for number, place in enumerate(["park", "harbour", "station"], start=1):
    request = f"a quiet café at the {place}"
    with model.session("USR001", request, category="cafe search", session_id=f"SESS{number}") as session:
        with session.process("locate") as process:
            try:
                with process.call("AGT001", "TL001", values={"place": place}) as call:
                    call.model_name, call.input_tokens, call.output_tokens = "gpt-5", 800, 20
                    call.result = stores[place]
            except KeyError:
                session.fail(f"the map does not know the {place}")
    plan = planner.suggest("USR002", request=request, domain_id="DMN001", session_id=f"SESS{number}")
    with model.session("USR002", request, category="cafe search", session_id=f"SESS{number}", plan=plan) as session:
        with session.process("ask visitors") as process:
            with process.call("AGT002", "TL002", values={"place": place}) as call:
                call.result = [f"quiet café at the {place}"]

with model.session("USR002", "a quiet café at the park", category="cafe search", session_id="SESS4") as session:
    with session.process("ask visitors") as process:
        with process.call("AGT002", "TL002", values={"place": "park"}) as call:
            call.mark("cache_hit")  # answered by the response cache
            call.result = ["quiet café at the park"]

question = model.reviews.ask("USR002", "SESS3", "Book a table?", agent_id="AGT002", tool_id="TL003", call_id="1")
model.reviews.decide(question, "reject", "lee", reason="nobody asked for one")
model.outcome("SESS1", user_id="USR001", succeeded=True, by="Mina", reason="the café was quiet")
planner.close()
model.drain()
model.refresh()
model.publish()
# --8<-- [end:history]

if __name__ == "__main__":
    print(*(agent.name for agent in model.repository.top_agents("DMN001")), sep=", ")
    model.close()
