"""Files of OTLP-JSON spans into history and catalogue: what any GenAI-instrumented program exported.

A file holds one ``TracesData`` object, or one a line as the OpenTelemetry Collector's file exporter writes them; gzip
or not. The tool calls in it become trace records and go the way of every import: under ids that are always the same, so
that importing again changes nothing. A conversation is a session; a trace that names none is one by itself.
"""

from __future__ import annotations

import io
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from agentmodel.access.importing import Imported, TraceImport
from agentmodel.client import AgentModel
from agentmodel.exceptions import ValidationError, shown
from agentmodel.integrations._dialects import Event, Span
from agentmodel.integrations._spans import Asked, SpanCall, calls
from agentmodel.traces import BadLine, TraceRecord, opened

__all__ = ["DEFAULT_AGENT", "DEFAULT_DOMAIN", "import_otlp", "read", "records", "session_records"]

DEFAULT_AGENT = "agent"
"""Name of the agent where neither a span nor the resource tells one."""

DEFAULT_DOMAIN = "default"
"""Name of the domain where the resource has no ``service.name``."""

_PART = 1 << 20  # bytes; of a damaged file the last reading is lost

_FAILED = (2, "STATUS_CODE_ERROR")


def import_otlp(
    model: AgentModel,
    *paths: str | Path,
    domain: str | None = None,
    strict: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Imported:
    """Put the tool calls of OTLP-JSON files into history and catalogue; importing again changes nothing.

    Args:
        model: The installation.
        paths: The files. Each is held in memory while it is read, since the end of a trace may stand before its calls.
        domain: Name of the domain of all agents; that of each program (``service.name``) when not given.
        strict: Stop at the first span or line that cannot be read, before anything is written.
        progress: Told how far it is.

    Raises:
        ValidationError: A file is not readable, or a span is bad and ``strict`` is set.
    """
    sources = [partial(records, path, domain=domain, strict=strict) for path in paths]
    importer = TraceImport(model.table, model.repository, recorder=model.recorder)
    return importer.run_sources(sources, progress=progress)


def records(path: str | Path, *, domain: str | None = None, strict: bool = False) -> Iterator[TraceRecord | BadLine]:
    """The tool calls of a file as trace records, those of a session together; then what could not be read.

    Raises:
        ValidationError: On reading: the file cannot be opened, or, if ``strict``, something in it is bad.
    """
    traces: dict[str, list[Span]] = defaultdict(list)
    bad: list[BadLine] = []
    for found in read(path):
        if isinstance(found, Span):
            traces[found.trace_id].append(found)
        elif strict:
            raise ValidationError(f"{found.file}, line {found.line}", found.field, found.problem)
        else:
            bad.append(found)
    sessions: dict[tuple[str | None, str], list[SpanCall]] = defaultdict(list)
    asked = Asked()
    for spans in sorted(traces.values(), key=lambda spans: min(span.started_ns for span in spans)):
        for call in calls(spans, asked):
            sessions[call.user, call.session or call.trace_id].append(call)
    for (_, session), made in sessions.items():
        yield from session_records(session, made, domain)
    yield from bad


def session_records(
    session: str, made: Iterable[SpanCall], domain: str | None = None, *, after: int = 0
) -> Iterator[TraceRecord]:
    """The calls of one session as trace records.

    Args:
        session: Its name.
        made: The calls, in order.
        domain: Name of the domain; the program's when not given.
        after: The last step that the session has already.
    """
    steps: dict[tuple[str, str], int] = {}
    for call in made:
        # a call that was tried again is one step, calls that were asked for together are several
        step = steps.setdefault((call.trace_id, call.call_id), after + len(steps) + 1)
        succeeded = call.status in ("ok", "edited", "cache_hit")
        yield TraceRecord(
            domain=domain or call.service or DEFAULT_DOMAIN,
            agent=call.agent or call.service or DEFAULT_AGENT,
            user=call.user,
            session=session,
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
        )


def read(path: str | Path) -> Iterator[Span | BadLine]:
    """The spans of a file, in its order, and what is none.

    Raises:
        ValidationError: The file cannot be opened.
    """
    with opened(Path(path)) as file:
        data, damage = _readable(file)
    if damage is not None:  # what comes after the last whole line is a part of one
        data = data[: data.rfind(b"\n") + 1]
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    whole = _parsed(data) if lines and _parsed(lines[0][1]) is None else None
    documents = [(1, whole)] if whole is not None else [(number, _parsed(line)) for number, line in lines]
    if len(documents) > 1 and not any(isinstance(document, dict) for _, document in documents):
        yield BadLine(str(path), 1, None, "the file is no JSON object with resourceSpans, and none of its lines is one")
        documents = []  # one broken object over many lines is told once
    for number, document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("resourceSpans"), list):
            yield BadLine(str(path), number, None, "the line is no JSON object with resourceSpans")
            continue
        for found in _spans(document):
            if isinstance(found, Span):
                yield found
            else:
                yield BadLine(str(path), number, *found)
    if damage is not None:
        told = f"the rest of the file cannot be read, it is cut off or damaged: {damage}"
        yield BadLine(str(path), data.count(b"\n") + 1, None, told)


def _readable(file: io.BufferedIOBase) -> tuple[bytes, str | None]:
    """What a file gives, and why it gives no more where it is packed and damaged."""
    parts = []
    try:
        while part := file.read1(_PART):
            parts.append(part)
    except (EOFError, OSError, zlib.error) as error:
        return b"".join(parts), str(error) or type(error).__name__
    return b"".join(parts), None


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _spans(document: Mapping[str, Any]) -> Iterator[Span | tuple[str, str]]:
    for resource in _objects(document, "resourceSpans"):
        told = _attributes(resource.get("resource") or {})
        for scope in _objects(resource, "scopeSpans"):
            name = (scope.get("scope") or {}).get("name") or ""
            for span in _objects(scope, "spans"):
                yield _span(span, str(name), told.get("service.name"))


def _objects(holder: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    for one in holder.get(name) or ():
        if isinstance(one, dict):
            yield one


def _span(span: Mapping[str, Any], scope: str, service: Any) -> Span | tuple[str, str]:
    """A span, or the field that is wrong and why."""
    for name in ("traceId", "spanId", "name"):
        if not isinstance(span.get(name), str) or not span[name]:
            return name, f"{shown(span.get(name))} is refused: give a text"
    times = {}
    for name in ("startTimeUnixNano", "endTimeUnixNano"):
        try:
            times[name] = int(span[name])
        except (KeyError, TypeError, ValueError):
            return name, f"{shown(span.get(name))} is refused: give nanoseconds since the epoch"
        if not 0 < times[name] < 1 << 63:
            return name, f"{shown(span.get(name))} is refused: give nanoseconds since the epoch"
    status = span.get("status") or {}
    return Span(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId") or None,
        name=span["name"],
        scope=scope,
        started_ns=times["startTimeUnixNano"],
        ended_ns=times["endTimeUnixNano"],
        failed=status.get("code") in _FAILED,
        description=str(status.get("message") or ""),
        attributes=_attributes(span),
        events=[Event(str(event.get("name")), _attributes(event)) for event in _objects(span, "events")],
        service=service if isinstance(service, str) and service else None,
    )


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {str(one.get("key")): _value(one.get("value")) for one in _objects(holder, "attributes")}


def _value(value: Any) -> Any:
    """An ``AnyValue`` of OTLP: one field named after its type."""
    if not isinstance(value, dict):
        return None
    for kind, given in value.items():
        if kind == "intValue":  # a text, as 64-bit numbers are in protobuf's JSON
            return int(given) if str(given).lstrip("-").isdecimal() else None
        if kind == "arrayValue":
            return [_value(one) for one in (given or {}).get("values") or ()]
        if kind == "kvlistValue":
            return {str(one.get("key")): _value(one.get("value")) for one in (given or {}).get("values") or ()}
        if kind == "doubleValue":
            return None if isinstance(given, float) and not math.isfinite(given) else given
        return given  # stringValue, boolValue, bytesValue (base64)
    return None
