"""`/healthz` and `/metrics` of the long-running parts: who may read them, and what they answer.

``/healthz`` says whether the process works, for load balancers and supervisors, and answers everybody. An outage of a
store does not make it fail: a restart would not end the outage, and parts go on by themselves after it. ``/metrics``
is Prometheus' text. It answers a bearer token of the part's tokens, of any role; a part without tokens answers its own
machine alone.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from agentmodel._monitoring.metrics import METRICS, Figure, page_figures
from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.urls import http_url
from agentmodel.callers import Tokens, digest_of, is_local_name, is_loopback
from agentmodel.client import AgentModel
from agentmodel.exceptions import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["PATHS", "ProbeAnswer", "Probes", "serving_probes", "starlette_probe"]

PATHS: Final = ("/healthz", "/metrics")
_STUCK_SECONDS: Final = 300.0  # without a pass; a pass ends with the deadline of its batches
_KEPT_SECONDS: Final = 5.0  # that figures are kept, however often they are asked for
_WAIT: Final = 10.0  # seconds for a request to arrive


class ProbeAnswer(NamedTuple):
    """An answer to a request."""

    status: int
    text: str
    media_type: str = "text/plain; charset=utf-8"


class Probes:
    """Answers of one part.

    Args:
        model: The installation.
        part: ``drain``, ``console`` or ``mcp``.
        now: Returns seconds.
    """

    def __init__(self, model: AgentModel, part: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._model, self._part, self._now = model, part, now
        self._lock = ForkSafeLock()
        self._kept: list[Figure] = []
        self._read_at: float | None = None

    def health(self) -> ProbeAnswer:
        """Return 200 while the part works, or 503; in both cases with the state of the circuit breakers."""
        model = self._model
        stuck = self._part == "drain" and self._now() - model.drainer.last_pass_at > _STUCK_SECONDS
        valkey = None if model.valkey is None else model.valkey.breaker.state
        states = {"status": "stuck" if stuck else "ok", "dynamodb": model.table.breaker.state, "valkey": valkey}
        return ProbeAnswer(503 if stuck else 200, json.dumps(states) + "\n", "application/json")

    def metrics(self, *, known: bool | None, client: str, host: str) -> ProbeAnswer:
        """Return the metrics as Prometheus reads them.

        Args:
            known: Whether the request has a known token; None where the part has no tokens.
            client: Address of the client.
            host: The Host header.
        """
        if known is False:
            return ProbeAnswer(401, "not allowed: send a known token as `Authorization: Bearer …`\n")
        if known is None and not (is_loopback(client) and is_local_name(host)):
            return ProbeAnswer(403, "not allowed: without a token file, metrics are for this machine only\n")
        try:
            return self._exposition()
        except MissingExtraError as error:
            return ProbeAnswer(501, f"{error}\n")

    def _exposition(self) -> ProbeAnswer:
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
            from prometheus_client.exposition import CONTENT_TYPE_LATEST
            from prometheus_client.registry import Collector
        except ModuleNotFoundError as error:
            raise MissingExtraError("metrics", "the page /metrics", error.name) from None
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
        from prometheus_client.core import Metric as Family

        figures = self._figures()

        class Figures(Collector):
            def collect(self) -> Iterable[Family]:
                families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
                for name, labels, value in figures:
                    metric = METRICS[name]
                    kind = CounterMetricFamily if metric.total else GaugeMetricFamily
                    family = families.setdefault(name, kind(metric.page_name, metric.meaning, labels=metric.labels))
                    family.add_metric(labels, value)
                return families.values()

        registry = CollectorRegistry()
        registry.register(Figures())
        ProcessCollector(registry=registry)  # processor time, memory, open files
        return ProbeAnswer(200, generate_latest(registry).decode(), CONTENT_TYPE_LATEST)

    def _figures(self) -> list[Figure]:
        """Return the figures; many readers at once make one read of the stores."""
        with self._lock:
            if self._read_at is None or self._now() - self._read_at > _KEPT_SECONDS:
                self._kept = page_figures(self._model, self._part)
                self._read_at = self._now()
            return self._kept


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def starlette_probe(
    probes: Probes, path: str, knows: Callable[[str], Awaitable[bool]] | None
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a path for Starlette.

    Args:
        probes: The part.
        path: One of `PATHS`.
        knows: Whether a bearer token is known; None where there are no tokens.
    """
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response

    async def endpoint(request: Request) -> Response:
        if path == "/healthz":  # on the event loop, so that one that hangs does not answer
            answer = probes.health()
        else:
            known = None if knows is None else await knows(_bearer(request.headers.get("authorization", "")))
            client, host = request.client.host if request.client else "", request.headers.get("host", "")
            answer = await run_in_threadpool(probes.metrics, known=known, client=client, host=host)
        return Response(answer.text, answer.status, media_type=answer.media_type, headers=_headers(answer))

    return endpoint


def _headers(answer: ProbeAnswer) -> dict[str, str]:
    return {"cache-control": "no-store", **({"www-authenticate": "Bearer"} if answer.status == 401 else {})}


@contextmanager
def serving_probes(probes: Probes, *, host: str, port: int, tokens: Tokens | None) -> Iterator[str]:
    """ProbeAnswer both paths in threads while the block runs; give the address.

    Raises:
        ConfigurationError: The port is taken or is none of this machine; or other machines could reach it, and there
            are no tokens.
    """
    if tokens is None and not is_loopback(host):
        raise ConfigurationError(
            f"cannot listen on {host} without tokens, because every machine that reaches it could read them: give a "
            "token file (--tokens), or listen on 127.0.0.1"
        )

    class ProbeHandler(BaseHTTPRequestHandler):
        timeout = _WAIT

        def do_GET(self) -> None:  # the name that http.server calls
            path = urlsplit(self.path).path
            if path == "/healthz":
                self._send(probes.health())
            elif path == "/metrics":
                token = _bearer(self.headers.get("authorization", ""))
                known = None if tokens is None else tokens.of_digest(digest_of(token)) is not None
                self._send(
                    probes.metrics(known=known, client=self.client_address[0], host=self.headers.get("host", ""))
                )
            else:
                self._send(ProbeAnswer(404, f"there is no page {path}: use {' or '.join(PATHS)}\n"))

        do_HEAD = do_GET  # noqa: N815  # as http.server calls it

        def _send(self, answer: ProbeAnswer) -> None:
            body = answer.text.encode()
            self.send_response(answer.status)
            for name, value in _headers(answer).items():
                self.send_header(name, value)
            self.send_header("content-type", answer.media_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as http.server calls it
            """Log nothing: a probe every few seconds says nothing."""

    class ProbeServer(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = ProbeServer((host, port), ProbeHandler)
    except OSError as error:
        raise ConfigurationError(
            f"health and metrics cannot be served on {host} port {port} ({error.strerror or error}): give another "
            "--host or --port"
        ) from None
    with server:
        worker = threading.Thread(target=server.serve_forever, name="agentmodel-probes", daemon=True)
        worker.start()
        try:
            yield http_url(host, server.server_address[1])
        finally:
            server.shutdown()
            worker.join()
