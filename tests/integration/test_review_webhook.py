"""Questions are reported to where reviewers are: signed, repeated where that may help, and never in anybody's way."""

from __future__ import annotations

import base64
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.exceptions import ConfigurationError
from agentmodel.suggest.review._webhook import ReviewWebhook, signature
from tests.integration.suggest_world import catalogue, run

KEY = b"0123456789abcdef01234567"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@dataclass
class Receiver:
    """A server that keeps what it is sent and answers with the given statuses, then with 204."""

    statuses: list[int] = field(default_factory=list)
    got: queue.Queue[tuple[dict[str, str], bytes]] = field(default_factory=queue.Queue)
    url: str = ""

    def next(self) -> tuple[dict[str, str], dict[str, Any]]:
        """The next request: its headers, and its body after its signature was checked."""
        headers, body = self.got.get(timeout=60)
        expected = signature(KEY, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        assert expected == headers["webhook-signature"]
        return headers, json.loads(body)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that listens on this machine."""
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.got.put(({name.lower(): value for name, value in self.headers.items()}, body))
            status = made.statuses.pop(0) if made.statuses else 204
            self.send_response(status)
            if status == 302:
                self.send_header("location", made.url)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that the base has
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}/reviews"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def opened(settings: Settings, url: str) -> AgentModel:
    model = AgentModel.from_settings(
        Settings.load(**(settings.model_dump() | {"review_webhook_url": url, "review_webhook_secret": SECRET}))
    )
    model.table.create()
    catalogue(model)
    return model


def ask(model: AgentModel, session_id: str, **more: Any) -> Any:
    told: dict[str, Any] = {"agent_id": "AGT001", "tool_id": "TL001", "arguments": {"place": "home of a person"}}
    return model.reviews.ask("USR001", session_id, "words of a person?", **(told | more))


def test_new_escalated_and_expired_questions_are_reported(settings: Settings, receiver: Receiver) -> None:
    """Each is reported once, by what names it and not by anybody's words; asking again reports nothing."""
    with opened(settings, receiver.url) as model:
        session_id = run(model)
        asked = ask(model, session_id, call_id="1", answer_within=timedelta(days=1), escalate_after=timedelta(hours=1),
                    escalate_to="boss")  # fmt: skip
        ask(model, session_id, call_id="1")
        reference = model.reviews.reference(asked)
        now = datetime.now(UTC)
        model.reviews._now = lambda: now + timedelta(hours=2)
        assert 1 == model.reviews.sweep().escalated
        model.reviews._now = lambda: now + timedelta(days=2)
        assert 1 == model.reviews.sweep("boss").expired
        messages = [receiver.next() for _ in range(3)]

    bodies = [body for _, body in messages]
    assert ["review.asked", "review.escalated", "review.expired"] == [body["type"] for body in bodies]
    assert ["review", "boss", "boss"] == [body["data"]["queue"] for body in bodies]
    assert [reference] * 3 == [body["data"]["review"] for body in bodies]
    assert ["pending", "pending", "expired"] == [body["data"]["status"] for body in bodies]
    assert 3 == len({headers["webhook-id"] for headers, _ in messages})
    assert receiver.got.empty()
    assert "of a person" not in json.dumps(bodies)
    assert {"agent_id": "AGT001", "tool_id": "TL001", "phase": "pre", "on_expiry": "reject"}.items() <= bodies[0][
        "data"
    ].items()


@pytest.mark.parametrize(
    ("statuses", "attempts"), [([503] * 9, 4), ([400], 1), ([410], 1), ([302], 1), ([500, 429, 200], 3)]
)
def test_attempts_are_bounded(
    settings: Settings,
    receiver: Receiver,
    statuses: list[int],
    attempts: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At most four attempts; none more where the server refuses for good or points elsewhere. A drop is logged."""
    receiver.statuses = list(statuses)
    told = Settings.load(
        **(settings.model_dump() | {"review_webhook_url": receiver.url, "review_webhook_secret": SECRET})
    )
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        catalogue(model)
        review = ask(model, run(model))
    webhook = ReviewWebhook(told, pauses=(0.0, 0.0, 0.0))
    webhook.report("review.asked", review)
    webhook.close()

    assert attempts == receiver.got.qsize()
    assert len({receiver.next()[0]["webhook-id"] for _ in range(attempts)}) == 1
    assert (statuses[-1] != 200) == ("webhook.dropped" in caplog.text)
    assert "/reviews" not in caplog.text


def test_a_server_that_is_away_is_in_nobodys_way(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """A question is asked as if there were no webhook; closing the model makes the last attempts and says what is lost."""
    with opened(settings, "http://127.0.0.1:1/hook") as model:
        review = ask(model, run(model))

        assert "pending" == review.status
    assert "webhook.dropped" in caplog.text
    assert "/hook" not in caplog.text


def test_the_signature_is_that_of_the_standard() -> None:
    """The example of the specification has the signature that it says."""
    body = b'{"event_type":"ping","data":{"success":true}}'
    key = base64.b64decode("plJ3nmyCDGBKInavdOK15jsl")

    assert "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=" == signature(key, "msg_loFOjxBNrRLzqYUf", 1731705121, body)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"review_webhook_url": "https://example.com"}, "must be set together"),
        ({"review_webhook_url": "http://example.com", "review_webhook_secret": SECRET}, "must be a URL such as https"),
        ({"review_webhook_url": "example.com", "review_webhook_secret": SECRET}, "must be a URL such as https"),
        ({"review_webhook_url": "https://e.com", "review_webhook_secret": "secret"}, "must be whsec_ and 24 to 64"),
        ({"review_webhook_url": "https://e.com", "review_webhook_secret": "whsec_c2VjcmV0"}, "must be whsec_"),
        ({"review_webhook_url": "https://e.com", "review_webhook_secret": "whsec_!"}, "must be whsec_"),
    ],
)
def test_a_wrong_webhook_is_refused(given: dict[str, str], message: str) -> None:
    """An address that is not safe and a secret that is none are refused, without their values."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Settings.load(**given)

    assert "c2VjcmV0" not in str(caught.value)
    assert "example.com'" not in str(caught.value)
