"""직접 준 가격표로 계산한 에이전트 호출의 비용."""

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
    with model.session("USR001", request="조용한 카페 찾아줘") as session:
        for model_name, tokens in (("gpt-5", 1200), ("gpt-5", 1600), ("in-house-7b", 900)):
            with session.process("찾기") as process, process.call("AGT001", "TL001") as call:
                call.result = "성수 카페"
                call.model_name, call.input_tokens, call.output_tokens = model_name, tokens, 80
                call.cached_tokens = 1000 if tokens > 1000 else 0
    model.drain()
    model.refresh()

    calls = model.repository.session_history("USR001", session.session_id).executions
    if model.prices is not None:
        cost, known = model.prices.total(calls)
        print(f"세션: {cost:.6f}, 호출 {len(calls)}번 중 {known}번")
    for row in reports.costs(model.warehouse):
        print(f"{row.model_name}: 호출 {row.calls}번 중 {row.priced}번의 비용 {row.cost}")
