"""Write the figures of the handlers to CloudWatch."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from agentmodel._monitoring.metrics import METRICS

__all__ = ["DIMENSION", "NAMESPACE", "write_metrics"]

NAMESPACE: Final = "agentmodel"
DIMENSION: Final = "Table"  # its value is the name of the installation's table


def write_metrics(table: str, figures: Mapping[str, float], context: object) -> None:
    """Write figures to stdout in CloudWatch's embedded metric format, one line for the whole call.

    The line also has the request id and the trace id of the call, so that a figure leads to its log.

    Args:
        table: The value of the metrics' dimension.
        figures: Figures by the names of `METRICS`.
        context: Lambda's context object; without one the line has no request id.
    """
    metrics = [{"Name": name, "Unit": METRICS[name].unit} for name in figures]
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
