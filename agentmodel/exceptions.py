"""Every error agentmodel raises, in one tree.

    AgentModelError
    ├── ValidationError            bad input: names the field, the value and the rule (also a ValueError)
    │   ├── KeyFormatError         text that is not a key of the table
    │   └── CursorError            a page cursor that was altered or belongs to another query
    ├── ConfigurationError         a setting that is wrong
    │   └── MissingExtraError      an optional dependency is not installed (also an ImportError)
    ├── NotFound                   what was asked for by id is not there (also a LookupError)
    ├── Conflict                   a conditional write was refused
    │   ├── AlreadyExists          put-if-absent found an item
    │   └── StaleVersion           a newer version is stored
    ├── CorruptItem                a stored item that its class cannot read
    ├── Rejected                   a store refuses a request for good: trying again changes nothing
    ├── NotCalled                  a guarded tool was not called; the message is fit for a model
    │   ├── ToolBlocked            it fails at present: what works instead is in ``instead``
    │   ├── CallRejected           a person, or time, decided against it
    │   └── ReviewPending          a person has to decide first: call again once that is done
    └── Unavailable                a store does not answer
        ├── TableUnavailable       DynamoDB
        │   ├── TableNotFound      it answers, but the table does not exist
        │   └── BatchIncomplete    items are left after the deadline; they are in ``left``
        ├── CacheUnavailable       Valkey
        │   └── JournalFull        the journal is at its bound and the table does not take writes
        ├── WarehouseUnavailable   Redshift or DuckDB
        └── HistoryUnavailable     both stores are down: nothing was kept

One line tells what is wrong and what would mend it; the parts are attributes, so programs need not read the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "AgentModelError",
    "AlreadyExists",
    "BatchIncomplete",
    "CacheUnavailable",
    "CallRejected",
    "ConfigurationError",
    "Conflict",
    "CorruptItem",
    "CursorError",
    "HistoryUnavailable",
    "JournalFull",
    "KeyFormatError",
    "MissingExtraError",
    "NotCalled",
    "NotFound",
    "Rejected",
    "ReviewPending",
    "StaleVersion",
    "TableNotFound",
    "TableUnavailable",
    "ToolBlocked",
    "Unavailable",
    "ValidationError",
    "WarehouseUnavailable",
]

_SHOWN = 120  # characters of a bad value that a message repeats


def shown(value: object) -> str:
    """A value as an error message shows it: its repr, shortened."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


class AgentModelError(Exception):
    """Base of every error agentmodel raises."""


class ValidationError(AgentModelError, ValueError):
    """Bad input, refused before anything is sent.

    Attributes:
        field: Name of the argument or attribute.
        value: What was given.
        rule: What would be accepted.
    """

    def __init__(self, field: str, value: Any, rule: str) -> None:
        self.field = field
        self.value = value
        self.rule = rule
        super().__init__(f"{field}: {shown(value)} is refused: {rule}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.value, self.rule)


class KeyFormatError(ValidationError):
    """Text that is not a key of the table; ``field`` names the key format."""


class CursorError(ValidationError):
    """A page cursor that was altered, or that belongs to another query."""

    def __init__(
        self, field: str = "cursor", value: Any = None, rule: str = "pass the cursor of a page of this query"
    ) -> None:
        super().__init__(field, value, rule)


class ConfigurationError(AgentModelError):
    """A setting is wrong; the message names it and what would be right."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed; the message holds the pip line."""

    def __init__(self, extra: str, need: str, module: str | None = None) -> None:
        self.extra = extra
        self.need = need
        ImportError.__init__(
            self, f"{need} needs an optional dependency: pip install 'agentmodel[{extra}]'", name=module
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.extra, self.need, self.name)


class NotFound(AgentModelError, LookupError):
    """What was asked for by id is not there."""

    def __init__(self, kind: str, key: str) -> None:
        self.kind = kind
        self.key = key
        super().__init__(f"{kind} {key} does not exist")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, self.key)


class Conflict(AgentModelError):
    """A conditional write was refused; nothing was changed."""


class AlreadyExists(Conflict):
    """Put-if-absent found an item under the key."""


class StaleVersion(Conflict):
    """A newer version is stored; read it again before writing."""


class CorruptItem(AgentModelError):
    """A stored item that its class cannot read; the message names its key and attribute."""

    def __init__(self, key: str, attribute: str, problem: str) -> None:
        self.key = key
        self.attribute = attribute
        self.problem = problem
        super().__init__(f"item {key}: attribute {attribute} {problem}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.attribute, self.problem)


class Rejected(AgentModelError):
    """A store refuses a request for good; trying it again changes nothing."""


class NotCalled(AgentModelError):
    """A guarded tool was not called; the message is fit for a model to read."""


class ToolBlocked(NotCalled):
    """The tool fails at present.

    Attributes:
        instead: What works in its place, best first, as `agentmodel.suggest.instead.Instead`.
    """

    def __init__(self, message: str, instead: Sequence[Any] = ()) -> None:
        self.instead = tuple(instead)
        super().__init__(message)


class CallRejected(NotCalled):
    """A person, or the deadline of the question, decided against the call.

    Attributes:
        by: Who decided; empty where time did.
        reason: Why.
    """

    def __init__(self, message: str, by: str = "", reason: str | None = None) -> None:
        self.by = by
        self.reason = reason
        super().__init__(message)


class ReviewPending(NotCalled):
    """A person has to decide first: call again with the same arguments in the same session once that is done.

    Attributes:
        review: The reference of the question, as `Reviews.reference` gives it.
    """

    def __init__(self, message: str, review: str = "") -> None:
        self.review = review
        super().__init__(message)


class Unavailable(AgentModelError):
    """A store does not answer."""


class TableUnavailable(Unavailable):
    """DynamoDB does not answer, or refuses the call."""


class TableNotFound(TableUnavailable):
    """DynamoDB answers, but the table does not exist."""

    def __init__(self, table: str, where: str) -> None:
        self.table = table
        self.where = where
        super().__init__(
            f"table {table} does not exist at {where}: "
            "run `agentmodel table create`, or name another by AGENTMODEL_TABLE"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.table, self.where)


class BatchIncomplete(TableUnavailable):
    """The deadline of a batch passed; the items that were not written (or keys not read) are in ``left``."""

    def __init__(self, left: list[Any], seconds: float) -> None:
        self.left = left
        self.seconds = seconds
        super().__init__(
            f"{len(left)} items were left unprocessed after {seconds:g} s; they are in `left`, write them again"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.left, self.seconds)


class CacheUnavailable(Unavailable):
    """Valkey does not answer."""


class JournalFull(CacheUnavailable):
    """The journal is at its bound: drain it, or raise AGENTMODEL_JOURNAL_LIMIT.

    Attributes:
        answers: What became of each entry of the call, in order; None for those that found no room.
    """

    def __init__(self, message: str, answers: Sequence[Any] = ()) -> None:
        self.answers = list(answers)
        super().__init__(message)


class WarehouseUnavailable(Unavailable):
    """The warehouse does not answer, or is held by another process."""


class HistoryUnavailable(Unavailable):
    """Neither Valkey nor DynamoDB took the write: nothing was kept."""
