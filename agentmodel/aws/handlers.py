"""Entry points for AWS Lambda. Each opens the installation that ``AGENTMODEL_*`` describes, and closes it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from agentmodel.client import AgentModel
from agentmodel.exceptions import ValidationError

__all__ = ["learn"]


def learn(event: Mapping[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001  # Lambda passes both
    """Refresh the warehouse and publish what it learned; call it on a schedule.

    Args:
        event: ``as_of``, an ISO 8601 date or time, is the day that recency is counted to; today (UTC) when it is not
            given. Anything else in the event is ignored, so any schedule can call this function.
        context: Lambda's context object; not used.

    Returns:
        The counts of `Published`, and ``as_of`` as an ISO 8601 time.

    Raises:
        ValidationError: ``as_of`` is no ISO 8601 date or time; nothing was opened.
        ConfigurationError: A setting is not accepted, or no warehouse is set.
        MissingExtraError: The warehouse's packages are not installed.
        Unavailable: A store does not answer; calling this function again does the rest.
    """
    as_of = _as_of(event.get("as_of"))
    with AgentModel.from_settings() as model:
        model.refresh(as_of=as_of)
        published = model.publish(as_of=as_of)
    return {"as_of": as_of.isoformat(), **asdict(published)}


def _as_of(text: object) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValidationError("as_of", text, "must be an ISO 8601 date or time, such as 2025-06-14") from None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when
