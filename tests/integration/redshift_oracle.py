"""The oracle: what the warehouse must hold, read from the items in plain Python.

It knows no SQL and no increments. Of the package it uses the plain-Python twins of `agentmodel.redshift.score` only.
Sessions are handed to it one by one, so that a history larger than memory can be read.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from hashlib import md5
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Table, select

from agentmodel._values.categories import derived_name
from agentmodel._values.outcomes import ReportedOutcome
from agentmodel._values.text import words_of
from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift.warehouse import Warehouse

Item: TypeAlias = "dict[str, dict[str, Any]]"
Items: TypeAlias = "Mapping[tuple[str, str], Item]"
Tables: TypeAlias = "dict[str, list[tuple[Any, ...]]]"

HALF_LIFE = 30.0
CALL = "UserSessPrcToolMappHist"
COMPUTED = ("agent_execution", "agent_daily", "agent_tool", "agent_score_summary", "user_process_patterns",
            "tool_error_summary")  # fmt: skip
"""What a refresh computes; the base tables and the view are compared beside them."""


# -- attributes -------------------------------------------------------------------------------------------------------


def s(item: Item, name: str) -> str | None:
    """A text attribute."""
    value = item.get(name, {}).get("S")
    return None if value is None else str(value)


def n(item: Item, name: str) -> float | None:
    """A number with at most 18 digits before its point."""
    value = item.get(name, {}).get("N")
    return None if value is None or not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,38})?", value) else float(value)


def whole(item: Item, name: str) -> int | None:
    """A whole number: a fraction is none."""
    value = item.get(name, {}).get("N")
    return None if value is None or not re.fullmatch(r"-?[0-9]{1,18}", value) else int(value)


def count(item: Item, name: str) -> int | None:
    """A count: not negative, and of at most 13 digits."""
    value = item.get(name, {}).get("N")
    return None if value is None or not re.fullmatch(r"[0-9]{1,13}", value) else int(value)


def is_time(value: str | None) -> bool:
    """Whether a text has the shape of a time; that February has no 30th is the calendar's to know."""
    if value is None or not re.fullmatch("[1-9][0-9]{13,19}", value):
        return False
    month, day, hour, minute, second = (int(value[at : at + 2]) for at in (4, 6, 8, 10, 12))
    return 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60


def day_of(value: str | None) -> date | None:
    """The day of a time of the table."""
    if value is None or not is_time(value):
        return None
    try:
        return date(int(value[:4]), int(value[4:6]), int(value[6:8]))
    except ValueError:
        return None


def time_of(value: str | None) -> datetime | None:
    """The second of a time of the table."""
    day = day_of(value)
    if day is None or value is None:
        return None
    return datetime(day.year, day.month, day.day, int(value[8:10]), int(value[10:12]), int(value[12:14]))  # noqa: DTZ001 -- TIMESTAMP has no zone


class Call(NamedTuple):
    """A call that was made, or, where ``ok`` is None, answered from the cache."""

    user: str
    session: str
    process: str
    agent: str
    tool: str
    attempt: int
    item: Item
    status: str | None
    ok: bool | None
    day: date | None
    clock: str

    @property
    def name(self) -> str:
        """The tool's name as the call has it."""
        return (s(self.item, "ToolNM") or "")[: m.NAME]


def call_of(item: Item) -> Call:
    """Read a call from its item."""
    user, session = item["PK"]["S"].split("#")[:2]
    process, agent, tool, *rest = item["SK"]["S"].split("#")
    attempt = int(rest[0].lstrip("ABCDEFGHIJ")) if rest else 1
    status = s(item, "Status") or None
    status = status if status is None or status.isascii() else None  # its column takes no other text
    ok = status == "ok" if status in ("ok", "error") else s(item, "SuccYN") == "Y"
    outcome = None if status == "cache_hit" else ok
    time = s(item, "TransactDT")
    clock = time.ljust(20, "0") if time is not None and is_time(time) else "9" * 20
    return Call(user, session, process, agent, tool, attempt, item, status, outcome, day_of(time), clock)


# -- executions -------------------------------------------------------------------------------------------------------


class Execution(NamedTuple):
    """A user's session with an agent."""

    user: str
    session: str
    agent: str
    category: str
    success: bool
    calls: int
    first: date | None
    last: date | None
    seconds: float | None
    processes: str
    tools: str
    revision: str = ""
    last_time: str | None = None

    @property
    def key(self) -> str:
        """The digest patterns are told apart by."""
        parts = [digest(text) for text in (self.category, self.processes, self.tools)]
        return digest("#".join([self.user, self.agent, *parts]))


def digest(text: str) -> str:
    """MD5, as the warehouse names patterns."""
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def first(days: Iterable[date | None]) -> date | None:
    """The first day that is known."""
    return min((day for day in days if day is not None), default=None)


def last(days: Iterable[date | None]) -> date | None:
    """The last day that is known."""
    return max((day for day in days if day is not None), default=None)


def category_of(session: Item, processes: Iterable[Item], *, derived: bool) -> str:
    """The category of a session: the typed one, else the one that its request founds.

    Requests of histories are so different that none joins another's category.
    """
    typed = (s(session, "Category") or "")[: m.NAME]
    if typed and not typed.startswith("~"):
        return typed
    request = request_of(session, processes)
    return derived_name(request) if derived and session and words_of(request) else ""


def request_of(session: Item, processes: Iterable[Item]) -> str:
    """The request of a session, else the first prompt of its processes."""
    prompts = [s(one, "UserPrompt") for one in sorted(processes, key=lambda one: str(one["SK"]["S"]))]
    return next(filter(None, [s(session, "UserRequest"), *prompts]), "")


def derived_categories(items: Items) -> set[tuple[str, str, str]]:
    """The user, the request and the derived category of every session that has no typed one."""
    found = set()
    for (user, session_id), session in items.items():
        processes = [item for (pk, _), item in items.items() if pk == f"{user}#{session_id}" and s(item, "UserPrompt")]
        category = category_of(session, processes, derived=True)
        if s(session, "EntityType") == "UserSession" and category.startswith("~"):
            found.add((user, request_of(session, processes), category))
    return found


def outcomes_of(items: Iterable[Item], agent: str) -> list[ReportedOutcome]:
    """The outcomes from outside of a session that are about this agent or about all of it."""
    found = []
    for item in items:
        of, said, time = s(item, "AgentID"), s(item, "OutcomeYN"), s(item, "DecidedDT")
        if said in ("Y", "N") and of in (None, "", agent):
            clock = time.ljust(20, "0") if time is not None and is_time(time) else None
            found.append(ReportedOutcome(s(item, "OutcomeSource") or "", said == "Y", of == agent, clock))
    return found


def execution(session: Item, calls: list[Call], category: str, said: Iterable[Item] = ()) -> Execution:
    """Read an execution from its session, its calls and the outcomes from outside."""
    steps: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        steps[call.process, call.tool].append(call)

    def place(step: tuple[tuple[str, str], list[Call]]) -> Any:
        numbers = [whole(call.item, "CallNo") for call in step[1]]
        number = min(math.inf if number is None else number for number in numbers)
        return number, min(call.clock for call in step[1]), step[0]

    ordered = sorted(steps.items(), key=place)
    labels = [max(call.name for call in tries) or tool for (_, tool), tries in ordered]
    made = sorted((call for call in calls if call.ok is not None), key=lambda call: call.attempt)
    outcomes = {(call.process, call.tool): call.ok is True for call in made}
    versions = [
        ("0" * 20 if call.clock == "9" * 20 else call.clock) + revision[:NAME]
        for call in calls
        if (revision := s(call.item, "AgentVer"))
    ]
    milliseconds = [ms for call in calls if (ms := n(call.item, "DurationMs")) is not None]
    return Execution(
        calls[0].user,
        calls[0].session,
        calls[0].agent,
        category=category,
        success=score.succeeded(
            reviewed=s(session, "ReviewedSuccYN"),
            recorded=s(session, "SessionSuccYN"),
            last_attempts=list(outcomes.values()),
            outcomes=outcomes_of(said, calls[0].agent),
        ),
        calls=sum(call.ok is not None for call in calls),
        first=first(call.day for call in calls),
        last=last(call.day for call in calls),
        seconds=sum(milliseconds) / 1000 if milliseconds else None,
        processes="->".join(process[:80] for (process, _), _ in ordered[:200]),
        tools="->".join(label[:80] for label in labels[:200]),
        revision=max(versions, default="")[20:],
        last_time=max((call.clock for call in calls if call.clock != "9" * 20), default=None),
    )


@dataclass(slots=True)
class Pattern:
    """Executions of one pattern."""

    example: Execution
    executions: int = 0
    successes: int = 0
    seconds: float = 0.0
    timed: int = 0
    first: date | None = None
    last: date | None = None

    def add(self, one: Execution) -> None:
        """Count an execution."""
        self.executions += 1
        self.successes += one.success
        if one.seconds is not None:
            self.seconds += one.seconds
            self.timed += 1
        self.first = first((self.first, one.first))
        self.last = last((self.last, one.last))


class Present(NamedTuple):
    """The present revision of an agent, and the weight of every other one."""

    name: str
    executions: int
    successes: int
    weight: float

    def share(self, revision: str) -> float:
        """How much an execution of a revision counts."""
        return 1.0 if not self.name or revision == self.name else self.weight


@dataclass
class Oracle:
    """What the items say that are there, as of a day."""

    as_of: date
    agents: dict[str, Item] = field(default_factory=dict)
    named_tools: dict[tuple[str, str], str] = field(default_factory=dict)
    patterns_by_user: dict[str, dict[str, Pattern]] = field(default_factory=lambda: defaultdict(dict))
    days: dict[tuple[str, str, str, date | None], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0])
    )
    newest: dict[tuple[str, str], tuple[date, str]] = field(default_factory=dict)
    tools: dict[tuple[str, str, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0]))

    def add_item(self, item: Item) -> None:
        """Take in an agent or a tool."""
        if s(item, "EntityType") == "Agent":
            self.agents[item["PK"]["S"]] = item
        if s(item, "EntityType") == "Tool" and (name := s(item, "ToolNM")):
            self.named_tools[item["PK"]["S"], item["SK"]["S"]] = name

    def add_session(
        self, session: Item, items: Iterable[Item], category: str, said: Iterable[Item] = ()
    ) -> list[Execution]:
        """Take in a session (empty where there is none), its calls and outcomes; returns its executions."""
        groups: dict[str, list[Call]] = defaultdict(list)
        for call in map(call_of, items):
            if call.status in (None, "ok", "error", "cache_hit"):
                groups[call.agent].append(call)
            if call.ok is not None and call.status in (None, "ok", "error"):
                self._count(call)
        found = [
            execution(session, calls, category, said)
            for calls in groups.values()
            if any(call.ok is not None for call in calls)
        ]
        for one in found:
            counts = self.days[one.agent, one.category, one.revision, one.last]
            if one.revision:
                when = (one.last or m.UNDATED, one.last_time or "")
                self.newest[one.agent, one.revision] = max(self.newest.get((one.agent, one.revision), when), when)
            counts[0] += 1
            counts[1] += one.success
            patterns, key = self.patterns_by_user[one.user], one.key
            if key not in patterns:
                patterns[key] = Pattern(one)
            patterns[key].add(one)
        return found

    def _count(self, call: Call) -> None:
        counts = self.tools[call.agent, call.tool, call.name]
        counts[0] += 1
        counts[1] += not call.ok
        counts[2] += count(call.item, "InputTokens") or 0
        counts[3] += count(call.item, "OutputTokens") or 0

    # -- tables -------------------------------------------------------------------------------------------------------

    def daily(self) -> Iterator[tuple[Any, ...]]:
        """Rows of agent_daily."""
        for (agent, category, revision, day), counts in self.days.items():
            yield agent, category, revision, day or m.UNDATED, *counts

    def tool_counts(self) -> Iterator[tuple[Any, ...]]:
        """Rows of agent_tool."""
        for key, counts in self.tools.items():
            yield *key, *counts

    def patterns(self) -> Iterator[tuple[Any, ...]]:
        """Rows of user_process_patterns."""
        for patterns in self.patterns_by_user.values():
            yield from self._patterns_of_user(patterns)

    def _patterns_of_user(self, patterns: dict[str, Pattern]) -> Iterator[tuple[Any, ...]]:
        lasts = [pattern.last for pattern in patterns.values()]
        newest, oldest = last(lasts), first(lasts)
        own_day = self.as_of if newest is None else min(newest, self.as_of)
        rows = []
        for key, p in patterns.items():
            faded = p.last or oldest
            rows.append((key, p, faded, score.pattern_score(p.executions, p.successes, last=faded, as_of=own_day)))
        for key, p, faded, value in rows:
            same = [other for _, q, _, other in rows if q.example.category == p.example.category]
            e, flag = p.example, score.recommended(value, successes=p.successes, threshold=percentile(same))
            seconds = p.seconds / p.timed if p.timed else None
            yield (flag, e.user, e.category, e.agent, e.processes, e.tools, key, p.executions, p.successes, seconds, value,
                   p.first, p.last, faded)  # fmt: skip

    def domains(self) -> dict[str, list[str]]:
        """Agents of each domain that made a call that counts."""
        found: dict[str, list[str]] = defaultdict(list)
        for agent in sorted({agent for agent, *_ in self.days}):
            domain = s(self.agents.get(agent, {}), "GSI1_PK")
            if domain is not None:
                found[domain].append(agent)
        return found

    def name_of(self, agent: str) -> str:
        """An agent's name, or its id."""
        name = s(self.agents[agent], "AgentNM")
        return name[: m.NAME] if name else agent

    def present(self, agent: str) -> Present:
        """The present revision of an agent: that of its newest execution."""
        times = [(when, revision) for (one, revision), when in self.newest.items() if one == agent]
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for (one, _, revision, _), (made, good) in self.days.items():
            if one == agent:
                counts[revision][0] += made
                counts[revision][1] += good
        if not times:
            return Present("", 0, 0, 1.0)
        name = max(times)[1]
        own, good = counts[name]
        others = sum(made for revision, (made, _) in counts.items() if revision != name)
        return Present(name, own, good, score.revision_weight(own, others))

    def scores(self) -> Iterator[tuple[Any, ...]]:
        """Rows of agent_score_summary."""
        for domain, agents in self.domains().items():
            yield from self._scores_of(domain, agents)

    def _scores_of(self, domain: str, agents: list[str]) -> Iterator[tuple[Any, ...]]:
        runs = {
            agent: {
                (category, revision, day): counts
                for (one, category, revision, day), counts in self.days.items()
                if one == agent
            }
            for agent in agents
        }
        newest_days = {agent: last(day for *_, day in days) for agent, days in runs.items()}
        oldest, newest = first(newest_days.values()), last(newest_days.values())
        oldest_run = first(day for days in runs.values() for *_, day in days)
        own_day = self.as_of if newest is None else min(newest, self.as_of)

        cells: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        of_revision = {agent: self.present(agent) for agent in agents}
        for agent, days in runs.items():
            for (category, revision, day), (made, good) in days.items():
                weight = score.discount(day or oldest_run, own_day, half_life=HALF_LIFE)
                weight *= of_revision[agent].share(revision)
                cells[agent, category][0] += weight * good
                cells[agent, category][1] += weight * made
        rate, means = score.two_way({key: (good, made) for key, (good, made) in cells.items()})
        for agent, days in runs.items():
            count, good = (sum(counts[which] for counts in days.values()) for which in (0, 1))
            day, faded = newest_days[agent], newest_days[agent] or oldest
            present = of_revision[agent]
            counted, counted_good = (
                sum(present.share(revision) * counts[which] for (_, revision, _), counts in days.items())
                for which in (0, 1)
            )
            yield (
                domain, agent, self.name_of(agent), count, good, count - good, good / count, day,
                None if day is None else score.days_between(day, self.as_of), score.decay(faded, own_day),
                score.score(counted, counted_good, last=faded, as_of=own_day),
                means[agent], sum(made for (one, _), (_, made) in cells.items() if one == agent), rate,
                present.name, present.executions, present.successes, counted, counted_good,
                datetime(self.as_of.year, self.as_of.month, self.as_of.day),  # noqa: DTZ001 -- TIMESTAMP has no zone
            )  # fmt: skip

    def tool_errors(self) -> Iterator[tuple[Any, ...]]:
        """Rows of tool_error_summary."""
        for domain, agents in self.domains().items():
            for agent in agents:
                counts = {key: c for key, c in self.tools.items() if key[0] == agent}
                calls, errors = (sum(c[which] for c in counts.values()) for which in (0, 1))
                named: dict[str, int] = defaultdict(int)
                for (_, tool, _), c in counts.items():
                    recorded = max(name for _, other, name in counts if other == tool)
                    named[self.named_tools.get((agent, tool)) or recorded or tool] += c[1]
                failed = sorted(tool[:100] for tool, count in named.items() if count)
                more = f", and {len(failed) - 100} more" if len(failed) > 100 else ""
                if errors:
                    listed = ", ".join(failed[:100]) + more
                    yield domain, agent, self.name_of(agent), errors, calls, errors / calls, listed


def percentile(values: list[float]) -> float:
    """The 80th percentile, interpolated."""
    ordered = sorted(values)
    place = 0.8 * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


# -- base tables ------------------------------------------------------------------------------------------------------

NAME, PROSE, LONG = m.NAME, m.PROSE, 16_383
TEXTS: dict[str, dict[str, tuple[str, int]]] = {
    "domain": {"domainnm": ("DomainNM", NAME), "description": ("Description", PROSE)},
    "agent": {"agentnm": ("AgentNM", NAME), "description": ("Description", PROSE), "domainid": ("GSI1_PK", m.ID)},
    "tool": {"toolnm": ("ToolNM", NAME), "toolspec": ("ToolSpec", LONG), "description": ("Description", PROSE),
             "domainid": ("GSI1_PK", m.ID)},
    "userinfo": {"usernm": ("UserNM", NAME), "userprofile": ("UserProfile", PROSE),
                 "lastlogindt": ("LastLoginDT", 20), "creationdt": ("CreationDT", 20)},
    "usersession": {
        "sessionnm": ("UserSessionNM", NAME), "sessionsummary": ("SessionSummary", PROSE),
        "sessionstartdt": ("SessionStartDT", 20), "dtlfileloc": ("DtlFileLoc", PROSE),
        "sessionenddt": ("SessionEndDT", 20), "sessionsuccyn": ("SessionSuccYN", 1),
        "reviewedsuccyn": ("ReviewedSuccYN", 1), "category": ("Category", NAME), "userrequest": ("UserRequest", LONG),
    },
    "session_outcome": {"source": ("OutcomeSource", 16), "agentid": ("AgentID", m.ID), "succyn": ("OutcomeYN", 1),
                        "reportedby": ("DecidedBy", NAME), "reason": ("DecisionReason", PROSE),
                        "reporteddt": ("DecidedDT", 20)},
    "usersessionprocess": {"userprompt": ("UserPrompt", LONG), "procnm": ("ProcNM", NAME), "procdt": ("ProcDT", 20),
                           "procdesc": ("ProcessDesc", PROSE)},
    "user_tool_mapping_hist": {
        "toolnm": ("ToolNM", NAME), "toolvalues": ("ToolValues", LONG), "transactdt": ("TransactDT", 20),
        "succyn": ("SuccYN", 1), "resultmsg": ("ResultMsg", LONG), "status": ("Status", 16),
        "errortype": ("ErrorType", NAME), "agentver": ("AgentVer", NAME), "modelnm": ("ModelNM", NAME),
    },
    "suggestion": {"sessionid": ("UserSessionID", m.ID), "domainid": ("DomainID", m.ID), "withheldyn": ("WithheldYN", 1),
                   "planssincedt": ("PlansSinceDT", 20)},
}  # fmt: skip
"""Text columns of the base tables: the attribute each is read from, and the characters it keeps."""

FIXED = {"lastlogindt", "creationdt", "sessionstartdt", "sessionenddt", "sessionsuccyn", "reviewedsuccyn", "procdt",
         "transactdt", "succyn", "status", "withheldyn", "planssincedt", "source", "reporteddt"}  # fmt: skip
"""Columns of a fixed form: as wide in bytes as in characters, so other texts than ASCII are left out."""

KINDS = {"Domain": "domain", "Agent": "agent", "Tool": "tool", "UserInfo": "userinfo", "UserSession": "usersession",
         "UserSessionProcess": "usersessionprocess", CALL: "user_tool_mapping_hist", "Suggestion": "suggestion",
         "Review": "session_outcome"}  # fmt: skip
KEYS = {
    "domain": ("domainid",), "agent": ("agentid",), "tool": ("agentid", "toolid"), "userinfo": ("userid",),
    "usersession": ("userid", "sessionid"), "session_outcome": ("userid", "sessionid", "kind", "outcomeid"), "usersessionprocess": ("userid", "sessionid", "processid"),
    "user_tool_mapping_hist": ("userid", "sessionid", "processid", "agentid", "toolid", "attempt"),
    "suggestion": ("userid",),
}  # fmt: skip


def is_set_aside(item: Item) -> bool:
    """Whether an item counts nowhere, since an id in its key is too long."""
    parts = [*item["PK"]["S"].split("#"), *item["SK"]["S"].split("#")]
    return any(len(part) > m.ID for part in parts)


def base_row(item: Item) -> tuple[str, dict[str, Any]] | None:
    """The base table of an item and its row there, the time of its loading aside."""
    name = KINDS.get(s(item, "EntityType") or "")
    if name is None or is_set_aside(item) or (name == "session_outcome" and s(item, "OutcomeSource") is None):
        return None
    parts = [*item["PK"]["S"].split("#"), *item["SK"]["S"].split("#")]
    row: dict[str, Any] = dict(zip(KEYS[name], parts, strict=False))
    for column, (attribute, width) in TEXTS[name].items():
        text = s(item, attribute)
        plain = column not in FIXED or text is None or re.fullmatch("[ -~]*", text)
        row[column] = text[:width] if text is not None and plain else None
    if name == "usersessionprocess" and row["procdesc"] is None:
        row["procdesc"] = s(item, "ProcDesc")
    if name == "session_outcome":
        row["score"] = n(item, "OutcomeScore")
    if name == "usersession":
        row |= {"expiresat": n(item, "ExpiresAt") or 0.0, "ttldays": whole(item, "TTLDays")}
    if name == "agent":
        written = item.get("Score", {}).get("N", s(item, "Score"))
        row["score"] = n({"Score": {"N": written}}, "Score")
    if name == "suggestion":
        row |= {"suggestionkey": item["SK"]["S"], "holdoutshare": n(item, "HoldoutShare")}
    if name == "user_tool_mapping_hist":
        row |= {"attempt": call_of(item).attempt, "durationms": n(item, "DurationMs")}
        row |= {"callno": whole(item, "CallNo"), "inputtokens": count(item, "InputTokens"),
                "outputtokens": count(item, "OutputTokens"), "cachedtokens": count(item, "CachedTokens"),
                "cachewritetokens": count(item, "CacheWriteTokens"),
                "reasoningtokens": count(item, "ReasoningTokens"),
                "requestinputtokens": count(item, "RequestInputTokens")}  # fmt: skip
    return name, row


def staging_row(item: Item, agents: Mapping[str, Item]) -> dict[str, Any] | None:
    """The staging view's row of a call, where the call counts."""
    call = call_of(item)
    if call.status not in (None, "ok", "error"):
        return None
    time = s(item, "TransactDT")
    result = s(item, "ResultMsg")
    values = s(item, "ToolValues")
    return {
        "userid": call.user, "sessionid": call.session, "processid": call.process, "agentid": call.agent,
        "toolid": call.tool, "attempt": call.attempt, "domainid": s(agents.get(call.agent, {}), "GSI1_PK"),
        "toolnm": None if (name := s(item, "ToolNM")) is None else name[:NAME], "execution_date": day_of(time),
        "execution_datetime": time_of(time), "success_flag": call.ok,
        "tool_values": None if values is None else values[:LONG],
        "result_message": None if result is None else result[:LONG],
    }  # fmt: skip


# -- all of it --------------------------------------------------------------------------------------------------------


def compared() -> dict[str, Table]:
    """Every table that is compared, by name."""
    models = (*m.WORK, m.RefreshWatermark, m.DerivedCategory, m.ErasedUser, m.ModelPriceRow)
    hidden = {m.LEASES, m.VERSION, *(model.__table__ for model in models)}
    return {table.name: table for table in m.Base.metadata.sorted_tables if table not in hidden}


def columns_of(table: Table) -> list[str]:
    """The columns that are compared: all but the time of loading, which is the feed's."""
    return [column.name for column in table.columns if column.name != "load_timestamp"]


def normal(table: Table, row: Iterable[Any]) -> tuple[Any, ...]:
    """A row as it is compared: nine digits of a fraction, as engines add in different orders; days as text."""
    kinds = [table.columns[name].type.python_type for name in columns_of(table)]
    return tuple(_normal(kind, value) for kind, value in zip(kinds, row, strict=True))


def _normal(kind: type, value: Any) -> Any:
    if value is None:
        return None
    if kind is float:
        return f"{float(value):.9g}"
    return value.isoformat() if isinstance(value, date) else kind(value) if kind in (int, bool) else value


def expected(items: Items, as_of: date, *, derived: bool = True) -> Tables:
    """Every table as the oracle reads it from all items that count; SQL alone derives no categories."""
    oracle, tables = Oracle(as_of), compared()
    rows: dict[str, list[Any]] = {name: [] for name in tables}
    calls: dict[tuple[str, str], list[Item]] = defaultdict(list)
    processes: dict[tuple[str, str], list[Item]] = defaultdict(list)
    said: dict[tuple[str, str], list[Item]] = defaultdict(list)
    items = {key: item for key, item in items.items() if not is_set_aside(item)}
    for item in items.values():
        oracle.add_item(item)
        if s(item, "EntityType") == CALL:
            user, session = item["PK"]["S"].split("#")[:2]
            calls[user, session].append(item)
        if s(item, "EntityType") == "Review":
            user, session = item["PK"]["S"].split("#")[:2]
            said[user, session].append(item)
        if s(item, "EntityType") == "UserSessionProcess":
            user, session = item["PK"]["S"].split("#")[:2]
            processes[user, session].append(item)
        if (found := base_row(item)) is not None:
            rows[found[0]].append([found[1].get(name) for name in columns_of(tables[found[0]])])
    staging = tables["agent_tool_analysis_staging"]
    for key, group in calls.items():
        session = items.get(key, {})
        category = category_of(session, processes[key], derived=derived)
        rows["agent_execution"] += [
            (*e[:-2], e.key, *e[-2:]) for e in oracle.add_session(session, group, category, said[key])
        ]
        for item in group:
            if (row := staging_row(item, oracle.agents)) is not None:
                rows[staging.name].append([row[name] for name in columns_of(staging)])
    rows |= {
        "agent_daily": list(oracle.daily()),
        "agent_tool": list(oracle.tool_counts()),
        "agent_score_summary": list(oracle.scores()),
        "user_process_patterns": list(oracle.patterns()),
        "tool_error_summary": list(oracle.tool_errors()),
    }
    return {name: in_order(table, rows[name]) for name, table in tables.items()}


def in_order(table: Table, rows: Iterable[Iterable[Any]]) -> list[tuple[Any, ...]]:
    """Rows as they are compared, doubles and all."""
    return sorted((normal(table, row) for row in rows), key=repr)


def held(warehouse: Warehouse) -> Tables:
    """Every table as the warehouse holds it."""
    return {
        name: in_order(table, warehouse.read(select(*(table.columns[column] for column in columns_of(table)))))
        for name, table in compared().items()
    }
