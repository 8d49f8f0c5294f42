"""A guard decides about each call: make it, return the cached result, block it, or ask a person."""

import logging

from agentmodel import Agent, AgentModel, Domain, Tool
from agentmodel.suggest.guard import Ask, Blocked, Cached, Go

logging.disable(logging.WARNING)  # a tool that begins to fail is in the log, too
CATALOGUE = [
    Domain(domain_id="DMN001", name="Tickets"),
    Agent(agent_id="AGT001", domain_id="DMN001", name="seller"),
    Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="search", read_only=True),
    Tool(agent_id="AGT001", tool_id="TL002", domain_id="DMN001", name="pay"),
    Tool(agent_id="AGT001", tool_id="TL003", domain_id="DMN001", name="print"),
]
CALLS = [("TL001", {"to": "Busan"}), ("TL001", {"to": "Busan"}), ("TL002", {"amount": 900}), ("TL003", {"pages": 2})]

with AgentModel.local() as model:
    model.repository.put(*CATALOGUE)
    guard = model.guard(review={"pay"})
    with model.session("USR001", "buy a ticket to Busan") as session:
        with session.process("print") as process:
            for _ in range(20):  # a printer that never worked
                with process.call("AGT001", "TL003") as call:
                    call.fail("out of paper")
        for number, (tool, arguments) in enumerate(CALLS):
            decision = guard.before(
                agent_id="AGT001", tool_id=tool, arguments=arguments,
                user_id="USR001", session_id=session.session_id, call_id=str(number),
            )  # fmt: skip
            match decision:
                case Go():
                    guard.after(decision, "two trains")  # the call is made here
                    print("made:", tool)
                case Cached(result):
                    print("cached:", result)
                case Blocked(message):
                    print("blocked:", message.partition(" since ")[0])
                case Ask(review):
                    model.reviews.decide(review, "reject", "kim", reason="too much")  # a person does, elsewhere
                    answer = guard.answer(review)
                    print("asked:", answer.decision if answer else "no answer yet")
