"""Draw the pictures of the documentation, as SVG that follows light and dark.

Those of docs/contributing/architecture.md are the steps of a call, of a refresh and of a request, each in the column of
its station, with the file that does it. Those of the guides are boxes in a grid, narrow enough for a phone. With
`--check` it compares with the stored files.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1] / "docs"
COLUMNS = ("application", "access", "cache · Valkey", "dynamo · DynamoDB", "redshift", "suggest")
WIDTH, HEIGHT, GAP, TOP = 190, 58, 26, 64  # pixels: width of a column, height of a box, gap of rows, height of the head

STYLE = """<style>
.page{fill:#ffffff}.head{fill:#1f2937;font-weight:600}.lane{fill:#f3f4f6}
.box{fill:#ffffff;stroke:#4051b5;stroke-width:1.5}
.what{fill:#111827}.file{fill:#4b5563;font-size:12px;font-family:ui-monospace,monospace}
.note{font-size:13px}.note:not(.what){fill:#4b5563}.start{fill:#fff8e1;stroke:#4051b5;stroke-width:1.5}
.way{fill:none;stroke:#4051b5;stroke-width:1.5}.tip{fill:#4051b5}.later{stroke-dasharray:5 4}
@media (prefers-color-scheme: dark){.page{fill:#1e2129}.head{fill:#e5e7eb}.lane{fill:#262a33}
.box{fill:#1e2129;stroke:#8c9eff}
.note:not(.what){fill:#b6bdc9}.start{fill:#3a3318;stroke:#8c9eff}
.what{fill:#f3f4f6}.file{fill:#b6bdc9}.way{stroke:#8c9eff}.tip{fill:#8c9eff}}
</style>"""


class Step(NamedTuple):
    """A step: its column, what happens, the file that does it, and whether the caller does not wait for it."""

    column: int
    what: str
    file: str
    later: bool = False


PICTURES: dict[str, tuple[str, list[Step]]] = {
    "call": (
        "The way of one recorded call",
        [
            Step(0, "with process.call(…)", "your code"),
            Step(1, "1 entity, call id, version", "recorder.py"),
            Step(1, "2 journal entry, number", "_history_writer.py"),
            Step(2, "3 journal and overlay", "journal.py · _lua.py"),
            Step(1, "4 receipt", "_receipt.py"),
            Step(5, "5 health, suggestions", "health/ · plan/", later=True),
            Step(2, "6 a drainer takes entries", "_consumer_group.py", later=True),
            Step(1, "7 puts with conditions", "_journal_sink.py", later=True),
            Step(1, "8 next free number", "_numbered_writer.py", later=True),
            Step(2, "9 acknowledge", "_consumer_group.py", later=True),
        ],
    ),
    "refresh": (
        "The way of one refresh and publish",
        [
            Step(0, "model.refresh()", "client.py"),
            Step(4, "1 scan, stream, export", "ingest.py · _feeds.py"),
            Step(4, "2 land what is new", "_duckdb_landing.py"),
            Step(4, "3 changes, base tables", "_base_tables_sql.py"),
            Step(4, "4 executions, patterns", "_executions_sql.py"),
            Step(4, "5 scores", "score.py · _refresh_sql.py"),
            Step(0, "model.publish()", "client.py"),
            Step(4, "6 read scores and patterns", "reports.py"),
            Step(5, "7 lease: only the newest run", "publish/_fencing.py"),
            Step(3, "8 agents, tools, mappings", "writer.py"),
            Step(2, "9 replace the leaderboard", "leaderboard.py"),
            Step(5, "10 retention of history", "publish/_retention.py"),
        ],
    ),
    "request": (
        "The way of one request",
        [
            Step(0, "model.suggest(user, …)", "client.py"),
            Step(5, "1 find a mapping", "plan/_planner.py"),
            Step(1, "2 access patterns", "repository.py"),
            Step(2, "3 cached results", "read_through.py"),
            Step(3, "4 what is not cached", "table.py"),
            Step(5, "5 avoid failing tools", "health/_monitor.py"),
            Step(5, "6 keep the suggestion", "plan/_suggestion_log.py"),
            Step(0, "prompt, then a tool call", "your code"),
            Step(5, "7 go, cached, block, ask", "guard/_guard.py"),
            Step(5, "8 a person decides", "review/_reviews.py"),
            Step(5, "9 carry the decision out", "guard/_enforcer.py"),
            Step(0, "the tool runs", "tools/ · integrations/"),
        ],
    ),
}


def drawn(title: str, steps: list[Step]) -> str:
    """Return the picture of some steps as SVG."""
    columns = sorted({step.column for step in steps})
    left = {column: 10 + place * (WIDTH + 14) for place, column in enumerate(columns)}
    wide = 10 + len(columns) * (WIDTH + 14) - 4
    high = TOP + len(steps) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img"',
        'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{title}</title>",
        STYLE,
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">',
        '<path class="tip" d="M0 0 10 5 0 10z"/></marker></defs>',
        f'<rect class="page" width="{wide}" height="{high}"/>',
    ]
    for column in columns:
        x = left[column]
        parts.append(f'<rect class="lane" x="{x}" y="10" width="{WIDTH}" height="{high - 20}" rx="8"/>')
        parts.append(f'<text class="head" x="{x + WIDTH / 2}" y="38" text-anchor="middle">{COLUMNS[column]}</text>')
    for row, step in enumerate(steps):
        x, y = left[step.column] + 6, TOP + row * (HEIGHT + GAP)
        middle = x + (WIDTH - 12) / 2
        if row:
            before = left[steps[row - 1].column] + WIDTH / 2
            dashed = " later" if step.later else ""
            bend = y - GAP / 2
            parts.append(
                f'<path class="way{dashed}" d="M{before} {y - GAP} V{bend} H{middle} V{y - 2}" marker-end="url(#tip)"/>'
            )
        dashed = " later" if step.later else ""
        parts.append(f'<rect class="box{dashed}" x="{x}" y="{y}" width="{WIDTH - 12}" height="{HEIGHT}" rx="6"/>')
        parts.append(f'<text class="what" x="{middle}" y="{y + 24}" text-anchor="middle">{step.what}</text>')
        parts.append(f'<text class="file" x="{middle}" y="{y + 43}" text-anchor="middle">{step.file}</text>')
    return "\n".join([*parts, "</svg>", ""])


# The pictures of the guides

NARROW, CELL = 400, 20  # pixels: width of a picture, which a phone shows almost whole; height of a line of text


class Box(NamedTuple):
    """A box: its row, the share of the width that it takes (from, to; of 4), its head and its lines."""

    row: int
    share: tuple[int, int]
    head: str
    lines: tuple[str, ...] = ()
    kind: str = "box"


class Way(NamedTuple):
    """An arrow between two boxes, by their places in the list, with a text beside it; ``round`` goes by the margin."""

    begin: int
    end: int
    text: str = ""
    later: bool = False
    round: bool = False


class Map(NamedTuple):
    """A picture of boxes and arrows."""

    file: str
    title: str
    boxes: tuple[Box, ...]
    ways: tuple[Way, ...]


WHOLE, LEFT, RIGHT = (0, 4), (0, 2), (2, 4)

MAPS = (
    Map(
        "assets/loop.svg",
        "The loop: a request goes through access, cache, table and warehouse; what is learnt comes back",
        (
            Box(0, WHOLE, "a request", ("a user, in words; an agent that calls tools",), "start"),
            Box(1, WHOLE, "access", ("eight typed patterns, one recorder",)),
            Box(2, WHOLE, "cache · Valkey", ("journal, cached copies, ranking, health of tools",)),
            Box(3, WHOLE, "dynamo · DynamoDB", ("one table: history, agents, mappings",)),
            Box(4, WHOLE, "redshift", ("executions, scores, patterns",)),
            Box(5, WHOLE, "suggest", ("publish · plan · avoid failing tools", "ask a person · return cached results")),
        ),
        (
            Way(0, 1), Way(1, 2, "at once"), Way(2, 3, "a drainer, a moment later"),
            Way(3, 4, "zero-ETL, then a refresh"), Way(4, 5, "scores and best processes"), Way(5, 0, round=True),
        ),
    ),
    Map(
        "cache/life.svg",
        "One record: by one script into Valkey's journal, by a drainer into DynamoDB, then acknowledged",
        (
            Box(0, WHOLE, "recorder, in your process", ("makes the entity, its call id and its version",), "start"),
            Box(1, WHOLE, "Valkey, the user's shard {36}", (
                "am:{36}:n:USR001#SESS…  attempt number", "am:{36}:j  journal entry", "am:{36}:p:USR001#SESS…  overlay",
            )),
            Box(2, LEFT, "a drainer", ("takes entries", "of all shards")),
            Box(2, RIGHT, "a reader", ("asks overlay, then copy,", "then the table")),
            Box(3, WHOLE, "DynamoDB", ("a put for each item, if its key is free", "or the table has no newer version")),
            Box(4, WHOLE, "acknowledged, by one script", (
                "journal entry and overlay are gone", "the cached copy, if there is one, has the item",
            )),
        ),
        (
            Way(0, 1, "one script; receipt"), Way(1, 2, later=True), Way(1, 3), Way(2, 4, later=True),
            Way(4, 5, later=True),
        ),
    ),
    Map(
        "suggest/review.svg",
        "The states of a question: pending, claimed, and how it ends",
        (
            Box(0, WHOLE, "pending", ("asked; in the queue until its deadline",), "start"),
            Box(1, WHOLE, "claimed", ("one person looks at it, for 15 minutes",)),
            Box(2, (0, 1), "approved", ("as asked",)),
            Box(2, (1, 2), "edited", ("other", "arguments")),
            Box(2, (2, 3), "rejected", ("with a", "reason")),
            Box(2, (3, 4), "responded", ("a text in", "its place")),
            Box(3, WHOLE, "expired · cancelled · completed", (
                "the deadline passed · whoever asked took it back", "· a verdict was given on a run that had ended",
            )),
        ),
        (Way(0, 1, "claim, or decide at once"), Way(1, 2), Way(1, 3), Way(1, 4), Way(1, 5), Way(0, 6, round=True)),
    ),
    Map(
        "assets/deployment.svg",
        "What the template makes: application, Valkey, drainer, table, warehouse and functions",
        (
            Box(0, WHOLE, "your application", ("with ApplicationPolicy and the security group",), "start"),
            Box(1, LEFT, "Valkey", ("journal, cached copies", "durable, in three zones")),
            Box(1, RIGHT, "watch", ("function, each minute:", "figures of the journal")),
            Box(2, LEFT, "drainer", ("two Fargate tasks,", "or a function")),
            Box(2, RIGHT, "sweep", ("function, each 5 minutes:", "overdue questions")),
            Box(3, WHOLE, "DynamoDB: AgentTable", ("index, TTL, point-in-time recovery",)),
            Box(4, WHOLE, "Redshift Serverless", ("the landed table; scores and patterns",)),
            Box(5, WHOLE, "learn", ("function, each hour: refresh and publish",)),
        ),
        (
            Way(0, 1, "records, reads"), Way(2, 1), Way(1, 3, "entries", later=True), Way(3, 5, later=True),
            Way(4, 5), Way(5, 6, "zero-ETL", later=True), Way(6, 7, "Data API"), Way(7, 5, round=True),
        ),
    ),
    Map(
        "warehouse/refresh.svg",
        "An incremental refresh: find what changed, take its old counts off, put the new ones on",
        (
            Box(0, WHOLE, "1 changes", ("newer than the watermark less one hour",), "start"),
            Box(1, WHOLE, "2 sessions they touch", ("all of each is computed again",)),
            Box(2, LEFT, "3 their old counts", ("what these counted", "so far, × −1")),
            Box(2, RIGHT, "4 base tables", ("changed rows out,", "and in as they are")),
            Box(3, RIGHT, "5 agent_execution", ("touched sessions out,", "and in anew")),
            Box(4, RIGHT, "6 their new counts", ("× +1",)),
            Box(5, WHOLE, "7 new less old", ("summed by key; zeros fall out",)),
            Box(6, LEFT, "8 counts", ("agent_daily, agent_tool:", "MERGE adds")),
            Box(6, RIGHT, "9 patterns", ("of touched users,", "recommended anew")),
            Box(7, WHOLE, "10 scores and tool errors", ("few rows: written whole",)),
            Box(8, WHOLE, "11 watermark", ("the newest time this refresh saw; COMMIT",)),
        ),
        (
            Way(0, 1, "BEGIN"), Way(1, 2), Way(1, 3), Way(3, 4), Way(4, 5), Way(5, 6), Way(2, 6), Way(6, 7), Way(6, 8),
            Way(7, 9), Way(8, 9), Way(9, 10),
        ),
    ),
)  # fmt: skip

COLLECTIONS = (
    ("DMN001", (("METADATA", "Domain"),)),
    ("AGT001", (("METADATA", "Agent"), ("TL001", "Tool"), ("TL002", "Tool"))),
    ("USR001", (("METADATA", "User"), ("SESS20250614001", "UserSession"), ("UserPrcToolMapp#cafe", "UserToolMapping"))),
    ("USR001#SESS20250614001", (
        ("PRC001", "UserSessionProcess"), ("PRC001#AGT001#TL001", "ToolExecution"),
        ("PRC001#AGT001#TL001#002", "its second attempt"), ("REVIEW#r-1", "Review"),
    )),
    ("USR001#SUGGEST", (("SUGGEST#s-1", "Suggestion"),)),
    ("index GSI1: Domain", (("hotel search", "Domain, by name"), ("store search", "Domain"))),
    ("index GSI1: DMN001", (
        ("AGTSCORE#00000040.000000", "Agent, by score"), ("AGTSCORE#00000060.000000", "Agent"),
        ("TL#FIND_LOC", "Tool, by name"), ("TL#FORMAT_RESULTS", "Tool"),
    )),
    ("index GSI1: USR001", (("café near the stadium", "UserSession, by name"),)),
    ("index GSI1: UserPrcToolMapp", (("cafe search", "UserToolMapping, by category"),)),
    ("index GSI1: Review#refunds", (("20250614140530000000", "Review, by due time"),)),
)  # fmt: skip
"""Partitions of the table and of its index, each with its sort keys and what the items are."""


def narrow(title: str, high: int, parts: list[str]) -> str:
    """Return a picture of a guide as SVG."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{NARROW}" height="{high}" viewBox="0 0 {NARROW} {high}"',
        'role="img" font-family="system-ui, sans-serif" font-size="14">',
        f"<title>{title}</title>",
        STYLE,
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">',
        '<path class="tip" d="M0 0 10 5 0 10z"/></marker></defs>',
        f'<rect class="page" width="{NARROW}" height="{high}" rx="8"/>',
        *parts,
        "</svg>",
        "",
    ])  # fmt: skip


def mapped(picture: Map) -> str:
    """Return boxes in a grid, with arrows between them, as SVG."""
    rows = [box.row for box in picture.boxes]
    heights = {
        row: 34 + CELL * max(len(box.lines) for box in picture.boxes if box.row == row) for row in sorted(set(rows))
    }
    tops = {row: 12 + sum(heights[other] + 36 for other in heights if other < row) for row in heights}
    margin = 28 if any(way.round for way in picture.ways) else 10
    wide = (NARROW - 10 - margin) / 4
    places = [(10 + box.share[0] * wide + 3, 10 + box.share[1] * wide - 3, tops[box.row]) for box in picture.boxes]
    parts = []
    for box, (left, right, top) in zip(picture.boxes, places, strict=True):
        middle, small = (left + right) / 2, ' font-size="13"' * (right - left < 100)
        parts.append(
            f'<rect class="{box.kind}" x="{left:g}" y="{top}" width="{right - left:g}"'
            f' height="{heights[box.row]}" rx="7"/>'
        )
        parts.append(f'<text class="head" x="{middle:g}" y="{top + 23}" text-anchor="middle"{small}>{box.head}</text>')
        parts += [
            f'<text class="note what" x="{middle:g}" y="{top + 23 + CELL * number}" text-anchor="middle">{line}</text>'
            for number, line in enumerate(box.lines, 1)
        ]
    for way in picture.ways:
        (left, right, top), (to_left, to_right, to_top) = places[way.begin], places[way.end]
        later = " later" if way.later else ""
        begin, end = heights[picture.boxes[way.begin].row], heights[picture.boxes[way.end].row]
        if way.round:
            path = f"M{right:g} {top + begin / 2:g} H{NARROW - 10} V{to_top + end / 2:g} H{to_right + 2:g}"
        elif top == to_top:
            x, to = (left, to_right + 1) if left > to_left else (right, to_left - 1)
            path = f"M{x:g} {top + begin / 2:g} H{to:g}"
        else:  # straight down, where both boxes are
            low, high = max(left, to_left), min(right, to_right)
            path = f"M{(low + high) / 2:g} {top + begin} V{to_top - 1}"
            parts += [
                f'<text class="note" x="{(low + high) / 2 + 10:g}" y="{top + begin + 22}">{way.text}</text>'
            ] * bool(way.text)
        parts.append(f'<path class="way{later}" d="{path}" marker-end="url(#tip)"/>')
    return narrow(picture.title, max(tops[row] + heights[row] for row in rows) + 12, parts)


def collections() -> str:
    """Return the table's item collections as SVG: a partition key with the items below it."""
    parts, y = list[str](), 12
    for partition, items in COLLECTIONS:
        high = 30 + 26 * len(items)
        parts.append(f'<rect class="box lane" x="10" y="{y}" width="{NARROW - 20}" height="{high}" rx="7"/>')
        parts.append(f'<text class="head" x="20" y="{y + 20}">{partition}</text>')
        for number, (key, what) in enumerate(items):
            line = y + 28 + 26 * number
            parts.append(f'<rect class="box" x="20" y="{line}" width="{NARROW - 40}" height="22" rx="4"/>')
            parts.append(f'<text class="file" x="27" y="{line + 15}">{key}</text>')
            parts.append(f'<text class="what" x="{NARROW - 27}" y="{line + 16}" text-anchor="end">{what}</text>')
        y += high + 10
    return narrow("The table's item collections: partition keys with their items by sort key", y + 2, parts)


KOREAN_PICTURES = ("assets/loop.svg", "suggest/review.svg", "assets/deployment.svg", "assets/collections.svg")
"""Pictures of the Korean pages, which lie in docs/ko."""

KOREAN = {
    # loop
    "The loop: a request goes through access, cache, table and warehouse; what is learnt comes back": (
        "한 바퀴: 요청은 접근 계층, 캐시, 테이블, 웨어하우스를 지나고 배운 것이 돌아옵니다"
    ),
    "a request": "요청",
    "a user, in words; an agent that calls tools": "사용자의 말, 그리고 도구를 호출하는 에이전트",
    "access": "접근 계층 (access)",
    "eight typed patterns, one recorder": "타입이 있는 접근 패턴 여덟 가지, 기록기 하나",
    "cache · Valkey": "캐시 (cache) · Valkey",
    "journal, cached copies, ranking, health of tools": "저널, 사본, 순위, 도구의 상태",
    "dynamo · DynamoDB": "테이블 (dynamo) · DynamoDB",
    "one table: history, agents, mappings": "테이블 하나: 이력, 에이전트, 매핑",
    "redshift": "웨어하우스 (redshift)",
    "executions, scores, patterns": "실행, 점수, 패턴",
    "suggest": "제안 (suggest)",
    "publish · plan · avoid failing tools": "내보내기 · 계획 · 고장 난 도구 피하기",
    "ask a person · return cached results": "사람에게 묻기 · 캐시된 결과 돌려주기",
    "at once": "바로",
    "a drainer, a moment later": "드레이너가 잠시 뒤에",
    "zero-ETL, then a refresh": "zero-ETL, 그다음 refresh",
    "scores and best processes": "점수와 가장 좋은 방법",
    # states of a question
    "The states of a question: pending, claimed, and how it ends": "질문의 상태: 대기 중, 맡음, 그리고 끝",
    "pending": "대기 중 (pending)",
    "asked; in the queue until its deadline": "물었고, 기한까지 대기열에 있음",
    "claimed": "맡음 (claimed)",
    "one person looks at it, for 15 minutes": "한 사람이 15분 동안 봄",
    "approved": "승인",
    "as asked": "물은 대로",
    "edited": "고쳐서 승인",
    "other": "다른",
    "arguments": "인자로",
    "rejected": "거부",
    "with a": "이유와",
    "reason": "함께",
    "responded": "글로 답함",
    "a text in": "호출 대신",
    "its place": "글",
    "expired · cancelled · completed": "만료 · 취소 · 판정됨",
    "the deadline passed · whoever asked took it back": "기한이 지남 · 물은 쪽이 거두어들임",
    "· a verdict was given on a run that had ended": "· 끝난 실행을 판정함",
    "claim, or decide at once": "맡거나 바로 결정",
    # deployment
    "What the template makes: application, Valkey, drainer, table, warehouse and functions": (
        "템플릿이 만드는 것: 애플리케이션, Valkey, 드레이너, 테이블, 웨어하우스, 함수"
    ),
    "your application": "여러분의 애플리케이션",
    "with ApplicationPolicy and the security group": "ApplicationPolicy와 보안 그룹",
    "journal, cached copies": "저널, 사본",
    "durable, in three zones": "가용 영역 세 곳에 저장",
    "function, each minute:": "1분마다 함수:",
    "figures of the journal": "저널의 수치",
    "drainer": "드레이너",
    "two Fargate tasks,": "Fargate 태스크 두 개,",
    "or a function": "또는 함수",
    "function, each 5 minutes:": "5분마다 함수:",
    "overdue questions": "기한이 지난 질문",
    "index, TTL, point-in-time recovery": "인덱스, TTL, 시점 복구(PITR)",
    "the landed table; scores and patterns": "들어온 테이블, 점수와 패턴",
    "function, each hour: refresh and publish": "한 시간마다 함수: refresh와 publish",
    "records, reads": "기록, 읽기",
    "entries": "기록",
    # item collections
    "The table's item collections: partition keys with their items by sort key": (
        "테이블의 아이템 모음: 파티션 키와 정렬 키 순서의 아이템"
    ),
    "UserPrcToolMapp#cafe": "UserPrcToolMapp#카페",
    "its second attempt": "두 번째 시도",
    "index GSI1: Domain": "인덱스 GSI1: Domain",
    "hotel search": "매장 검색",
    "Domain, by name": "Domain, 이름 순서",
    "store search": "호텔 검색",
    "index GSI1: DMN001": "인덱스 GSI1: DMN001",
    "Agent, by score": "Agent, 점수 순서",
    "Tool, by name": "Tool, 이름 순서",
    "index GSI1: USR001": "인덱스 GSI1: USR001",
    "café near the stadium": "잠실역 근처 카페",
    "UserSession, by name": "UserSession, 이름 순서",
    "index GSI1: UserPrcToolMapp": "인덱스 GSI1: UserPrcToolMapp",
    "cafe search": "매장검색:카페",
    "UserToolMapping, by category": "UserToolMapping, 카테고리 순서",
    "index GSI1: Review#refunds": "인덱스 GSI1: Review#refunds",
    "Review, by due time": "Review, 기한 순서",
}
"""The texts of these pictures in Korean; what is not here is a name, and stays."""


def in_korean(picture: str) -> str:
    """Return a picture with its texts in Korean."""
    return re.sub(r">([^<>]+)<", lambda found: f">{KOREAN.get(found[1], found[1])}<", picture)


def main() -> int:
    """Write the pictures, or with `--check` compare them and return 1 if one differs."""
    stale = []
    pictures = {f"contributing/{name}.svg": drawn(title, steps) for name, (title, steps) in PICTURES.items()}
    pictures |= {picture.file: mapped(picture) for picture in MAPS} | {"assets/collections.svg": collections()}
    pictures |= {f"ko/{Path(name).name}": in_korean(pictures[name]) for name in KOREAN_PICTURES}
    for name, picture in pictures.items():
        path = DOCS / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != picture:
                stale.append(name)
        else:
            path.write_text(picture, encoding="utf-8")
    if stale:
        print(f"error: out of date: {', '.join(stale)}; run `python scripts/pictures.py`")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
