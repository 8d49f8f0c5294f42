"""Imports files of OTLP-JSON spans, which any GenAI-instrumented program can export, into history and catalogue.

A file contains one ``TracesData`` object, or one a line as the OpenTelemetry Collector's file exporter writes them;
gzip or not. The tool calls in it become trace records and are imported like any trace file: under ids that are always
the same, so that importing again changes nothing. A conversation is a session; so is a trace without a conversation.
Events ``gen_ai.evaluation.result``, of spans or in ``resourceLogs``, become outcomes from outside. Logged messages of
users and models are read like those of the spans that they name.
"""

from __future__ import annotations

import io
import math
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agentmodel._runtime.lease import WAIT
from agentmodel.access.trace_import import Imported, TraceImport
from agentmodel.client import AgentModel
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._tracking.conventions import Event, Span, is_evaluation, json_of, list_of, text_or_none
from agentmodel.integrations._tracking.requested import MESSAGE_EVENTS
from agentmodel.integrations._tracking.spans import RequestedCalls, SpanCall, SpanEvaluation, calls, evaluations
from agentmodel.traces import BadLine, TraceOutcome, TraceRecord, open_unpacked

__all__ = ["import_otlp"]

_DEFAULT_AGENT = "agent"
"""Name of the agent if neither a span nor the resource has one."""

DEFAULT_DOMAIN = "default"
"""Name of the domain if the resource has no ``service.name``."""

_PART = 1 << 20  # bytes read at once; of a damaged file the last part is lost

_FAILED = (2, "STATUS_CODE_ERROR")
_LONGEST_NUMBER = 20  # characters of a number of 64 bits
_SIGNALS = ("resourceSpans", "resourceLogs")


def import_otlp(
    model: AgentModel,
    *paths: str | Path,
    domain: str | None = None,
    strict: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    wait: float = WAIT,
) -> Imported:
    """Put the tool calls of OTLP-JSON files into history and catalogue; importing again changes nothing.

    Args:
        model: The installation.
        paths: The files. Each is in memory while it is read, since the end of a trace may come before its calls.
        domain: Name of the domain of all agents; that of each program (``service.name``) when not given.
        strict: Stop at the first span or line that cannot be read, before anything is written.
        progress: Called with what is done, how many of it, and of how many.
        wait: Seconds to wait for another import, seed or repair that is under way; 0 does not wait.

    Raises:
        ValidationError: A file cannot be read, or a span is bad and ``strict`` is set.
        LeaseHeld: Another takes longer than ``wait``; the message says who works since when.

    >>> import json
    >>> told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "rooms", "gen_ai.agent.name": "booker"}
    >>> span = {
    ...     "traceId": "1" * 32, "spanId": "1" * 16, "name": "execute_tool rooms",
    ...     "startTimeUnixNano": "1767225600000000000", "endTimeUnixNano": "1767225601000000000",
    ...     "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in told.items()],
    ... }
    >>> file = folder / "spans.json"
    >>> _ = file.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    >>> imported = import_otlp(model, file, domain="hotels")
    >>> imported.lines, imported.bad
    (1, [])
    """
    sources = [partial(_records, path, domain=domain, strict=strict) for path in paths]
    importer = TraceImport(model.repository, recorder=model.recorder)
    with model.table.lease(doing="import", wait=wait) as lease:
        return importer.run_sources(sources, progress=lease.checked(progress))


def _records(
    path: str | Path, *, domain: str | None = None, strict: bool = False
) -> Iterator[TraceRecord | TraceOutcome | BadLine]:
    """Yield the tool calls of a file as trace records, those of a session together, then outcomes, then bad lines.

    Raises:
        ValidationError: The file cannot be opened, or, if ``strict``, something in it is bad.
    """
    traces, bad = _traces(path, strict=strict)
    sessions: dict[tuple[str | None, str], list[SpanCall]] = defaultdict(list)
    requested = RequestedCalls()
    for spans in sorted(traces.values(), key=lambda spans: min(span.started_ns for span in spans)):
        for call in calls(spans, requested):
            sessions[call.user, call.session or call.trace_id].append(call)
    for (_, session), made in sessions.items():
        yield from session_records(session, made, domain)
    for spans in traces.values():
        for said in evaluations(spans):
            if isinstance(said, SpanEvaluation):
                yield trace_outcome(said, domain)
            else:
                bad.append(BadLine.of(Path(path), 1, said, strict=strict))
    yield from bad


def _traces(path: str | Path, *, strict: bool) -> tuple[dict[str, list[Span]], list[BadLine]]:
    """Return the spans of a file by their traces, with the messages that were logged of them, and what is bad in it."""
    traces: dict[str, list[Span]] = defaultdict(list)
    logged: dict[tuple[str, str], list[Event]] = defaultdict(list)
    bad: list[BadLine] = []
    for one in _read(path, strict=strict):
        if isinstance(one, Span):
            traces[one.trace_id].append(one)
        elif isinstance(one, _LoggedMessage):
            logged[one.trace_id, one.span_id].append(one.event)
        else:
            bad.append(one)
    for name, spans in traces.items():
        traces[name] = [
            replace(span, events=[*span.events, *logged[name, span.span_id]])
            if (name, span.span_id) in logged
            else span
            for span in spans
        ]
    return traces, bad


def trace_outcome(one: SpanEvaluation, domain: str | None = None) -> TraceOutcome:
    """Return an evaluation as the outcome of a trace's session; ``domain`` as in `session_records`."""
    return TraceOutcome.model_validate(
        {
            "domain": domain or one.service or DEFAULT_DOMAIN,
            "user": one.user,
            "session": one.session or one.trace_id,
            "agent": one.agent,
            "outcome": one.said,
        }
    )


def session_records(
    session: str, made: Iterable[SpanCall], domain: str | None = None, *, after: int = 0
) -> Iterator[TraceRecord]:
    """Yield the calls of one session as trace records.

    Args:
        session: Its name.
        made: The calls, in order.
        domain: Name of the domain; the program's when not given.
        after: The last step that the session has already.
    """
    steps: dict[tuple[str, str], int] = {}
    for call in made:
        # a call that was retried is one step, calls that were requested together are several
        step = steps.setdefault((call.trace_id, call.call_id), after + len(steps) + 1)
        succeeded = call.status in ("ok", "edited", "cache_hit")
        yield TraceRecord(
            domain=domain or call.service or DEFAULT_DOMAIN,
            agent=call.agent or call.service or _DEFAULT_AGENT,
            user=call.user,
            session=session,
            request=call.request,
            category=call.category,
            step=step,
            tool=call.tool,
            arguments=call.arguments,
            result=call.result,
            success=succeeded,
            status=None if call.status in ("ok", "error") else call.status,
            error_type=call.error_type,
            started_at=call.started_at,
            ended_at=call.ended_at,
            input_tokens=call.input_tokens,
            output_tokens=call.output_tokens,
            cached_tokens=call.cached_tokens,
            cache_write_tokens=call.cache_write_tokens,
            reasoning_tokens=call.reasoning_tokens,
            model_name=call.model_name,
            request_input_tokens=call.request_input_tokens,
            revision=call.revision,
        )


class _LoggedMessage(NamedTuple):
    """A message of a user or a model that was logged as an event of a span, as many emitters do by default."""

    trace_id: str
    span_id: str
    event: Event


def _read(path: str | Path, *, strict: bool = False) -> Iterator[Span | _LoggedMessage | BadLine]:
    """Yield the spans of a file and what was logged of them, in its order, and a `BadLine` for each that is not read.

    Raises:
        ValidationError: The file cannot be opened, or, if ``strict``, has a bad line.
    """
    path = Path(path)
    with open_unpacked(path) as file:
        data, damage = _readable(file)
    if damage is not None:  # the last line is not complete
        data = data[: data.rfind(b"\n") + 1]
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    whole = _parsed(data) if lines and _parsed(lines[0][1]) is None else None
    documents = [(1, whole)] if whole is not None else [(number, _parsed(line)) for number, line in lines]
    if len(documents) > 1 and not any(isinstance(document, dict) for _, document in documents):
        rule = "must be a JSON object with resourceSpans, as the whole file or each of its lines is"
        yield BadLine.of(path, 1, ValidationError("line", lines[0][1], rule), strict=strict)
        documents = []  # one broken object over many lines is reported once
    for number, document in documents:
        if not isinstance(document, dict) or not any(isinstance(document.get(name), list) for name in _SIGNALS):
            error = ValidationError("line", document, "must be a JSON object with resourceSpans or resourceLogs")
            yield BadLine.of(path, number, error, strict=strict)
            continue
        for one in _spans(document):
            if isinstance(one, ValidationError):
                yield BadLine.of(path, number, one, strict=strict)
            else:
                yield one
    if damage is not None:
        error = ValidationError("line", damage, "cannot be read because the file is cut off or damaged here")
        yield BadLine.of(path, data.count(b"\n") + 1, error, strict=strict)


def _readable(file: io.BufferedIOBase) -> tuple[bytes, str | None]:
    """Read a file as far as possible; return that, and the error if it is a damaged gzip file."""
    parts = []
    try:
        while part := file.read1(_PART):
            parts.append(part)
    except (EOFError, OSError, zlib.error) as error:
        return b"".join(parts), str(error) or type(error).__name__
    return b"".join(parts), None


def _parsed(data: bytes) -> Any:
    try:
        return json_of(data)
    except (ValueError, RecursionError):
        return None


def _spans(document: Mapping[str, Any]) -> Iterator[Span | _LoggedMessage | ValidationError]:
    for resource in _objects(document, "resourceSpans"):
        attributes = _attributes(_map(resource.get("resource")))
        for scope in _objects(resource, "scopeSpans"):
            name = _map(scope.get("scope")).get("name") or ""
            for span in _objects(scope, "spans"):
                yield _span(span, str(name), attributes)
    for resource in _objects(document, "resourceLogs"):
        attributes = _attributes(_map(resource.get("resource")))
        for scope in _objects(resource, "scopeLogs"):
            name = _map(scope.get("scope")).get("name") or ""
            for record in _objects(scope, "logRecords"):
                yield from _logged(record, str(name), attributes)


def _logged(record: Mapping[str, Any], scope: str, resource: Mapping[str, Any]) -> Iterator[Span | _LoggedMessage]:
    """Yield a message that was logged of a span, or an evaluation, as the only event of a span beside it."""
    attributes, body = _attributes(record), _value(record.get("body"))
    at_ns = _moment(record) or _moment(record, "observedTimeUnixNano")
    event = Event(str(record.get("eventName") or attributes.get("event.name")), attributes, at_ns)
    trace_id, span_id = (value if isinstance(value := record.get(name), str) else "" for name in ("traceId", "spanId"))
    if event.name in MESSAGE_EVENTS:
        inner = body if isinstance(body, dict) else {}  # where the messages were until 2025
        yield _LoggedMessage(trace_id, span_id, Event(event.name, {**attributes, **inner}, at_ns))
    if not is_evaluation(event):
        return
    yield Span(
        trace_id=trace_id or f"log {at_ns}",
        span_id=f"{span_id} event {at_ns}",
        parent_id=span_id or None,
        name=event.name,
        scope=scope,
        started_ns=at_ns,
        ended_ns=at_ns,
        attributes=attributes,
        events=[event],
        service=text_or_none(resource.get("service.name")),
        resource=resource,
    )


def _map(value: Any) -> Mapping[str, Any]:
    """Return a value that should be a map; an empty map where it is none."""
    return value if isinstance(value, dict) else {}


def _objects(holder: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    for one in list_of(holder.get(name)):
        if isinstance(one, dict):
            yield one


def _whole(value: Any) -> int | None:
    """Return a whole number of 64 bits, which protobuf's JSON has as a text; None for anything else."""
    text = str(value) if isinstance(value, int | str) else ""
    if not text.removeprefix("-").isdecimal() or len(text) > _LONGEST_NUMBER:
        return None
    return number if -1 << 63 <= (number := int(text)) < 1 << 63 else None


def _span(span: Mapping[str, Any], scope: str, resource: Mapping[str, Any]) -> Span | ValidationError:
    """Return a span, or what is wrong with it."""
    for name in ("traceId", "spanId", "name"):
        if not isinstance(span.get(name), str) or not span[name]:
            return ValidationError(name, span.get(name), "must be text")
    times = {}
    for name in ("startTimeUnixNano", "endTimeUnixNano"):
        times[name] = _whole(span.get(name)) or 0
        if times[name] <= 0:
            return ValidationError(name, span.get(name), "must be nanoseconds since the epoch")
    status = _map(span.get("status"))
    return Span(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=text_or_none(span.get("parentSpanId")),
        name=span["name"],
        scope=scope,
        started_ns=times["startTimeUnixNano"],
        ended_ns=times["endTimeUnixNano"],
        failed=status.get("code") in _FAILED,
        description=str(status.get("message") or ""),
        attributes=_attributes(span),
        events=[Event(str(one.get("name")), _attributes(one), _moment(one)) for one in _objects(span, "events")],
        service=text_or_none(resource.get("service.name")),
        resource=resource,
    )


def _moment(event: Mapping[str, Any], name: str = "timeUnixNano") -> int:
    return max(0, _whole(event.get(name)) or 0)


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {str(one.get("key")): _value(one.get("value")) for one in _objects(holder, "attributes")}


def _value(value: Any) -> Any:
    """Return the value of an ``AnyValue`` of OTLP, which has one field named after its type."""
    if not isinstance(value, dict):
        return None
    for kind, given in value.items():
        if kind == "intValue":
            return _whole(given)
        if kind == "arrayValue":
            return [_value(one) for one in list_of(_map(given).get("values"))]
        if kind == "kvlistValue":
            return {str(one.get("key")): _value(one.get("value")) for one in _objects(_map(given), "values")}
        if kind == "doubleValue":
            return None if isinstance(given, float) and not math.isfinite(given) else given
        return given  # stringValue, boolValue, bytesValue (base64)
    return None
