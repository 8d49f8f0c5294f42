"""Every error agentmodel raises, in one tree.

    AgentModelError
    ├── ValidationError            bad input: names the field, the value and the rule (also a ValueError)
    │   ├── KeyFormatError         text that is not a key of the table
    │   └── CursorError            a page cursor that was altered or belongs to another query
    ├── ConfigurationError         a setting that is wrong
    │   ├── MissingExtraError      an optional dependency is not installed (also an ImportError)
    │   └── NewerData              a newer version of agentmodel has changed the table or the warehouse
    ├── NotFound                   nothing has the id that was given (also a LookupError)
    ├── NotAllowed                 a caller lacks the role that an action needs
    ├── Conflict                   a conditional write or a decision came too late
    │   ├── AlreadyExists          put-if-absent found an item
    │   ├── StaleVersion           a newer version is stored
    │   └── LeaseHeld              another process or thread does the same work now
    ├── CorruptItem                a stored item that its class cannot read
    ├── Rejected                   a store rejects a request for good: trying again changes nothing
    ├── NotCalled                  a guarded tool was not called; the message is fit for a model
    │   ├── ToolBlocked            the tool is failing: ``fallbacks`` names what works
    │   ├── CallRejected           a person, or the deadline, decided against the call
    │   └── ReviewPending          a person has to decide first: call again once that is done
    └── Unavailable                a store does not answer
        ├── TableUnavailable       DynamoDB
        │   ├── CircuitOpen        DynamoDB did not answer a moment ago, and was not asked again
        │   ├── TableNotFound      DynamoDB answers, but the table does not exist
        │   └── BatchIncomplete    items are left after the deadline; they are in ``left``
        ├── CacheUnavailable       Valkey
        │   └── JournalFull        the journal is full and the table does not take writes
        ├── WarehouseUnavailable   Redshift or DuckDB
        └── HistoryUnavailable     both stores are down: nothing was kept

The message of an error is one line that says what is wrong and what to do. Its parts are attributes, so programs need
not read the line. Its ``code`` never changes and is never given to another error: log it, search for it, look it up in
the table below. The command line prints it after the message.

>>> error = ValidationError("limit", 0, "must be a whole number from 1 to 1000")
>>> print(error.code, error)
AM-101 limit (0) must be a whole number from 1 to 1000
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

__all__ = [
    "AgentModelError",
    "AlreadyExists",
    "BatchIncomplete",
    "CacheUnavailable",
    "CallRejected",
    "CircuitOpen",
    "ConfigurationError",
    "Conflict",
    "CorruptItem",
    "CursorError",
    "HistoryUnavailable",
    "JournalFull",
    "KeyFormatError",
    "LeaseHeld",
    "MissingExtraError",
    "NewerData",
    "NotAllowed",
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
    """Return a value as an error message shows it: its repr, shortened; its type if the repr fails."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  # code of the value may raise anything
        text = f"<{type(value).__name__}, no text: {type(error).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def rule_of(message: str) -> str:
    """Turn a message of pydantic into the rule of a `ValidationError`.

    >>> rule_of("Input should be a valid boolean"), rule_of("Field required"), rule_of("Value error, must be even")
    ('must be a valid boolean', 'must be given', 'must be even')
    """
    if message == "Field required":
        return "must be given"
    return re.sub(r"^[A-Z]\w* should ", "must ", message.removeprefix("Value error, "))


class AgentModelError(Exception):
    """Base of every error agentmodel raises.

    What to do:
        Catch it where every failure of agentmodel is handled alike; catch a class below it to handle one kind.

    >>> try:
    ...     model.resume_plans("DMN999")
    ... except AgentModelError as error:
    ...     print(error.code, error)
    AM-301 domain DMN999 does not exist
    """

    code: ClassVar[str] = "AM-100"
    """Stable code of the error; the class names the error for programs, the code for logs and people."""


class ValidationError(AgentModelError, ValueError):
    """An argument or an attribute has a value that is not accepted.

    It is raised before anything is sent: nothing was changed.

    Attributes:
        field: Name of the argument or attribute.
        value: What was given.
        rule: The rule that the value breaks, and what to do; it begins with ``must`` or ``cannot``.

    What to do:
        Change the value as the message says. Trying again with the same value raises the same error.

    >>> model.repository.sessions("USR001", limit=0)
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.ValidationError: limit (0) must be a whole number from 1 to 1000
    """

    code: ClassVar[str] = "AM-101"

    def __init__(self, field: str, value: Any, rule: str) -> None:
        self.field = field
        self.value = value
        self.rule = rule
        super().__init__(f"{field} ({shown(value)}) {rule}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.value, self.rule)


class KeyFormatError(ValidationError):
    """A text is not a key of the table; ``field`` names the key format.

    What to do:
        Pass a key as it is stored. If the text was stored, another program wrote it: run ``agentmodel check``.

    >>> from agentmodel import keys
    >>> keys.TOOL.parse("AGT001")
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.KeyFormatError: tool key ('AGT001') cannot be read because its tool_id ...
    """

    code: ClassVar[str] = "AM-102"


class CursorError(ValidationError):
    """A page cursor was altered, or belongs to another query.

    What to do:
        Pass the ``cursor`` of a page to the query that gave the page, with the same arguments; start again without one
        otherwise.

    >>> cursor = model.repository.sessions("USR001", limit=1).cursor
    >>> model.repository.sessions("USR002", cursor=cursor)
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.CursorError: cursor ...
    """

    code: ClassVar[str] = "AM-103"

    def __init__(
        self, field: str = "cursor", value: Any = None, rule: str = "must be the cursor of a page of the same query"
    ) -> None:
        super().__init__(field, value, rule)


class ConfigurationError(AgentModelError):
    """A setting is missing or wrong; the message names the setting and a value that would work.

    What to do:
        Change the setting and start the process again. `agentmodel.config.Settings` lists all of them.

    >>> from agentmodel import Settings
    >>> Settings.load(ranking="best")
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.ConfigurationError: AGENTMODEL_RANKING ('best') must be 'classic' or ...
    """

    code: ClassVar[str] = "AM-111"


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        extra: Name of the extra to install.
        need: What needs it.

    What to do:
        Run the ``pip install`` line of the message.

    >>> try:
    ...     raise MissingExtraError("local", "the model on embedded engines")
    ... except ImportError as error:
    ...     print(error)
    the model on embedded engines needs an optional dependency: pip install 'agentmodel[local]'
    """

    code: ClassVar[str] = "AM-112"

    def __init__(self, extra: str, need: str, module: str | None = None) -> None:
        self.extra = extra
        self.need = need
        ImportError.__init__(
            self, f"{need} needs an optional dependency: pip install 'agentmodel[{extra}]'", name=module
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.extra, self.need, self.name)


class NewerData(ConfigurationError):
    """A newer version of agentmodel has changed the stored data, and this one would damage it.

    What to do:
        Upgrade agentmodel in this process, or set it up with another table or warehouse.

    >>> from agentmodel import AgentModel
    >>> from agentmodel.dynamo._table_migration import FORMAT_KEY
    >>> with AgentModel.from_settings(model.settings, table="Newer", valkey_url=None) as own:
    ...     created = own.table.create()
    ...     put = own.table.call("PutItem", TableName="Newer", Item=FORMAT_KEY | {"FormatNo": {"N": "99"}})
    ...     own.table.check_format()
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.NewerData: the table has format 99, which a newer agentmodel made; this ...
    """

    code: ClassVar[str] = "AM-113"


class NotFound(AgentModelError, LookupError):
    """Nothing has the id that was given.

    Attributes:
        kind: What was looked for, such as ``session``.
        key: Its id.

    What to do:
        Check the id. An item may also have expired, or have been deleted.

    >>> try:
    ...     model.run_checks.check("USR001", "SESS9")
    ... except NotFound as error:
    ...     print(error.kind, error.key)
    session SESS9
    """

    code: ClassVar[str] = "AM-301"

    def __init__(self, kind: str, key: str) -> None:
        self.kind = kind
        self.key = key
        super().__init__(f"{kind} {key} does not exist")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, self.key)


class Conflict(AgentModelError):
    """The condition of a write was not met, or a review was decided already; nothing was changed.

    What to do:
        Read the item or the review again, then decide whether the change is still wanted.

    >>> question = model.reviews.ask("USR301", "SESS1", "Pay?", queue="payments", call_id="1")
    >>> first = model.reviews.decide(question, "approve", "lee")
    >>> model.reviews.decide(question, "reject", "kim", reason="too dear")
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.Conflict: review 2ef3049c7150e0ce096aa7a32c2540a8 is already approved by ...
    """

    code: ClassVar[str] = "AM-302"


class AlreadyExists(Conflict):
    """Put-if-absent found an item under the key; the stored item was not changed.

    What to do:
        Use the stored item, or store the new one under another id.

    >>> from agentmodel import Domain
    >>> try:
    ...     model.repository.put_new(Domain(domain_id="DMN001", name="Hotels"))
    ... except AlreadyExists:
    ...     print(model.repository.domain("DMN001").name)
    Store search
    """

    code: ClassVar[str] = "AM-303"


class StaleVersion(Conflict):
    """A newer version of the item is stored; it was not overwritten.

    What to do:
        Read the item again, make the change on what was read, and save it.

    >>> from agentmodel import User
    >>> first = User(user_id="USR302", name="Ada")
    >>> model.writer.save(first)
    >>> second = model.table.get(User.at("USR302"), consistent=True)
    >>> model.writer.save(first)
    >>> try:
    ...     model.writer.save(second)
    ... except StaleVersion:
    ...     second = model.table.get(User.at("USR302"), consistent=True)  # read it again
    >>> model.writer.save(second)
    """

    code: ClassVar[str] = "AM-304"


class LeaseHeld(Conflict):
    """Another process or thread does the same work now; nothing was changed.

    Attributes:
        lease: Name of the lease, such as ``refresh``.
        holder: What the other does, and which process it is.
        since: When it began, UTC.

    What to do:
        Wait until the other has ended and do it again, or give a longer ``wait``. The lease of a killed process ends by
        itself within a minute.

    >>> with model.table.lease(doing="a repair"):
    ...     try:
    ...         model.import_traces(folder / "calls.jsonl", wait=0)
    ...     except LeaseHeld as error:
    ...         print(error.lease, "is held for", error.holder.split(" (")[0])
    catalogue is held for a repair
    """

    code: ClassVar[str] = "AM-307"

    def __init__(self, message: str, lease: str = "", holder: str = "", since: datetime | None = None) -> None:
        self.lease = lease
        self.holder = holder
        self.since = since
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.lease, self.holder, self.since)


class NotAllowed(AgentModelError):
    """A caller of the MCP server or the console lacks the role that an action needs, or asks for another user.

    What to do:
        Ask for your own user, or let the token file, or ``--role``, give the caller the role that the message names.

    >>> from agentmodel.callers import Caller
    >>> Caller(user_id="USR001", roles=frozenset({"reader"})).need("reviewer")
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.NotAllowed: not allowed: this needs the role reviewer, and the caller has ...
    """

    code: ClassVar[str] = "AM-311"


class CorruptItem(AgentModelError):
    """A stored item cannot be read by its class; the item itself is unchanged.

    Attributes:
        key: The item's partition key and sort key.
        attribute: The stored attribute that is wrong.
        problem: What is wrong with it.

    What to do:
        Run ``agentmodel check`` to find all such items, and ``agentmodel check --fix`` to repair what can be repaired.

    >>> from agentmodel import Domain
    >>> try:
    ...     Domain.from_item({"PK": {"S": "DMN001"}, "SK": {"S": "METADATA"}, "EntityType": {"S": "Domain"}})
    ... except CorruptItem as error:
    ...     print(error.key, "|", error.attribute, error.problem)
    DMN001 / METADATA | DomainNM is missing, although it is required
    """

    code: ClassVar[str] = "AM-305"

    def __init__(self, key: str, attribute: str, problem: str) -> None:
        self.key = key
        self.attribute = attribute
        self.problem = problem
        super().__init__(f"item {key}: attribute {attribute} {problem}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.key, self.attribute, self.problem)


class Rejected(AgentModelError):
    """A store rejects a request for good: the request itself is wrong, and nothing of it was kept.

    What to do:
        Read the store's own message, which follows. Records that the drainer could not write are in the dead letters:
        ``agentmodel dead``.

    >>> model.table.call("Query", TableName=model.table.name, KeyConditionExpression="PK = PK")
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.Rejected: http://127.0.0.1:... rejected Query: Invalid condition in ...
    """

    code: ClassVar[str] = "AM-306"


class NotCalled(AgentModelError):
    """A guarded tool was not called; the message is written for the model that asked for the call.

    What to do:
        Give the message to the model as the tool's result, so that it can choose another way.

    >>> @model.tool(agent="payer", review=["pay"])
    ... def pay(amount: int) -> str:
    ...     return f"paid {amount}"
    >>> with model.session("USR303", "pay the bill"):
    ...     try:
    ...         answer = pay(8)
    ...     except NotCalled as error:
    ...         answer = str(error)  # what the model reads in place of a result
    >>> print(answer)
    `pay` was not called: a person has to approve it first, and has not decided yet. Continue without
    it, or try again later.
    """

    code: ClassVar[str] = "AM-401"


class ToolBlocked(NotCalled):
    """A guarded tool was not called because it is failing.

    Attributes:
        fallbacks: What works in its place, best first, as `agentmodel.suggest.guard.Fallback`.

    What to do:
        Call one of the fallbacks. The tool is let through again when its health recovers: ``agentmodel tools``.

    >>> from agentmodel.suggest.guard import Fallback
    >>> try:
    ...     raise ToolBlocked("`search` was not called: it is failing.", [Fallback("AGT001", tool="lookup")])
    ... except ToolBlocked as error:
    ...     print(error.code, error, [fallback.tool for fallback in error.fallbacks])
    AM-402 `search` was not called: it is failing. ['lookup']
    """

    code: ClassVar[str] = "AM-402"

    def __init__(self, message: str, fallbacks: Sequence[Any] = ()) -> None:
        self.fallbacks = tuple(fallbacks)
        super().__init__(message)


class CallRejected(NotCalled):
    """A guarded tool was not called because a person rejected the call, or nobody answered in time.

    Attributes:
        by: Who decided; empty if the deadline did.
        reason: Why.

    What to do:
        Read the reason. A call with other arguments is a new question.

    >>> @model.tool(agent="payer", review=["refund"])
    ... def refund(amount: int) -> str:
    ...     return f"refunded {amount}"
    >>> with model.session("USR306", session_id="SESS1"):
    ...     try:
    ...         refund(8)
    ...     except ReviewPending as error:
    ...         question = model.reviews.decide(error.review, "reject", "lee", reason="too much")
    ...     try:
    ...         refund(8)
    ...     except CallRejected as error:
    ...         print(error.by, "|", error.reason)
    lee | too much
    """

    code: ClassVar[str] = "AM-403"

    def __init__(self, message: str, by: str = "", reason: str | None = None) -> None:
        self.by = by
        self.reason = reason
        super().__init__(message)


class ReviewPending(NotCalled):
    """A guarded tool was not called yet because a person has to decide first.

    Attributes:
        review: The reference of the question, as `Reviews.reference` gives it.

    What to do:
        Decide the review (``agentmodel reviews``), then call again with the same arguments in the same session.

    >>> @model.tool(agent="payer", review=["transfer"])
    ... def transfer(amount: int) -> str:
    ...     return f"transferred {amount}"
    >>> with model.session("USR304", "pay the bill", session_id="SESS1"):
    ...     try:
    ...         transfer(8)
    ...     except ReviewPending as error:
    ...         review = error.review
    >>> model.reviews.decide(review, "approve", "lee").status
    'approved'
    >>> with model.session("USR304", session_id="SESS1"):
    ...     transfer(8)
    'transferred 8'
    """

    code: ClassVar[str] = "AM-404"

    def __init__(self, message: str, review: str = "") -> None:
        self.review = review
        super().__init__(message)


class Unavailable(AgentModelError):
    """A store does not answer.

    What to do:
        Try again later. Every error below says what was kept.

    >>> from agentmodel import AgentModel
    >>> away = dict(endpoint="http://127.0.0.1:9", valkey_url=None, dynamodb_timeout=0.2)
    >>> with AgentModel.from_settings(model.settings, **away) as own:
    ...     try:
    ...         own.repository.agent("AGT001")
    ...     except Unavailable as error:
    ...         print(error.code)
    AM-202
    """

    code: ClassVar[str] = "AM-201"


class TableUnavailable(Unavailable):
    """DynamoDB does not answer, or does not take the call now.

    While Valkey answers, records are still kept: they wait in the journal.

    What to do:
        Try again. If the error stays, check AGENTMODEL_ENDPOINT, AGENTMODEL_REGION, the credentials and the table's
        throttling.

    >>> from agentmodel import AgentModel
    >>> away = dict(endpoint="http://127.0.0.1:9", valkey_url=None, dynamodb_timeout=0.2)
    >>> with AgentModel.from_settings(model.settings, **away) as own:
    ...     try:
    ...         own.repository.top_agents("DMN001")
    ...     except TableUnavailable as error:
    ...         print(error.code)
    AM-202
    """

    code: ClassVar[str] = "AM-202"


class CircuitOpen(TableUnavailable):
    """DynamoDB did not answer a moment ago, so it was not asked: nobody waits for a time-out again.

    It is asked once a second in the background; calls go through again as soon as it answers.

    Attributes:
        where: Region or endpoint.
        reason: Why the circuit breaker is open.

    What to do:
        As for `TableUnavailable`. `AgentModel.stats` shows the state of the circuit breaker.

    >>> from agentmodel import AgentModel
    >>> away = dict(endpoint="http://127.0.0.1:9", valkey_url=None, dynamodb_timeout=0.2)
    >>> with AgentModel.from_settings(model.settings, **away) as own:
    ...     for _ in range(2):
    ...         try:
    ...             agent = own.repository.agent("AGT001")
    ...         except TableUnavailable as error:
    ...             print(type(error).__name__)
    TableUnavailable
    CircuitOpen
    """

    code: ClassVar[str] = "AM-205"

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(
            f"{where} does not answer at present and was not asked; it is tried again every second "
            f"(AGENTMODEL_ENDPOINT): {reason}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.reason)


class TableNotFound(TableUnavailable):
    """DynamoDB answers, but the table does not exist.

    Attributes:
        table: Name of the table.
        where: Region or endpoint that was asked.

    What to do:
        Run ``agentmodel table create``, or name another table by AGENTMODEL_TABLE.

    >>> from agentmodel import AgentModel
    >>> with AgentModel.from_settings(model.settings, table="Nowhere", valkey_url=None) as own:
    ...     try:
    ...         own.repository.agent("AGT001")
    ...     except TableNotFound as error:
    ...         print(error.table)
    Nowhere
    """

    code: ClassVar[str] = "AM-203"

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
    """The deadline of a batch passed before all of it was done; the rest of the batch was written or read.

    Attributes:
        left: The items that were not written, or the keys that were not read.
        seconds: The deadline.

    What to do:
        Write or read ``left`` again. If it happens often, raise AGENTMODEL_BATCH_DEADLINE or the table's capacity.

    >>> error = BatchIncomplete([{"PK": {"S": "AGT001"}, "SK": {"S": "METADATA"}}], 30)
    >>> print(error.code, error)
    AM-204 1 items were left unprocessed after 30 s; write or read again what is in `left`
    """

    code: ClassVar[str] = "AM-204"

    def __init__(self, left: list[Any], seconds: float) -> None:
        self.left = left
        self.seconds = seconds
        super().__init__(
            f"{len(left)} items were left unprocessed after {seconds:g} s; write or read again what is in `left`"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.left, self.seconds)


class CacheUnavailable(Unavailable):
    """Valkey does not answer, or rejects the call.

    Reads and records go to the table meanwhile, so that few calls raise this error.

    What to do:
        Check AGENTMODEL_VALKEY_URL and the server: ``agentmodel stats``.

    >>> from agentmodel.cache import Valkey
    >>> away = model.settings.model_copy(update={"valkey_url": "valkey://127.0.0.1:9"})
    >>> Valkey(away).execute(("PING",))
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.CacheUnavailable: Valkey at valkey://127.0.0.1:9 does not answer ...
    """

    code: ClassVar[str] = "AM-211"


class JournalFull(CacheUnavailable):
    """The journal is full, and the table does not take the records either; what the journal holds is kept.

    Attributes:
        answers: The result of each entry of the call, in order; None for an entry that found no room.

    What to do:
        Start ``agentmodel drain --keep-on``, or raise AGENTMODEL_JOURNAL_LIMIT; then record again the entries whose
        answer is None.

    >>> from agentmodel.cache import Entry, Journal
    >>> journal = Journal(model.valkey, shards=1, limit=1, prefix="example", full_wait=0)
    >>> items = [{"PK": {"S": "USR307"}, "SK": {"S": f"SESS{number}"}} for number in (1, 2)]
    >>> try:
    ...     journal.append([Entry("USR307", item, version=1, immutable=False) for item in items])
    ... except JournalFull as error:
    ...     print([answer is not None for answer in error.answers])
    [True, False]
    """

    code: ClassVar[str] = "AM-212"

    def __init__(self, message: str, answers: Sequence[Any] = ()) -> None:
        self.answers = list(answers)
        super().__init__(message)


class WarehouseUnavailable(Unavailable):
    """The warehouse does not answer, or another process holds it; what had landed is kept.

    What to do:
        Close the other process (a DuckDB file has one owner), or check AGENTMODEL_WAREHOUSE_URL. The next refresh
        also does the work of one that was interrupted.

    >>> from sqlalchemy import text
    >>> model.warehouse.read(text("SELECT * FROM nothing"))
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.WarehouseUnavailable: a table of the warehouse is missing: Catalog Error: ...
    """

    code: ClassVar[str] = "AM-221"


class HistoryUnavailable(Unavailable):
    """Neither Valkey nor DynamoDB took the write: nothing was kept.

    What to do:
        Record again once one of the stores answers. The message holds both reasons.

    >>> from agentmodel import AgentModel, UserSession
    >>> away = dict(endpoint="http://127.0.0.1:9", valkey_url="valkey://127.0.0.1:9", dynamodb_timeout=0.2)
    >>> with AgentModel.from_settings(model.settings, **away) as own:
    ...     try:
    ...         receipt = own.recorder.record(UserSession(user_id="USR305", session_id="SESS1", name="a café"))
    ...     except HistoryUnavailable as error:
    ...         print(error.code)
    AM-231
    """

    code: ClassVar[str] = "AM-231"
