"""Five reports of your own: plain SQLAlchemy on the warehouse's models."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import Double, case, cast, func, select
from sqlalchemy.orm import Session, selectinload

from agentmodel import AgentModel
from agentmodel.redshift.models import (
    AgentDaily,
    AgentExecution,
    AgentRow,
    AgentScoreSummary,
    AgentToolAnalysisStaging,
    DomainRow,
    UserProcessPattern,
)

DAY = date(2025, 6, 30)

# --8<-- [start:reports]


def ranking() -> Any:
    """Agents by their score of that day, with their rank in the domain and the distance to the best."""
    score = AgentScoreSummary.score(DAY)
    in_domain: Any = {"partition_by": AgentScoreSummary.domain_id}
    return (
        select(
            DomainRow.name.label("domain"),
            AgentRow.name.label("agent"),
            score.label("score"),
            func.rank().over(order_by=score.desc(), **in_domain).label("place"),
            (func.max(score).over(**in_domain) - score).label("behind"),
        )
        .join(AgentScoreSummary.domain)
        .join(AgentScoreSummary.agent)
        .order_by(DomainRow.name, score.desc())
    )


def growth() -> Any:
    """Executions of each agent by day, and their running total."""
    day = func.sum(AgentDaily.executions)
    total = func.sum(day).over(partition_by=AgentRow.name, order_by=AgentDaily.day, rows=(None, 0))
    return (
        select(AgentRow.name.label("agent"), AgentDaily.day.label("day"), day.label("executions"), total.label("total"))
        .join(AgentDaily.agent)
        .group_by(AgentRow.name, AgentDaily.day)
        .order_by(AgentRow.name, AgentDaily.day)
    )


def failing_tools() -> Any:
    """Calls and failures of each tool, the worst first."""
    staging = AgentToolAnalysisStaging
    failed = func.sum(case((staging.succeeded.is_(False), 1), else_=0))
    share = cast(failed, Double) / cast(func.count(), Double)
    return (
        select(
            staging.tool_name.label("tool"),
            func.count().label("calls"),
            failed.label("failed"),
            share.label("share"),
        )
        .group_by(staging.tool_name)
        .order_by(share.desc(), staging.tool_name)
    )


def favourites() -> Any:
    """Each user's most successful agent."""
    execution = AgentExecution
    done = func.sum(execution.succeeded)
    place = func.row_number().over(partition_by=execution.user_id, order_by=(done.desc(), AgentRow.name))
    ranked = (
        select(
            execution.user_id.label("person"), AgentRow.name.label("agent"), done.label("done"), place.label("place")
        )
        .join(execution.agent)
        .group_by(execution.user_id, AgentRow.name)
        .subquery()
    )
    return select(ranked.c.person, ranked.c.agent, ranked.c.done).where(ranked.c.place == 1).order_by(ranked.c.person)


def recommended() -> Any:
    """Recommended patterns as objects, with their agents, in one more statement."""
    return (
        select(UserProcessPattern)
        .where(UserProcessPattern.recommended)
        .options(selectinload(UserProcessPattern.agent))
        .order_by(UserProcessPattern.user_id, UserProcessPattern.pattern_key)
    )


# --8<-- [end:reports]

REPORTS = (ranking, growth, failing_tools, favourites)

RUNS = [
    ("mina", "map agent", "find_place", "2025-06-27", True),
    ("mina", "map agent", "find_place", "2025-06-28", True),
    ("mina", "web agent", "search", "2025-06-28", False),
    ("jun", "web agent", "search", "2025-06-29", True),
    ("jun", "map agent", "find_place", "2025-06-30", False),
]


def record(model: AgentModel) -> None:
    """Record a small history."""
    lines = [
        {
            "domain": "travel", "agent": agent, "user": user, "session": str(number), "step": 1, "tool": tool,
            "arguments": {}, "result": "", "success": works, "started_at": f"{day}T09:00:00Z", "category": "places",
        }
        for number, (user, agent, tool, day, works) in enumerate(RUNS)
    ]  # fmt: skip
    file = Path("history.jsonl")
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    model.import_traces(file)


if __name__ == "__main__":
    # --8<-- [start:run]
    with AgentModel.local() as model:
        record(model)
        model.drain()
        model.refresh(as_of=DAY)
        for report in REPORTS:
            print(report.__doc__)
            for row in model.warehouse.read(report()):
                print("  ", *[f"{value:.4g}" if isinstance(value, float) else value for value in row])
        print(recommended.__doc__)
        with Session(model.warehouse.engine) as session:
            for pattern in session.scalars(recommended()):
                print("  ", pattern.user_id, pattern.agent.name, pattern.tool_sequence, f"{pattern.score(DAY):.4g}")
    # --8<-- [end:run]
