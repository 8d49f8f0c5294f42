"""What an agent's calls cost, by prices of your own."""

from __future__ import annotations

import json
from pathlib import Path

from agentmodel import AgentModel
from agentmodel.redshift import reports

PRICES = {
    "gpt-5": {
        "input_cost_per_token": 1.25e-06,
        "output_cost_per_token": 1e-05,
        "cache_read_input_token_cost": 1.25e-07,
    }
}
Path("prices.json").write_text(json.dumps(PRICES))

with AgentModel.local(prices="prices.json") as model:
    with model.session("USR001", request="find a quiet café") as session:
        for model_name, tokens in (("gpt-5", 1200), ("gpt-5", 1600), ("in-house-7b", 900)):
            with session.process("find") as process, process.call("AGT001", "TL001") as call:
                call.result = "Café Seongsu"
                call.model_name, call.input_tokens, call.output_tokens = model_name, tokens, 80
                call.cached_tokens = 1000 if tokens > 1000 else 0
    model.drain()
    model.refresh()

    calls = model.repository.session_history("USR001", session.session_id).executions
    if model.prices is not None:
        cost, known = model.prices.total(calls)
        print(f"the session: {cost:.6f}, of {known} of {len(calls)} calls")
    for row in reports.costs(model.warehouse):
        print(f"{row.model_name}: {row.priced} of {row.calls} calls cost {row.cost}")
