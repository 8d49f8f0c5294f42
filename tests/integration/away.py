"""A DynamoDB endpoint that can be taken away: it refuses, never answers, answers errors, or answers something else."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["refuses", "hangs", "errors", "garbage"]

FAULTS: tuple[Fault, ...] = ("refuses", "hangs", "errors", "garbage")


class Endpoint:
    """An HTTP server on one port that passes requests on to a DynamoDB engine, until it is told to fail.

    Attributes:
        url: Its address, the same all the time.
        asked: How many requests reached it while it failed, by operation.
    """

    def __init__(self, engine: str) -> None:
        self._engine = urlsplit(engine).netloc
        self._fault: Fault | None = None
        self._over = threading.Event()  # of the present fault
        self.asked: Counter[str] = Counter()
        self._port = 0
        self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def fail(self, fault: Fault) -> None:
        """Begin to fail, for connections that are open already too."""
        self._over = threading.Event()
        self._fault = fault
        if fault == "refuses":
            self._stop()

    def recover(self) -> None:
        """Pass requests on again; requests that hang get no answer."""
        fault, self._fault = self._fault, None
        self._over.set()
        if fault == "refuses":
            self._start()

    @contextmanager
    def away(self, fault: Fault) -> Iterator[None]:
        """Fail while the block runs."""
        self.fail(fault)
        try:
            yield
        finally:
            self.recover()

    def close(self) -> None:
        self._over.set()
        if self._fault != "refuses":
            self._stop()

    def _start(self) -> None:  # noqa: C901  # one handler with one branch for each fault
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fault = owner._fault
                if fault is None:
                    return self._pass_on(body)
                owner.asked[self.headers["X-Amz-Target"].partition(".")[2]] += 1
                if fault == "errors":
                    return self._answer(500, b'{"__type": "InternalServerError", "message": "not today"}')
                if fault == "garbage":
                    return self._answer(200, b"<html>Welcome to the hotel</html>")
                if fault == "hangs":
                    owner._over.wait()
                self.close_connection = True
                return None

            def _pass_on(self, body: bytes) -> None:
                connection = HTTPConnection(owner._engine, timeout=30)
                try:
                    connection.request("POST", "/", body, dict(self.headers))
                    answer = connection.getresponse()
                    crc = answer.getheader("x-amz-crc32")
                    self._answer(answer.status, answer.read(), crc)
                finally:
                    connection.close()

            def _answer(self, status: int, body: bytes, crc: str | None = None) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(body)))
                if crc is not None:
                    self.send_header("x-amz-crc32", crc)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 100

            def handle_error(self, *_: object) -> None:
                """Say nothing: a client that gave up has closed its connection."""

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def _stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
