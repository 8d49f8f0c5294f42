"""The figures that the handlers write to CloudWatch, and the alarms on them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ALARMS", "DIMENSION", "NAMESPACE", "UNITS", "Alarm", "write_metrics"]

NAMESPACE: Final = "agentmodel"
DIMENSION: Final = "Table"  # its value is the name of the installation's table

UNITS: Final[dict[str, str]] = {
    "JournalDepth": "Count",
    "JournalOldestSeconds": "Seconds",
    "JournalPending": "Count",
    "JournalFullShards": "Count",
    "DeadLetters": "Count",
    "ValkeyDown": "Count",
    "Drained": "Count",
    "RefreshSeconds": "Seconds",
    "PublishSeconds": "Seconds",
    "ReviewsOpen": "Count",
    "ReviewsOldestSeconds": "Seconds",
    "ReviewsExpired": "Count",
}
"""Every metric with its unit."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm of the template.

    Attributes:
        name: Its name in the template.
        metric: The metric, one of `UNITS` or one of AWS's own.
        above: It alarms when the metric is above this.
        minutes: For as many minutes in a row.
        meaning: What has happened, and what to look at first.
        silent: Whether missing figures alarm too.
    """

    name: str
    metric: str
    above: float
    minutes: int
    meaning: str
    silent: bool = False


ALARMS: Final = (
    Alarm("JournalOld", "JournalOldestSeconds", 60, 3, "Entries wait: see that a drainer runs and whether the table "
          "throttles. Missing figures alarm too: then the function watch does not run.", silent=True),
    Alarm("JournalFull", "JournalFullShards", 0, 1, "A shard is full, and records go straight to the table: drain."),
    Alarm("JournalDead", "DeadLetters", 0, 5, "Records cannot be written: run agentmodel dead list."),
    Alarm("ValkeyAway", "ValkeyDown", 0, 3, "Valkey does not answer the function watch."),
    Alarm("ReviewsWait", "ReviewsOldestSeconds", 86_400, 15, "A question to a person is open for a day."),
)  # fmt: skip
"""The alarms on metrics of the handlers."""


def write_metrics(table: str, figures: Mapping[str, float], context: object) -> None:
    """Write figures to stdout in CloudWatch's embedded metric format, one line for the whole call.

    The line also has the request id and the trace id of the call, so that a figure leads to its log.

    Args:
        table: The value of the metrics' dimension.
        figures: Metrics of `UNITS`.
        context: Lambda's context object; without one the line has no request id.
    """
    metrics = [{"Name": name, "Unit": UNITS[name]} for name in figures]
    told: dict[str, Any] = {
        "_aws": {
            "Timestamp": int(time.time() * 1000),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics}],
        },
        DIMENSION: table,
        **figures,
    }
    identified = {
        "request_id": getattr(context, "aws_request_id", None),
        "trace_id": os.environ.get("_X_AMZN_TRACE_ID"),
    }
    told |= {name: value for name, value in identified.items() if value}
    sys.stdout.write(json.dumps(told) + "\n")
