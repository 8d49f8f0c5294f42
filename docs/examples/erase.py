"""Erase a person: what was recorded of the user is gone from every store."""

from __future__ import annotations

from agentmodel import AgentModel

with AgentModel.local() as model:
    for user in ("USRmina", "USRjun"):
        with model.session(user, request="a quiet café", category="cafe search") as session:
            with session.process("locate") as process, process.call("AGT001", "TL001") as call:
                call.result = "Cafe Onda"
    model.drain()
    model.refresh()

    report = model.erase_user("mina")  # the name or the id

    print("table:", dict(report.removed["table"]))
    print("warehouse:", report.removed["warehouse"]["agent_execution"], "execution")
    print("sessions of mina:", len(model.repository.sessions("USRmina")))
    print("sessions of jun:", len(model.repository.sessions("USRjun")))
    for left in report.remaining:
        print("remains in:", left.where)
