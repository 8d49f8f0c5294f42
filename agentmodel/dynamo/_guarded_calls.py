"""Let every call of one botocore client go through a circuit breaker, and end at the deadline of its block.

The calls of `agentmodel.dynamo.table.Table` and those of PynamoDB's own methods pass here. A call that gets no answer
opens the breaker: there was no connection, no answer in time, something that is not DynamoDB's protocol, or an error of
the server (HTTP 5xx) after botocore's retries. Throttling and rejected requests are answers. A time-out is not waited
for again: botocore's retries are for errors that come at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
)
from botocore.exceptions import ConnectionError as BotocoreConnectionError
from botocore.parsers import ResponseParserError

from agentmodel._runtime.circuit_breaker import CircuitBreaker, reason_of
from agentmodel._runtime.deadline import seconds_left
from agentmodel.dynamo._fast_client import NOT_JSON
from agentmodel.exceptions import CircuitOpen, TableUnavailable

__all__ = ["NO_ANSWER", "GuardedCalls"]

NO_ANSWER = (HTTPClientError, BotocoreConnectionError, IncompleteReadError, ResponseParserError)
"""The exceptions of a call that did not get an answer of DynamoDB."""

_NOT_AGAIN = (ReadTimeoutError, ConnectTimeoutError, EndpointConnectionError)


class GuardedCalls:
    """Guards all calls of one botocore client.

    Args:
        client: The client, from now on guarded; no other client is changed.
        breaker: Opened by calls without an answer; while it is open, calls raise `CircuitOpen`.
        where: Region or endpoint, as errors name it.
        seconds: The client's time-out; a call is not tried again after it.
    """

    def __init__(self, client: Any, breaker: CircuitBreaker, *, where: str, seconds: float) -> None:
        self._breaker, self._where, self._seconds = breaker, where, seconds
        self._send: Callable[[str, dict[str, Any]], dict[str, Any]] = client._make_api_call  # noqa: SLF001  # of all calls
        client._make_api_call = self.call  # noqa: SLF001  # botocore offers no hook around a whole call
        client.meta.events.register_first("needs-retry.dynamodb", self._stop_retries)

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a call, as botocore does.

        Raises:
            CircuitOpen: The breaker is open.
        """
        if not self._breaker.allows():
            raise CircuitOpen(self._where, self._breaker.reason)
        left = seconds_left()
        if left is None:
            return self.attempt(operation, request)
        began = time.monotonic()
        try:
            return self._within(left, operation, request)
        except TimeoutError:
            if time.monotonic() - began >= self._seconds:  # what comes byte by byte meets no time-out of botocore
                self._breaker.record_failure(f"{self._where} did not answer {operation} within {left:g} s")
            raise ReadTimeoutError(endpoint_url=self._where, error="the deadline has passed") from None

    def attempt(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Make a call whatever the breaker says; the probe's way."""
        try:
            answer = self._send(operation, request)
        except ClientError as error:
            if _status(error.response) >= 500:
                self._breaker.record_failure(f"{self._where} answered {operation} with {reason_of(error)}")
            raise
        except NO_ANSWER as error:
            self._breaker.record_failure(f"{self._where} did not answer {operation}: {reason_of(error)}")
            raise
        if NOT_JSON in answer:
            self._breaker.record_failure(f"{self._where} answered {operation} with a text that is not JSON")
        return answer

    def probe(self, operation: str, request: dict[str, Any]) -> None:
        """Raise when DynamoDB does not answer; an error that it answers is an answer."""
        try:
            answer = self._send(operation, request)
        except ClientError as error:
            if _status(error.response) >= 500:
                raise
            return
        if NOT_JSON in answer:
            raise TableUnavailable(f"{self._where} answered with a text that is not JSON")

    def _within(self, seconds: float, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer; raise TimeoutError if that takes longer. The call then goes on without anybody."""
        if seconds <= 0:
            raise TimeoutError
        done: Future[dict[str, Any]] = Future()

        def run() -> None:
            try:
                done.set_result(self.attempt(operation, request))
            except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to the caller
                done.set_exception(error)

        try:
            threading.Thread(target=run, name="agentmodel-call", daemon=True).start()
        except RuntimeError:  # the interpreter is ending and starts no thread
            return self.attempt(operation, request)
        return done.result(seconds)

    def _stop_retries(
        self,
        *,
        request_dict: dict[str, Any],
        operation: Any,
        response: Any = None,
        caught_exception: Exception | None = None,
        **_: Any,
    ) -> None:
        """End a call where a retry would wait again; botocore asks before each of its retries."""
        began = request_dict["context"].setdefault("agentmodel.began", time.monotonic())
        late = self._breaker.state == "open" or time.monotonic() - began > self._seconds
        if caught_exception is not None:
            if late or isinstance(caught_exception, _NOT_AGAIN):
                raise caught_exception
        elif late and response is not None and response[0].status_code >= 500:
            raise ClientError(response[1], operation.name)


def _status(answer: Mapping[str, Any]) -> int:
    status: int = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status
