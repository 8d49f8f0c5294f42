"""Savings: repeated requests of read-only tools answered from what is known, and what that saved, as measured.

An answer is known for exactly the same arguments (as JSON), the same versions of agent and tool, and the same user.
Only tools that are marked read-only (``ReadOnlyYN``) are answered so. When a tool's health opens, all its answers are
dropped. Answers live in Valkey alone and for a while; without Valkey every call is made.

The ledger compares recorded runs: those with answers from here, and those without, of the same category.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentmodel.access.recorder import ProcessRecorder
from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Agent, Tool
from agentmodel.exceptions import CacheUnavailable, ValidationError
from agentmodel.suggest.advise import Place
from agentmodel.suggest.answers import canonical
from agentmodel.suggest.detector import Health

if TYPE_CHECKING:
    from agentmodel.cache.client import Valkey
    from agentmodel.redshift.pipeline import Warehouse

__all__ = ["KnownAnswers", "Lookup", "SavingsRow", "Scope", "savings"]

_log = logging.getLogger(__name__)

Scope = Literal["user", "everybody"]
"""Whom an answer holds for: the user it was given to, or all of them (where the tool knows no user)."""

_Z90 = 1.6448536269514722
_BYTES = 256 * 1024  # the largest answer that is kept
_EPOCH_SECONDS = 90 * 86_400  # longer than any answer is kept


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was found for a call, and where its answer goes once it is known.

    Attributes:
        hit: Whether the answer is known.
        result: The answer.
        name: Where it is kept; None where this tool's answers are not.
        epoch: Of the tool's answers when it was looked up: what was asked before a failure is not kept after it.
    """

    hit: bool
    result: Any = None
    name: str | None = None
    epoch: str = "0"


class KnownAnswers:
    """Answers of read-only tools.

    Args:
        repository: Knows the tools.
        valkey: Keeps the answers; None keeps none.
        seconds: How long they are kept.
        settle: Called before an answer is looked up: the health of tools is known as far as it was recorded.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        valkey: Valkey | None,
        seconds: int = 3600,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        if not 0 < seconds <= _EPOCH_SECONDS:
            raise ValidationError("seconds", seconds, f"a number from 1 to {_EPOCH_SECONDS}")
        self._settle = settle
        self._repository = repository
        self._valkey = valkey
        self._seconds = seconds

    def call(
        self,
        process: ProcessRecorder,
        agent_id: str,
        tool_id: str,
        make: Callable[[], Any],
        *,
        arguments: Any = None,
        scope: Scope = "user",
    ) -> Any:
        """Answer a call from what is known, else make it; both are recorded.

        An answer that is known is recorded with status ``cache_hit``, so the ledger sees it and no score counts it.

        Args:
            process: The step.
            agent_id: The agent that calls.
            tool_id: The tool.
            make: Calls it.
            arguments: What it is called with; JSON.
            scope: Whom the answer holds for.

        Raises:
            ValidationError: The arguments are not JSON.
        """
        user_id = process.entity.user_id
        found = self.look(agent_id, tool_id, arguments, user_id=user_id, scope=scope)
        with process.call(agent_id, tool_id, values=arguments) as call:
            if found.hit:
                call.mark("cache_hit")
                call.result = found.result
            else:
                call.result = make()
        if not found.hit:
            self.keep(found, call.result)
        return call.result

    def look(
        self,
        agent_id: str,
        tool_id: str,
        arguments: Any,
        *,
        user_id: str,
        scope: Scope = "user",
        tool: Tool | None = None,
        agent: Agent | None = None,
    ) -> Lookup:
        """What is known for a call; the items of tool and agent are not read again where they are at hand."""
        valkey = self._valkey
        tool = self._repository.tool(agent_id, tool_id) if tool is None else tool
        text = canonical(arguments)
        if valkey is None or tool is None or not tool.read_only:
            return Lookup(hit=False)
        self._settle()
        agent = self._repository.agent(agent_id) if agent is None else agent
        spec = canonical([tool.spec, tool.description, tool.name])
        versions = [None if agent is None else agent.revision, tool.revision, spec]
        whose = user_id if scope == "user" else None
        digest = hashlib.sha256(canonical([agent_id, tool_id, versions, whose, text]).encode()).hexdigest()
        name = f"{self._prefix(valkey, (agent_id, tool_id))}:{digest}"
        try:
            epoch, held = valkey.call([("GET", self._prefix(valkey, (agent_id, tool_id))), ("GET", name)])
        except CacheUnavailable:
            return Lookup(hit=False)
        now = "0" if epoch is None else epoch.decode()
        if held is not None:
            kept = json.loads(held)
            if kept["epoch"] == now:
                return Lookup(hit=True, result=kept["result"], name=name, epoch=now)
        return Lookup(hit=False, name=name, epoch=now)

    def keep(self, looked: Lookup, result: Any) -> bool:
        """Keep the answer of a call that was looked up; whether it is kept."""
        if looked.name is None or self._valkey is None:
            return False
        try:
            text = json.dumps({"epoch": looked.epoch, "result": result}, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError):
            return False
        if len(text.encode()) > _BYTES or json.loads(text)["result"] != result:
            return False  # it could not be given back as it is
        try:
            self._valkey.one(("SET", looked.name, text, "EX", self._seconds))
        except CacheUnavailable:
            return False
        return True

    def forget(self, agent_id: str, tool_id: str) -> None:
        """Drop all answers of a tool."""
        if self._valkey is None:
            return
        name = self._prefix(self._valkey, (agent_id, tool_id))
        try:
            self._valkey.call([("INCR", name), ("EXPIRE", name, _EPOCH_SECONDS)])
        except CacheUnavailable as error:
            _log.warning(
                "known answers of %s %s could not be dropped, they end by themselves: %s", agent_id, tool_id, error
            )

    def health_changed(self, place: Place, health: Health) -> None:
        """Drop a tool's answers when it begins to fail; listens to `HealthBook.on_change`."""
        if health.opened:
            self.forget(*place)

    @staticmethod
    def _prefix(valkey: Valkey, place: Place) -> str:
        return f"{valkey.settings.valkey_prefix}:answers:{{{place[0]}:{place[1]}}}"


# The ledger


@dataclass(frozen=True, slots=True)
class SavingsRow:
    """What runs of a category took with known answers, and without.

    Attributes:
        category: Kind of request; empty where it has none.
        unit: ``calls`` that were made, or ``tokens`` that were measured for them.
        hits: Calls that were answered from what is known.
        runs_with: Runs that had such an answer.
        runs_without: Runs that had none.
        mean_with: Mean of the unit in the former; None without a run.
        mean_without: Mean in the latter.
        saved: Their difference for one run; None where there are not two runs of each kind.
        low: Lower bound of its 90 % interval.
        high: Upper bound.
    """

    category: str
    unit: Literal["calls", "tokens"]
    hits: int
    runs_with: int
    runs_without: int
    mean_with: float | None
    mean_without: float | None
    saved: float | None
    low: float | None
    high: float | None


def savings(warehouse: Warehouse) -> list[SavingsRow]:
    """Measure, on the recorded runs of a refreshed warehouse, what known answers saved in each category.

    Calls are those that were made, which scores count too; tokens are those of all calls, since the model asked for
    each.
    Runs are not assigned at random to the two kinds, so the difference is what was seen, not what would be.
    """
    from sqlalchemy import ColumnElement, and_, case, func, literal_column, or_

    from agentmodel.redshift import models as m
    from agentmodel.redshift.dialects import rows_of

    h, s = m.UserToolMappingHist, m.UserSession
    one: ColumnElement[int] = literal_column("1")
    none: ColumnElement[int] = literal_column("0")
    known = h.status == literal_column("'cache_hit'")
    made = or_(h.status.is_(None), h.status.in_([literal_column(f"'{status}'") for status in ("", "ok", "error")]))
    rows = (
        rows_of(
            func.coalesce(s.category, literal_column("''")).label("category"),
            h.user_id,
            h.session_id,
            func.sum(case((known, one), else_=none)),
            func.sum(case((made, one), else_=none)),
            func.sum(func.coalesce(h.input_tokens, none) + func.coalesce(h.output_tokens, none)),
            func.count(h.input_tokens) + func.count(h.output_tokens),
        )
        .outerjoin(s, and_(s.user_id == h.user_id, s.session_id == h.session_id))
        .group_by(s.category, h.user_id, h.session_id)
        .order_by(s.category, h.user_id, h.session_id)
    )
    runs: dict[str, list[tuple[int, int, int | None]]] = defaultdict(list)
    for category, _, _, hits, calls, tokens, counted in warehouse.read(rows):
        runs[category].append((int(hits), int(calls), int(tokens) if counted else None))
    found = []
    for category, own in sorted(runs.items()):
        if any(hits for hits, _, _ in own):
            found.append(_row(category, "calls", [(hits, calls) for hits, calls, _ in own]))
            measured = [(hits, tokens) for hits, _, tokens in own if tokens is not None]
            if measured:
                found.append(_row(category, "tokens", measured))
    return found


def _row(category: str, unit: Literal["calls", "tokens"], runs: Sequence[tuple[int, int]]) -> SavingsRow:
    with_ = [amount for hits, amount in runs if hits]
    without = [amount for hits, amount in runs if not hits]
    saved = low = high = None
    if len(with_) > 1 and len(without) > 1:
        saved = _mean(without) - _mean(with_)
        spread = _Z90 * math.sqrt(_variance(without) / len(without) + _variance(with_) / len(with_))
        low, high = saved - spread, saved + spread
    return SavingsRow(
        category=category,
        unit=unit,
        hits=sum(hits for hits, _ in runs),
        runs_with=len(with_),
        runs_without=len(without),
        mean_with=_mean(with_) if with_ else None,
        mean_without=_mean(without) if without else None,
        saved=saved,
        low=low,
        high=high,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)
