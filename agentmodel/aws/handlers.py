"""Entry points for AWS Lambda. Each opens the installation that ``AGENTMODEL_*`` describes, and closes it again.

Each can be called at any time and as often as wanted: a call does what is left to do, and one that finds nothing to do
changes nothing. Each ends before the function's time is over; the next call goes on. Each writes what it did as metrics
of CloudWatch, in the embedded metric format, and an outage of a store is an error of the call.

>>> from agentmodel import AgentModel
>>> import contextlib, io, os
>>> from unittest import mock
>>> with AgentModel.local() as own, contextlib.redirect_stdout(io.StringIO()):  # the metrics go to stdout
...     variables = {
...         "AGENTMODEL_ENDPOINT": own.settings.endpoint, "AGENTMODEL_VALKEY_URL": own.settings.valkey_url,
...         "AGENTMODEL_WAREHOUSE_URL": own.settings.warehouse_url, "AGENTMODEL_ACCESS_KEY_ID": "local",
...         "AGENTMODEL_SECRET_ACCESS_KEY": "local",
...     }
...     with mock.patch.dict(os.environ, variables):
...         drained, learned = drain({}, None), learn({"as_of": "2026-01-01"}, None)
...         swept, figures = sweep({"queues": ["review"]}, None), watch({}, None)
>>> drained["left"], learned["published"], swept["queues"], figures["JournalDepth"]
(0, True, ['review'], 0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

from agentmodel._log import logger
from agentmodel._monitoring.metrics import journal_figures, review_figures, score_figures
from agentmodel.aws._metrics import write_metrics
from agentmodel.cache import Drained
from agentmodel.client import AgentModel
from agentmodel.exceptions import ConfigurationError, ValidationError
from agentmodel.suggest.review import DEFAULT_QUEUE

__all__ = ["drain", "learn", "sweep", "watch"]

_PASS_SECONDS: Final = 15.0  # what a pass of a drain may take beside the deadline of its batches
_PUBLISH_SECONDS: Final = 60.0  # what a publish needs at least; with less it is left to the next call
_STOP_SECONDS: Final = 20.0  # for a hundred sessions whose expiries are being moved, and to close what is open
_log = logger(__name__)


def learn(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Refresh the warehouse and publish what it learned; call it on a schedule.

    A refresh is one transaction: a call that is cut off has changed nothing. When less than a minute is left after it,
    the publish is left to the next call, whose refresh has little to do. A publish stops when 20 seconds are left, and
    the publish of the next call goes on.

    Args:
        event: ``as_of``, an ISO 8601 date or time, is the day that recency is counted to; today (UTC) when it is not
            given. Anything else in the event is ignored, so any schedule can call this function.
        context: Lambda's context object, which knows how much time is left; without one there is no limit.

    Returns:
        The counts of `Published`, zero where the publish or its end was left to the next call; ``as_of`` as an ISO 8601
        time; ``published``, whether everything was published.

    Raises:
        ValidationError: ``as_of`` is no ISO 8601 date or time; nothing was opened.
        ConfigurationError: A setting is not accepted, or no warehouse is set.
        MissingExtraError: The warehouse's packages are not installed.
        Unavailable: A store does not answer; calling this function again does the rest.
    """
    as_of = _as_of(event.get("as_of"))
    left = _clock(context)
    with AgentModel.from_settings() as model:
        begun = monotonic()
        model.refresh(as_of=as_of)
        # the refresh says which packages are missing
        from agentmodel.suggest.publish import OutOfTime, Published, scores_seen

        figures = {"RefreshSeconds": round(monotonic() - begun, 3)}

        def in_time(*_: object, needed: float = _STOP_SECONDS) -> None:
            if left() < needed:
                raise OutOfTime

        published, done = Published(), False
        try:
            in_time(needed=_PUBLISH_SECONDS)
            begun, before = monotonic(), scores_seen(model.table)
            published, done = model.publish(as_of=as_of, progress=in_time), True
            figures["PublishSeconds"] = round(monotonic() - begun, 3)
            figures |= score_figures(before)  # as long a call waited that came just after them
        except OutOfTime:
            _log.warning("learn.not_published: only %.0f seconds are left, so the next call goes on", left())
        write_metrics(model.table.name, figures, context)
    return {"as_of": as_of.isoformat(), "published": done, **asdict(published)}


def drain(event: Mapping[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001  # Lambda passes both
    """Write the journal's entries into the table until it is empty or the time is over; call it on a schedule.

    What is not written in time stays in the journal. A call that is cut off loses nothing: the next one, or another
    drainer, writes the entries that it had read.

    Args:
        event: Ignored, so any schedule can call this function.
        context: Lambda's context object, which knows how much time is left; without one there is no limit.

    Returns:
        The counts of `Drained`.

    Raises:
        ConfigurationError: A setting is not accepted, or no Valkey is set.
        TableUnavailable: The table takes no writes; what is not in it stays in the journal.
        CacheUnavailable: Valkey does not answer.
    """
    left = _clock(context)
    with AgentModel.from_settings() as model:
        total, needed = Drained(), model.settings.batch_deadline + _PASS_SECONDS
        drainer = model.drainer
        while True:
            done = drainer.drain(until_empty=False)
            total = replace(total.plus(done), left=done.left)
            if not done.done:
                break
            if left() < needed:
                _log.warning("drain.stopped: %.0f s are left, the next call goes on", left())
                break
        figures = {"Drained": total.done, "CallToTableSeconds": round(drainer.longest_wait(), 3)}
        write_metrics(model.table.name, figures, context)
    return asdict(total)


def sweep(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Expire or escalate the overdue questions of queues, and finish interrupted verdicts; call it on a schedule.

    Args:
        event: ``queues``, a list of names, says which queues; ``review`` alone when it is not given.
        context: Lambda's context object, which knows how much time is left; without one there is no limit.

    Returns:
        ``expired``, ``escalated`` and ``applied``: how many of each; ``queues``: the queues that were swept, which are
        fewer than asked for when the time was over.

    Raises:
        ValidationError: ``queues`` is no list of names; nothing was opened.
        ConfigurationError: A setting is not accepted.
        TableUnavailable: The table does not answer; calling this function again does the rest.
    """
    queues = _queues(event.get("queues"))
    left = _clock(context)
    swept: list[str] = []
    counts: dict[str, int] = {"expired": 0, "escalated": 0, "applied": 0}
    with AgentModel.from_settings() as model:
        for queue in queues:
            if left() < _PASS_SECONDS:
                _log.warning("sweep.stopped: %.0f s are left, the next call goes on", left())
                break
            for name, count in asdict(model.reviews.sweep(queue)).items():
                counts[name] += count
            swept.append(queue)
        figures = {**review_figures(model, swept), "ReviewsExpired": counts["expired"]}
        write_metrics(model.table.name, figures, context)
    return {**counts, "queues": swept}


def watch(event: Mapping[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001  # Lambda passes both
    """Write the journal's figures as metrics; call it once a minute, as alarms need figures also without a drainer.

    Args:
        event: Ignored, so any schedule can call this function.
        context: Lambda's context object.

    Returns:
        The figures by the names of the metrics.

    Raises:
        ConfigurationError: A setting is not accepted, or no Valkey is set.
    """
    with AgentModel.from_settings() as model:
        if model.journal is None:
            raise ConfigurationError("there is no journal to watch: set AGENTMODEL_VALKEY_URL")
        figures = journal_figures(model)
        write_metrics(model.table.name, figures, context)
    return figures


def _clock(context: object) -> Callable[[], float]:
    """Return a function that tells how many seconds are left to this call."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return (lambda: float("inf")) if remaining is None else (lambda: float(remaining()) / 1000)


def _queues(given: object) -> Sequence[str]:
    if given is None:
        return (DEFAULT_QUEUE,)
    if not isinstance(given, list) or not given or not all(isinstance(name, str) and name for name in given):
        raise ValidationError("queues", given, 'must be a list of names, such as ["review"]')
    return given


def _as_of(text: object) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValidationError("as_of", text, "must be an ISO 8601 date or time, such as 2025-06-14") from None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when
