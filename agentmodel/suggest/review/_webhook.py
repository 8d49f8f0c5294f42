"""Report questions to where reviewers are, by signed HTTP requests in the format of Standard Webhooks.

The format is that of https://www.standardwebhooks.com (version 1, HMAC with SHA-256), which receivers check with
libraries of theirs. A request names the question and says what it is about, by ids and by names of the catalogue. The
words of a user (question, arguments, reason) are not in it: who may read them is decided where the question is opened.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from agentmodel._log import logger
from agentmodel._runtime.background import BackgroundWorker
from agentmodel._runtime.process import renew_in_child
from agentmodel.config import Settings
from agentmodel.dynamo.models import Review

__all__ = ["PAUSES", "ReviewEvent", "ReviewWebhook", "signature"]

_log = logger(__name__)

ReviewEvent: TypeAlias = Literal["review.asked", "review.escalated", "review.expired"]

PAUSES: Final = (1.0, 5.0, 15.0)  # seconds before the second attempt, and before the others
_TIMEOUTS = (5, 10)  # seconds for a connection, and for an answer
_MOST_WAITING = 1_000
_AGAIN = {408, 409, 425, 429}  # beside those from 500: what may go well later


class _Report(NamedTuple):
    id: str
    body: bytes


class ReviewWebhook:
    """Sends a request for each event, in the background.

    A request that fails is sent again up to three times, with the same id; then it is dropped with a warning.

    Args:
        settings: The address and the secret.
        pauses: Seconds before each further attempt.
        now: Returns epoch seconds.
    """

    def __init__(
        self, settings: Settings, *, pauses: Sequence[float] = PAUSES, now: Callable[[], float] = time.time
    ) -> None:
        assert settings.review_webhook_url is not None  # noqa: S101  # the caller asks for it
        assert settings.review_webhook_secret is not None  # noqa: S101  # the settings have both or neither
        self._url = settings.review_webhook_url.get_secret_value()
        self._key = base64.b64decode(settings.review_webhook_secret.get_secret_value().removeprefix("whsec_"))
        self._pauses, self._now = pauses, now
        self._worker = BackgroundWorker("webhook", max_waiting=_MOST_WAITING, batch=20, linger=0.0)
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin anew in a forked child."""
        self._closing = threading.Event()
        self._session: Any = None

    def close(self) -> None:
        """Send what waits, without pauses between attempts."""
        self._closing.set()
        self._worker.close()

    def flush(self, timeout: float) -> bool:
        """Wait until what was reported is sent or dropped; return whether it is."""
        return self._worker.flush(timeout)

    def report(self, event: ReviewEvent, review: Review) -> None:
        """Report an event of a question."""
        self._worker.put(self._send, [_message(event, review)])

    def _send(self, messages: Sequence[_Report]) -> None:
        for message in messages:
            problem = self._attempts(message)
            if problem:
                _log.warning(
                    "webhook.dropped: message %s to %s was not taken: %s", message.id, urlsplit(self._url).hostname,
                    problem,
                )  # fmt: skip

    def _attempts(self, message: _Report) -> str:
        """Send a message until it is taken; return why it was not."""
        for pause in (*self._pauses, None):
            problem, again = self._attempt(message)
            if not problem or not again or pause is None:
                return problem
            self._closing.wait(pause)
        return ""  # not reached: the last pause is None

    def _attempt(self, message: _Report) -> tuple[str, bool]:
        """Send a message once; return why it was not taken, and whether it may be later."""
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError
        from botocore.httpsession import URLLib3Session
        from botocore.utils import get_environ_proxies

        if self._session is None:
            self._session = URLLib3Session(
                timeout=_TIMEOUTS, max_pool_connections=1, proxies=get_environ_proxies(self._url)
            )
        at = int(self._now())
        headers = {
            "content-type": "application/json",
            "user-agent": "agentmodel",
            "webhook-id": message.id,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(self._key, message.id, at, message.body),
        }
        request = AWSRequest("POST", self._url, headers, message.body, stream_output=True)
        try:
            answer = self._session.send(request.prepare())
        except BotoCoreError as error:
            return f"{type(error).__name__}", True  # its text has the address, which may hold a secret
        answer.raw.close()  # what the body says does not matter
        status = answer.status_code
        return ("", False) if 200 <= status < 300 else (f"status {status}", status >= 500 or status in _AGAIN)


def signature(key: bytes, message_id: str, at: int, body: bytes) -> str:
    """Return the signature of a request, as Standard Webhooks defines it.

    Args:
        key: The shared key.
        message_id: The header ``webhook-id``.
        at: The header ``webhook-timestamp``, epoch seconds.
        body: The request's body.

    >>> signature(b"k" * 24, "msg_1", 1731705121, b"{}")
    'v1,2xSCdefD0nXFZnYyoYczeaJum1twbQeBU8nY03qSv38='
    """
    signed = f"{message_id}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _message(event: ReviewEvent, review: Review) -> _Report:
    reference = f"{review.user_id}/{review.session_id}/{review.review_id}"
    version = f"{event} {reference} {review.version}"
    data = {
        "review": reference,
        "queue": review.queue_name,
        "phase": review.phase,
        "status": review.status,
        "agent_id": review.agent_id,
        "tool_id": review.tool_id,
        "asked_at": _moment(review.asked_at),
        "answer_until": _moment(review.answer_until),
        "on_expiry": review.on_expiry,
    }
    body = {"type": event, "timestamp": _moment(datetime.now(UTC)), "data": data}
    message_id = f"msg_{hashlib.sha256(version.encode()).hexdigest()[:24]}"
    return _Report(message_id, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()
