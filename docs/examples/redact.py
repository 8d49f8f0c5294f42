"""Secrets and personal data are masked before anything is kept; equal values keep equal tokens."""

from agentmodel import AgentModel
from agentmodel.privacy import PatternRedactor

redactor = PatternRedactor(
    kinds={"email": "token", "phone": "keep"},
    fields={"home_address": "drop"},
    key="a secret of sixteen characters",  # in a program of yours, from a secret store
)
with AgentModel.local(redact=redactor) as model:
    with model.session("USR001", "write to mina@example.com, card 4111 1111 1111 1111") as session:
        with session.process("send") as process:
            asked = {"to": "Mina@example.com", "password": "hunter2", "home_address": "Main St 5", "n": 3}
            with process.call("AGT001", "TL001", values=asked) as call:
                call.result = "sent with sk-proj-abcDEF0123456789ghiJKL"

    (stored,) = model.repository.sessions("USR001")
    history = model.repository.session_history("USR001", session.session_id)
    print(stored.request)
    print(history.executions[0].values)
    print(history.executions[0].result)
