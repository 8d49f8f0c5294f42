"""Measure what a page of the console costs the server, on a large history.

    python benchmarks/console.py --calls 1000000 --session 10000 --questions 5000

DuckDB runs in the process of the server and is part of its processor time. DynamoDB and Valkey are processes of their
own: their time is in the wall time only, and moto's is most of it. The client that asks is in the same process, and
adds about 4 ms to each page.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from servers import serving
from sqlalchemy import text
from starlette.testclient import TestClient
from warehouse import CALLS_PER_SESSION, CATALOGUE, make

from agentmodel import Agent, AgentModel, Domain, Review, Settings, Tool, ToolExecution, UserSession, UserSessionProcess
from agentmodel.console import console
from agentmodel.embedded import ValkeyServer

NOW = datetime.now(UTC)
ROUNDS = 5
SESSIONS = """
INSERT INTO "AgentTable" ("PK", "SK", "value", "_record_is_active", "_record_create_time")
SELECT 'USR' || (s * 7919) % 20000, 'SESS' || lpad(s::VARCHAR, 10, '0'),
  ('{"EntityType":{"S":"UserSession"},"UserSessionNM":{"S":"question ' || s || '"},"Category":{"S":"field ' || s % 7
   || '"},"SessionStartDT":{"S":"' || strftime(TIMESTAMP '2025-01-01' + to_seconds(s * 30), '%Y%m%d%H%M%S')
   || '000000"},"SessionSuccYN":{"S":"' || CASE WHEN s % 11 = 0 THEN 'N' ELSE 'Y' END || '"}}')::JSON,
  TRUE, TIMESTAMP '2025-01-01' + to_seconds(s * 10)
FROM range(:last) sessions(s)
"""


def fill(model: AgentModel, *, calls: int, session: int, questions: int) -> None:
    """Put a history into the warehouse, and one long session and open questions into the table."""
    model.table.create()
    with model.warehouse.begin() as connection:
        connection.execute(text(CATALOGUE))
        connection.execute(text(SESSIONS), {"last": calls // CALLS_PER_SESSION})
    make(model.warehouse, 0, calls // CALLS_PER_SESSION)
    model.warehouse.refresh(as_of=NOW)
    with model.writer.batch() as batch:
        batch.put(Domain(domain_id="DMN1", name="search"))
        batch.put(Agent(agent_id="AGT100", domain_id="DMN1", name="finder", executions=9, successes=7))
        batch.put(Tool(agent_id="AGT100", tool_id="TL001", domain_id="DMN1", name="find"))
        batch.put(UserSession(user_id="USRlong", session_id="SESSlong", name="a long session", started_at=NOW))
        for step in range(session // 100):
            process_id = f"PRC{step:03d}"
            batch.put(UserSessionProcess(user_id="USRlong", session_id="SESSlong", process_id=process_id, name="step"))
            for number in range(1, 101):
                batch.put(
                    ToolExecution(
                        user_id="USRlong", session_id="SESSlong", process_id=process_id, agent_id="AGT100",
                        tool_id="TL001", tool_name="find", attempt=number, succeeded=number % 7 > 0, values='{"a": 1}',
                        executed_at=NOW, duration_ms=5,
                    )
                )  # fmt: skip
        for number in range(questions):
            due = NOW + timedelta(hours=1, seconds=number)
            batch.put(
                Review(
                    user_id=f"USR{number}", session_id="SESS1", review_id=f"q{number}", question="Reserve it?",
                    phase="pre", status="pending", asked_at=NOW, agent_id="AGT100", tool_id="TL001",
                    arguments={"place": "X"}, allowed=["approve", "reject"], queue="review", queue_name="review",
                    due_at=due, answer_until=due, on_expiry="reject", trail=[],
                )
            )  # fmt: skip


def main() -> None:
    """Fill an installation, ask for every page, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--session", type=int, default=1_000, help="calls of the long session")
    parser.add_argument("--questions", type=int, default=500)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("moto") as endpoint,
        closing(ValkeyServer(Path(folder) / "valkey", durable=False).start()) as valkey,
        AgentModel.from_settings(
            Settings.load(
                endpoint=endpoint, access_key_id="x", secret_access_key="x", valkey_url=valkey.url,  # noqa: S106  # moto's
                warehouse_url=f"duckdb:///{folder}/history.duckdb", dynamodb_timeout=60.0, valkey_timeout=2.0,
            )
        ) as model,
    ):  # fmt: skip
        fill(model, calls=asked.calls, session=asked.session, questions=asked.questions)
        sessions = asked.calls // CALLS_PER_SESSION
        print(f"{asked.calls:,} calls, {sessions:,} sessions, {asked.session:,} calls in one session, "
              f"{asked.questions:,} open questions")  # fmt: skip
        pages = {
            "inbox": "/inbox",
            "news of the inbox": "/inbox/news",
            "sessions, newest": "/sessions",
            "sessions, in the middle": f"/sessions?after={position(sessions // 2)}",
            "sessions, failed, of an agent and a tool": "/sessions?outcome=failed&agent=AGT100&tool=TL001",
            "sessions, a rare text": f"/sessions?text=question+{sessions - 7}",
            "one session, its first part": "/sessions/USRlong/SESSlong",
            "agents": "/agents",
            "an agent": "/agents/AGT100",
            "plans, the form": "/plans",
            "effect": "/effect",
        }
        client = TestClient(console(model), base_url="http://localhost", client=("127.0.0.1", 4000))
        print("| page | processor ms | of the first visit | wall ms | KB |\n|---|---|---|---|---|")
        for name, path in pages.items():
            print(f"| {name} | {' | '.join(measured(client, path))} |", flush=True)


def position(number: int) -> str:
    """Return the cursor after a session of the history."""
    from agentmodel._lookup.sessions import cursor_of

    at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=number * 30)
    return cursor_of((f"{at:%Y%m%d%H%M%S}000000", f"SESS{number:010d}", f"USR{number * 7919 % 20000}"))


def measured(client: TestClient, path: str) -> tuple[str, str, str, str]:
    """Return the median processor milliseconds of a page, those of its first visit, the wall milliseconds, the size."""
    times, size = [], 0
    for _ in range(ROUNDS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        answer = client.get(path)
        times.append((1000 * (time.process_time() - cpu), 1000 * (time.perf_counter() - wall)))
        size = len(answer.content)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])  # a benchmark
    cpus, walls = zip(*times[1:], strict=True)
    figures = statistics.median(cpus), times[0][0], statistics.median(walls), size / 1000
    one, first, wall, kilobytes = (f"{figure:.0f}" for figure in figures)
    return one, first, wall, kilobytes


main()
