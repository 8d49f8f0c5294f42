"""Receipts say where a write of history was stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from agentmodel.config import Durability
from agentmodel.dynamo.models import Review, ToolExecution, UserSession, UserSessionProcess

__all__ = ["HistoryEntity", "Receipt"]

HistoryEntity = UserSession | UserSessionProcess | ToolExecution | Review
"""The entities that `Recorder` writes; of reviews, those that are outcomes from outside."""


T_co = TypeVar("T_co", bound=HistoryEntity, covariant=True)


@dataclass(frozen=True, slots=True)
class Receipt(Generic[T_co]):
    """Says where a write was stored.

    Attributes:
        level: ``dynamodb``, or a level of the journal: ``valkey-durable``, ``valkey-replicated`` or ``valkey``.
        entity: The entity as written, with the number that it got.
        repeated: Whether the same call had been recorded before; then nothing was written again.

    >>> from agentmodel import UserSession
    >>> entity = UserSession(user_id="USR212", session_id="SESS1", name="a café")
    >>> receipt = model.recorder.record(entity)
    >>> receipt.level, receipt.repeated, receipt.entity.name
    ('valkey', False, 'a café')
    """

    level: Durability
    entity: T_co
    repeated: bool = False
