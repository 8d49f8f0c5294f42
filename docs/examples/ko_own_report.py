"""직접 만든 리포트 다섯 가지: 웨어하우스 모델에 SQLAlchemy를 그대로 쓴다."""

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
    """그날의 점수 순서로 본 에이전트. 도메인에서의 순위와 1위와의 차이."""
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
    """에이전트마다 날짜별 실행 수와 누계."""
    day = func.sum(AgentDaily.executions)
    total = func.sum(day).over(partition_by=AgentRow.name, order_by=AgentDaily.day, rows=(None, 0))
    return (
        select(AgentRow.name.label("agent"), AgentDaily.day.label("day"), day.label("executions"), total.label("total"))
        .join(AgentDaily.agent)
        .group_by(AgentRow.name, AgentDaily.day)
        .order_by(AgentRow.name, AgentDaily.day)
    )


def failing_tools() -> Any:
    """도구마다 호출과 실패, 나쁜 순서."""
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
    """사용자마다 가장 많이 성공한 에이전트."""
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
    """추천 패턴을 객체로, 에이전트는 문장 하나로 함께 읽는다."""
    return (
        select(UserProcessPattern)
        .where(UserProcessPattern.recommended)
        .options(selectinload(UserProcessPattern.agent))
        .order_by(UserProcessPattern.user_id, UserProcessPattern.pattern_key)
    )


# --8<-- [end:reports]

REPORTS = (ranking, growth, failing_tools, favourites)

RUNS = [
    ("mina", "지도 에이전트", "find_place", "2025-06-27", True),
    ("mina", "지도 에이전트", "find_place", "2025-06-28", True),
    ("mina", "웹 에이전트", "search", "2025-06-28", False),
    ("jun", "웹 에이전트", "search", "2025-06-29", True),
    ("jun", "지도 에이전트", "find_place", "2025-06-30", False),
]


def record(model: AgentModel) -> None:
    """작은 이력을 기록한다."""
    lines = [
        {
            "domain": "여행", "agent": agent, "user": user, "session": str(number), "step": 1, "tool": tool,
            "arguments": {}, "result": "", "success": works, "started_at": f"{day}T09:00:00Z", "category": "장소",
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
