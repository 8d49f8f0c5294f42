"""Histories for the warehouse: what zero-ETL shows of them, late and out of order, and a generated one."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from agentmodel import keys
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.redshift_oracle import Item, n

START = datetime(2025, 6, 14, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Change:
    """One write: an item, or with ``gone`` its deletion; ``lag`` minutes until zero-ETL shows it.

    Where somebody asked for the deletion, there is a mark of it, ``marked`` minutes until it is shown.
    """

    item: Item
    gone: bool
    wait: int
    lag: int
    marked: int | None = None


@dataclass
class Version:
    item: Item
    created: datetime
    shown: datetime
    deleted: datetime | None = None
    deletion_shown: datetime | None = None


def mark_of(key: tuple[str, str], at: datetime) -> Item:
    """The mark of a deletion, as `agentmodel.dynamo._deletion_marks` writes it."""
    digest = keys.item_digest(*key)
    version = int(at.timestamp() + 300) * 1000 << 16
    return {"PK": {"S": f"DELETED#{digest}"}, "SK": {"S": "METADATA"}, "EntityType": {"S": "Deleted"},
            "Version": {"N": str(version)}}  # fmt: skip


class Feed:
    """Zero-ETL with history mode: every version of every item, shown with a lag."""

    def __init__(self) -> None:
        self.now = START
        self.versions: dict[tuple[str, str], list[Version]] = defaultdict(list)

    def write(self, change: Change) -> None:
        self.now += timedelta(minutes=change.wait)
        key = (change.item["PK"]["S"], change.item["SK"]["S"])
        if change.marked is not None:
            self.write(Change(mark_of(key, self.now), gone=False, wait=0, lag=change.marked))
        known = self.versions[key]
        shown = self.now + timedelta(minutes=change.lag)
        if known:
            newest = known[-1]
            shown = max([shown, newest.shown, *([newest.deletion_shown] if newest.deletion_shown else [])])
            if newest.deleted is None:
                newest.deleted, newest.deletion_shown = self.now, shown
            elif change.gone:
                return
        elif change.gone:
            return
        if not change.gone:
            known.append(Version(change.item, self.now, shown))

    def rows(self) -> list[dict[str, Any]]:
        rows = []
        for (pk, sk), versions in self.versions.items():
            for version in versions:
                if version.shown > self.now:
                    continue
                known = version.deletion_shown is not None and version.deletion_shown <= self.now
                gone = version.deleted.replace(tzinfo=None) if known and version.deleted else None
                rows.append({"pk": pk, "sk": sk, "item": json.dumps(version.item), "active": gone is None,
                             "created": version.created.replace(tzinfo=None), "deleted": gone})  # fmt: skip
        return rows

    def present(self) -> dict[tuple[str, str], Item]:
        """What counts of what is shown: items that are there, and those that had expired when they were deleted."""
        items = {}
        for key, versions in self.versions.items():
            shown = [version for version in versions if version.shown <= self.now]
            if not shown:
                continue
            newest = shown[-1]
            known = newest.deletion_shown is not None and newest.deletion_shown <= self.now
            if newest.deleted is None or not known or self._expired(key, newest):
                items[key] = newest.item
        return items

    def _expired(self, key: tuple[str, str], newest: Version) -> bool:
        """Whether a version expired: it was deleted after that, and no shown mark says that somebody asked for it."""
        assert newest.deleted is not None
        expired = (n(newest.item, "ExpiresAt") or math.inf) <= newest.deleted.timestamp()
        mark = mark_of(key, self.now)
        marks = [each for each in self.versions.get((mark["PK"]["S"], "METADATA"), ()) if each.shown <= self.now]
        return expired and not any(newest.created <= each.created + timedelta(minutes=5) for each in marks)

    def show(self, warehouse: Warehouse, *, with_history: bool = True) -> None:
        """Make the landed table what zero-ETL shows now, with or without its history columns."""
        rows = [row for row in self.rows() if with_history or row["active"]]
        kinds = {"pk": "VARCHAR", "sk": "VARCHAR", "item": "VARCHAR", "active": "BOOLEAN", "created": "TIMESTAMP",
                 "deleted": "TIMESTAMP"}  # fmt: skip
        columns = ', "_record_is_active", "_record_create_time", "_record_delete_time"' if with_history else ""
        values = ", active, created, deleted" if with_history else ""
        insert = text(
            f'INSERT INTO "AgentTable" ("PK", "SK", "value"{columns}) SELECT pk, sk, CAST(item AS JSON){values} '
            "FROM (SELECT unnest(from_json(:rows, :shape), recursive := true))"
        )
        with warehouse.begin() as connection:
            connection.execute(text('DELETE FROM "AgentTable"'))
            if rows:
                shown = json.dumps(rows, default=datetime.isoformat)
                connection.execute(insert, {"rows": shown, "shape": json.dumps([kinds])})


RECENT = {
    "AGT001": ["20250614140605", "2025061414060512", "20250614140604", "20250701000000"],
    "AGT002": ["20250614140605", "2025061414060512", "20250614140604"],
}
"""Times of two agents, of a day the scores are for and of one in the future; the others have faded."""


def history(seed: int, count: int) -> list[Item]:
    """Generate items with Korean and long text, ties, retries, missing and empty attributes, and days in the future."""
    pick, also = random.Random(seed), random.Random(-seed)  # noqa: S311 -- a history, not a secret
    items: dict[tuple[str, str], Item] = {}

    def add(pk: str, sk: str, kind: str, **attributes: Any) -> None:
        texts = {name: {"S": value} for name, value in attributes.items() if isinstance(value, str)}
        numbers = {name: {"N": str(value)} for name, value in attributes.items() if isinstance(value, int | float)}
        items[pk, sk] = {"PK": {"S": pk}, "SK": {"S": sk}, "EntityType": {"S": kind}, **texts, **numbers}

    for number in range(1, 5):
        agent, name = f"AGT00{number}", pick.choice(["검색 에이전트", None])
        add(agent, "METADATA", "Agent", GSI1_PK=f"DMN00{number % 2}", AgentNM=name, Score=pick.choice(["60", 60.25]))
        add(agent, "TL001", "Tool", GSI1_PK="DMN001", ToolNM="찾기", ToolSpec="{}")
        add(agent, "TL002", "Tool", GSI1_PK="DMN001", ToolNM="가까운 카페를 지도에서 찾는 도구")
        add(agent, "TL003", "Tool", GSI1_PK="DMN001", ToolNM="")
    add("DMN001", "METADATA", "Domain", DomainNM="매장" * 200)
    for _ in range(count):
        user, session = f"USR{pick.randrange(6)}", f"SESS{pick.randrange(8)}"
        add(user, "METADATA", "UserInfo", UserNM="김", UserProfile="{}", LastLoginDT="20250614140605")
        add(user, session, "UserSession", Category=pick.choice([None, "카페#1"]), SessionSuccYN=pick.choice([None, "Y", "N"]),
            ReviewedSuccYN=pick.choice([None, None, "Y"]), UserRequest=pick.choice([None, "가까운 카페"]))  # fmt: skip
        if also.random() < 0.3:
            add(f"{user}#{session}", f"REVIEW#outcome-{also.randrange(2)}", "Review", DecidedBy="환불", OutcomeScore=0.5,
                OutcomeSource=also.choice(["person", "event", "evaluator", "evaluator", None]), DecidedDT="20250614140605",
                OutcomeYN=also.choice(["Y", "N"]), AgentID=also.choice([None, None, "AGT001"]))  # fmt: skip
        process, described = f"PRC00{pick.randrange(1, 4)}", pick.choice(["ProcessDesc", "ProcDesc"])
        partition = f"{user}#{session}"
        add(partition, process, "UserSessionProcess", ProcNM="위치확인", UserPrompt="어디?", **{described: "확인"})
        attempt, agent = pick.choice(["", "", "#002", "#010", "#A1000"]), f"AGT00{pick.randrange(1, 6)}"
        add(
            partition,
            f"{process}#{agent}#TL00{pick.randrange(1, 4)}{attempt}",
            "UserSessPrcToolMappHist",
            ToolNM=pick.choice(["찾기", "", None, "긴 이름 " * 60]),
            ToolValues=pick.choice(["값"] * 15 + ["한" * 30_000]),
            ResultMsg=pick.choice(["", None, "결과"]),
            TransactDT=pick.choice([None, "2025", "20250230101010", "20250520235959", *RECENT.get(agent, [])]),
            SuccYN=pick.choice(["Y", "Y", "N", None]),
            Status=pick.choice([None, None, "ok", "error", "rejected"]),
            CallNo=pick.choice([None, 1, 2, 10, 2.5]),
            DurationMs=pick.choice([None, 1500, 1001]),
            InputTokens=pick.choice([None, 12]),
            AgentVer=also.choice([None, None, "v1", "v2"]),
            ExpiresAt=pick.choice([None, None, int(START.timestamp())]),
        )
    for attempt, succeeded in (("", "N"), ("#002", "Y")):
        add("USR7#SESS1", f"PRC001#AGT001#TL001{attempt}", "UserSessPrcToolMappHist", SuccYN=succeeded)
    return list(items.values())


def told() -> Feed:
    """A history in its first state: what is shown before anything was corrected, deleted or erased."""
    feed = Feed()
    never_failed = {"PK": {"S": "USR3#SESS1"}, "SK": {"S": "PRC001#AGT001#TL004"}, "SuccYN": {"S": "Y"}}
    for item in [*history(1, 160), never_failed | {"EntityType": {"S": "UserSessPrcToolMappHist"}}]:
        feed.write(Change(item, gone=False, wait=0, lag=0))
    feed.now += timedelta(minutes=1)
    return feed


def corrected(feed: Feed) -> None:
    """Corrections, late calls, deletions by TTL and by a person, all over the past."""
    feed.now += timedelta(hours=2)
    for number, item in enumerate(feed.present().values()):
        session = item["EntityType"]["S"] == "UserSession"
        if item["PK"]["S"].startswith("USR1") or (number % 9 == 0 and not session):
            feed.write(Change(item, gone=True, wait=0, lag=0, marked=0 if number % 2 else None))
    feed.now += timedelta(minutes=5)
    for item in history(2, 40):
        feed.write(Change(item, gone=False, wait=0, lag=0))
    feed.now += timedelta(minutes=1)


def deletions() -> Iterator[Feed]:
    """Calls that a person asked to delete, or that expired, before and after each was seen; the feed after each step."""
    feed = Feed()
    calls = [item for item in history(3, 200) if item["PK"]["S"].startswith("USR") and "ExpiresAt" in item]
    seen, late, refused, again, back, expires = calls[:6]

    def write(item: Item, after: int, *, gone: bool, marked: int | None = None) -> None:
        feed.write(Change(item, gone=gone, wait=after, lag=0, marked=marked))

    for item in (seen, late, refused, again, back, expires):
        write(item, 0, gone=False)
    write(seen, 60, gone=True, marked=0)
    write(late, 0, gone=True, marked=20)  # the mark is shown after the deletion was read
    write(refused, 0, gone=False, marked=0)  # and is written again meanwhile
    write(expires, 0, gone=True)
    write(again, 0, gone=True, marked=0)
    yield feed
    feed.now += timedelta(minutes=30)
    yield feed
    write(again, 0, gone=False)  # later than the mark counts
    write(refused, 150, gone=True)
    write(again, 0, gone=True)
    write(back, 0, gone=True)
    yield feed
    write(expires, 120, gone=True, marked=0)  # long after the refresh that read that it expired
    write(back, 0, gone=False)
    yield feed
    write(late, 120, gone=False)
    yield feed
    mark = mark_of((back["PK"]["S"], back["SK"]["S"]), feed.now + timedelta(hours=2))
    feed.write(Change(mark, gone=False, wait=120, lag=0))  # its deletion was refused
    yield feed
