"""The metrics of an installation: one list for CloudWatch and Prometheus, with alarms, and how they are read.

The handlers for AWS Lambda write those of their work to CloudWatch. The long-running parts (`agentmodel drain
--keep-on`, the console, the MCP server over HTTP) show theirs at ``/metrics``. No metric has data of a user.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from agentmodel._log import logger
from agentmodel._runtime.background import dropped_by_worker
from agentmodel.client import AgentModel
from agentmodel.exceptions import AgentModelError, CacheUnavailable
from agentmodel.suggest.review import DEFAULT_QUEUE

__all__ = ["METRICS", "Alarm", "Figure", "Metric", "journal_figures", "page_figures", "review_figures"]

_PAGES: Final = 10  # of 100 open questions that are looked at
_HOUR, _DAY = 3600, 86_400
_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Alarm:
    """When a metric needs somebody.

    Attributes:
        name: Its name in the template for AWS.
        above: It alarms when the metric is above this.
        minutes: For as many minutes in a row.
        meaning: What has happened, and what to look at first.
        silent: Whether missing figures alarm too.
    """

    name: str
    above: float
    minutes: int
    meaning: str
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: Its name in CloudWatch.
        unit: Its unit.
        meaning: What it says, with its unit.
        handler: The handler for Lambda that writes it; '' for none.
        parts: The long-running parts whose page has it.
        total: Whether it adds up: since the start of the process on the page, in this call in CloudWatch.
        labels: What tells its values apart, on the page only.
        alarm: The alarm on it.
    """

    name: str
    unit: Literal["Count", "Seconds"]
    meaning: str
    handler: str = ""
    parts: tuple[str, ...] = ()
    total: bool = False
    labels: tuple[str, ...] = ()
    alarm: Alarm | None = None

    @property
    def page_name(self) -> str:
        """Return its name on the page, as Prometheus writes names.

        >>> Metric("JournalDepth", "Count", "…").page_name, Metric("Drained", "Count", "…", total=True).page_name
        ('agentmodel_journal_depth', 'agentmodel_drained_total')
        """
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()
        return f"agentmodel_{words}{'_total' if self.total else ''}"


_ALL: Final = ("drain", "console", "mcp")
_REVIEWERS: Final = ("console", "mcp")
_METRICS: Final = (
    Metric("JournalDepth", "Count", "entries that are not in the table yet", "watch", _ALL),
    Metric("JournalOldestSeconds", "Seconds", "age of the oldest one", "watch", _ALL, alarm=Alarm(
        "JournalOld", 60, 3, "Entries wait: see that a drainer runs and whether the table throttles. Missing figures "
        "alarm too: then the function watch does not run.", silent=True)),
    Metric("JournalPending", "Count", "entries that a drainer has read and not acknowledged", "watch", _ALL),
    Metric("JournalFullShards", "Count", "shards whose journal is full", "watch", _ALL, alarm=Alarm(
        "JournalFull", 0, 1, "A shard is full, and records go straight to the table: drain.")),
    Metric("DeadLetters", "Count", "records that cannot be written", "watch", _ALL, alarm=Alarm(
        "JournalDead", 0, 5, "Records cannot be written: run agentmodel dead list.")),
    Metric("ValkeyDown", "Count", "1 when Valkey does not answer", "watch", _ALL, alarm=Alarm(
        "ValkeyAway", 0, 3, "Valkey does not answer the function watch.")),
    Metric("TableDown", "Count", "1 when DynamoDB does not answer this process", "", _ALL),
    Metric("Drained", "Count", "entries that were drained", "drain", ("drain",), total=True),
    Metric("CallToTableSeconds", "Seconds", "the longest that an entry waited in the journal until it was in the "
           "table: of this call, or of this minute and the one before", "drain", ("drain",)),
    Metric("CallToScoreSeconds", "Seconds", "calls that are in the table for longer are counted in the published "
           "scores", "learn", _REVIEWERS),
    Metric("RefreshSeconds", "Seconds", "duration of the refresh", "learn"),
    Metric("PublishSeconds", "Seconds", "duration of the publish; missing where it was left to the next call", "learn"),
    Metric("ReviewsOpen", "Count", "open questions of the swept queues, 1,000 of each at most; on a page those of the "
           "queue `review`", "sweep", _REVIEWERS),
    Metric("ReviewsOverHour", "Count", "those of them that are open for more than an hour", "sweep", _REVIEWERS),
    Metric("ReviewsOverDay", "Count", "for more than a day", "sweep", _REVIEWERS),
    Metric("ReviewsOldestSeconds", "Seconds", "age of the oldest one", "sweep", _REVIEWERS, alarm=Alarm(
        "ReviewsWait", _DAY, 15, "A question to a person is open for a day.")),
    Metric("ReviewsExpired", "Count", "questions that expired in this call", "sweep"),
    Metric("Reads", "Count", "reads by access pattern, and whether Valkey had them: `hits` (among them `stale` and "
           "`negative`), `misses`, `unavailable`", "", _REVIEWERS, total=True, labels=("pattern", "result")),
    Metric("Dropped", "Count", "items that work in the background could not take, by worker", "", _ALL, total=True,
           labels=("worker",)),
)  # fmt: skip
METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _METRICS}
"""Every metric by its name."""

Figure: TypeAlias = tuple[str, tuple[str, ...], float]
"""Name of a metric, values of its labels, and its value."""


def journal_figures(model: AgentModel) -> dict[str, float]:
    """Return the journal's figures; that Valkey does not answer is a figure. Empty where there is no Valkey."""
    if model.journal is None:
        return {}
    try:
        journal = model.journal.stats()
    except CacheUnavailable as error:
        _log.warning("watch.valkey_down: the figures of the journal cannot be read: %s", error)
        return {"ValkeyDown": 1}
    return {
        "JournalDepth": journal.depth,
        "JournalOldestSeconds": round(journal.oldest_seconds, 3),
        "JournalPending": journal.pending,
        "JournalFullShards": len(journal.full_shards),
        "DeadLetters": journal.dead,
        "ValkeyDown": 0,
    }


def review_figures(model: AgentModel, queues: Sequence[str]) -> dict[str, float]:
    """Return the figures of the open questions of queues.

    Raises:
        TableUnavailable: The table does not answer.
    """
    now = datetime.now(UTC)
    ages = [(now - asked).total_seconds() for queue in queues for asked in _asked(model, queue)]
    return {
        "ReviewsOpen": len(ages),
        "ReviewsOverHour": sum(age > _HOUR for age in ages),
        "ReviewsOverDay": sum(age > _DAY for age in ages),
        "ReviewsOldestSeconds": round(max(ages, default=0.0), 3),
    }


def _asked(model: AgentModel, queue: str) -> Iterator[datetime]:
    """Yield when the open questions of a queue were asked, of a thousand at most."""
    cursor = None
    for _ in range(_PAGES):
        page = model.reviews.inbox(queue, cursor=cursor)
        yield from (review.asked_at for review in page.items if review.asked_at is not None)
        cursor = page.cursor
        if cursor is None:
            return


def page_figures(model: AgentModel, part: str) -> list[Figure]:
    """Return what the page of a part shows; figures whose store does not answer now are left out."""
    named: dict[str, float] = {**journal_figures(model), "TableDown": float(model.table.breaker.state == "open")}
    found: list[Figure] = [("Dropped", (worker,), count) for worker, count in sorted(dropped_by_worker().items())]
    if part == "drain":
        drainer = model.drainer
        named |= {"Drained": drainer.total.done, "CallToTableSeconds": round(drainer.longest_wait(), 3)}
    else:
        from agentmodel.suggest.publish import scores_seen

        readings: tuple[Callable[[], dict[str, float]], ...] = (
            lambda: review_figures(model, [DEFAULT_QUEUE]),
            lambda: score_figures(scores_seen(model.table)),
        )
        for reading in readings:
            try:
                named |= reading()
            except AgentModelError as error:
                _log.warning("metrics.not_read: a page of metrics is without some of them: %s", error)
        found += _reads(model)
    return [(name, (), value) for name, value in named.items()] + found


def score_figures(seen: datetime | None) -> dict[str, float]:
    """Return how old a call may be that published scores do not count, where they had seen everything until a time."""
    return {} if seen is None else {"CallToScoreSeconds": round(max(0.0, time.time() - seen.timestamp()), 3)}


def _reads(model: AgentModel) -> Iterator[Figure]:
    stats = model.stats()
    if stats is None:
        return
    counts = Counter({
        (pattern, each.name): getattr(read, each.name)
        for pattern, read in stats.patterns.items()
        for each in fields(read)
    })  # fmt: skip
    yield from (("Reads", labels, count) for labels, count in sorted(counts.items()))
