"""`/healthz` and `/metrics` of the drainer, the console and the MCP server: what they say, and to whom."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from socket import has_dualstack_ipv6
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, build_opener

import pytest

pytest.importorskip("prometheus_client", reason="/metrics is an extra")
pytest.importorskip("itsdangerous", reason="the console is an extra")
pytest.importorskip("mcp", reason="the MCP server is an extra")

from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient

from agentmodel import AgentModel
from agentmodel._monitoring.metrics import METRICS
from agentmodel._monitoring.probes import ProbeAnswer, Probes, serving_probes
from agentmodel.cache._drainer import _LongestWait
from agentmodel.callers import Caller, Tokens, roles_of
from agentmodel.cli import main
from agentmodel.console import console
from agentmodel.exceptions import CacheUnavailable, ConfigurationError, TableUnavailable
from agentmodel.integrations.mcp import mcp_server
from tests.integration.suggest_world import catalogue, run

PARTS = ("drain", "console", "mcp")
CANARY = "canary7731"


@pytest.fixture(scope="module")
def model() -> Iterator[AgentModel]:
    """A user whose every text and id has a mark recorded, was learned from and waits for an answer."""
    with AgentModel.local(dynamodb_timeout=10.0) as made:
        catalogue(made)
        session = run(made, f"USR{CANARY}", request=f"find {CANARY}", category=CANARY)
        made.drainer.drain()
        made.refresh()
        made.publish()
        made.reviews.ask(f"USR{CANARY}", session, f"May it {CANARY}?")
        made.suggest(f"USR{CANARY}", category=CANARY)
        run(made, f"USR{CANARY}", category=CANARY)
        made.settle()
        yield made


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """The token of a scraper, which has no role."""
    file = tmp_path_factory.mktemp("tokens") / "tokens.json"
    entry = {"sha256": hashlib.sha256(b"scraper").hexdigest(), "user_id": "USRscraper", "roles": []}
    file.write_text(json.dumps([entry]), encoding="utf-8")
    return Tokens.of_file(file)


def page(probes: Probes) -> str:
    answer = probes.metrics(known=None, client="127.0.0.1", host="localhost:9464")
    assert 200 == answer.status, answer.text
    return answer.text


def values(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """The values of our metrics by their full name and their labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("agentmodel_") and not sample.name.endswith("_created"):
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.mark.parametrize("part", PARTS)
def test_a_page_has_the_metrics_of_its_part(model: AgentModel, part: str) -> None:
    """Each metric that the list names for a part is on its page, with the list's labels, and no other one."""
    text = page(Probes(model, part))
    expected = {metric.page_name for metric in METRICS.values() if part in metric.parts}
    labels = {
        family.name: set(sample.labels) for family in text_string_to_metric_families(text) for sample in family.samples
    }

    assert expected == values(text).keys()
    for metric in METRICS.values():
        if part in metric.parts:
            assert set(metric.labels) == labels[metric.page_name.removesuffix("_total")]


@pytest.mark.parametrize("part", PARTS)
def test_a_page_has_no_data_of_users(model: AgentModel, part: str) -> None:
    """No text and no id that was recorded is on a page, nor the name of the table."""
    text = page(Probes(model, part)) + Probes(model, part).health().text

    assert [] == [word for word in (CANARY, "AGT0", "TL0", "DMN0", "SESS", "café", model.table.name) if word in text]


def test_the_figures_are_those_of_the_stores(model: AgentModel) -> None:
    """The pages say what the journal, the drainer, the reads and the reviews say themselves."""
    run(model, f"USR{CANARY}", category=CANARY)
    model.settle()
    stats = model.stats()
    assert model.journal is not None
    assert stats is not None
    drained, seen = values(page(Probes(model, "drain"))), values(page(Probes(model, "console")))

    assert model.journal.stats().depth == drained["agentmodel_journal_depth"][()] > 0
    assert model.drainer.total.done == drained["agentmodel_drained_total"][()] > 0
    assert 0 < drained["agentmodel_call_to_table_seconds"][()] < 3600
    assert 0 < seen["agentmodel_call_to_score_seconds"][()] < 3600
    assert (1, 0) == (seen["agentmodel_reviews_open"][()], seen["agentmodel_reviews_over_hour"][()])
    assert any(reads.hits for reads in stats.patterns.values())
    for pattern, reads in stats.patterns.items():
        assert (reads.hits, reads.misses) == tuple(
            seen["agentmodel_reads_total"][pattern, result] for result in ("hits", "misses")
        )


def test_many_readers_read_the_stores_once(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within five seconds a second request is answered from what the first one read, and later one reads again."""
    now = [0.0]
    probes = Probes(model, "mcp", now=lambda: now[0])
    inbox, asked = model.reviews.inbox, []

    def counted(queue: str, **more: Any) -> Any:
        asked.append(queue)
        return inbox(queue, **more)

    monkeypatch.setattr(model.reviews, "inbox", counted)
    for at in (0.0, 4.0, 6.0):
        now[0] = at
        page(probes)

    assert 2 == len(asked)


def apps(model: AgentModel, tokens: Tokens | None) -> Iterator[Starlette]:
    caller = None if tokens else Caller(user_id="USR001", roles=roles_of(["reader"]))
    yield console(model, tokens=tokens, caller=caller)
    yield mcp_server(model, caller=caller, verifier=tokens).streamable_http_app()


@pytest.mark.parametrize(
    ("has_tokens", "client", "host", "token", "status"),
    [
        (False, "127.0.0.1", "localhost", None, 200),
        (False, "::ffff:127.0.0.1", "localhost", None, 200),  # as a server that listens on IPv6 has it
        (False, "::ffff:10.0.0.1", "localhost", None, 403),
        (False, "127.0.0.1", "evil.example", None, 403),  # a page of the web that resolves to this machine
        (False, "10.0.0.1", "localhost", None, 403),
        (False, "127.0.0.1", "[::1", None, 403),  # a name that cannot be read
        (False, "127.0.0.1", "", None, 403),
        (True, "10.0.0.1", "history.example", "scraper", 200),
        (True, "10.0.0.1", "history.example", "guessed", 401),
        (True, "127.0.0.1", "localhost", None, 401),
    ],
)
def test_who_reads_metrics(
    model: AgentModel, tokens: Tokens, *, has_tokens: bool, client: str, host: str, token: str | None, status: int
) -> None:
    """Without tokens this machine alone, under a name of it; with tokens whoever has one. Health answers everybody."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    for app in apps(model, tokens if has_tokens else None):
        asked = TestClient(app, base_url="http://localhost", client=(client, 4000))
        metrics = asked.get("/metrics", headers={**headers, "host": host})
        health = asked.get("/healthz", headers={"host": host})

        assert (status, 200) == (metrics.status_code, health.status_code), metrics.text
        assert ("agentmodel_journal_depth" in metrics.text) == (status == 200)
        assert ("Bearer" if status == 401 else None) == metrics.headers.get("www-authenticate")
        assert {"status": "ok", "dynamodb": "closed", "valkey": "closed"} == health.json()


def fetched(url: str, token: str | None = None) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with build_opener().open(Request(url, headers=headers), timeout=60) as answer:  # noqa: S310  # of this machine
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_drainer_answers_both(model: AgentModel, tokens: Tokens) -> None:
    """Beside the drain, a small server answers: with tokens whoever has one, health everybody, nothing else at all."""
    with serving_probes(Probes(model, "drain"), host="127.0.0.1", port=0, tokens=tokens) as address:
        assert 401 == fetched(f"{address}/metrics")[0]
        status, text = fetched(f"{address}/metrics", "scraper")
        assert (200, True) == (status, "agentmodel_drained_total" in text)
        assert 200 == fetched(f"{address}/healthz")[0]
        assert 404 == fetched(f"{address}/other")[0]
        port = int(address.rpartition(":")[2])
        with (
            pytest.raises(ConfigurationError, match=f"port {port} .* give another"),
            serving_probes(Probes(model, "drain"), host="127.0.0.1", port=port, tokens=None),
        ):
            pass
    with serving_probes(Probes(model, "drain"), host="127.0.0.1", port=0, tokens=None) as address:
        assert 200 == fetched(f"{address}/metrics")[0]
        asked = HTTPConnection(address.removeprefix("http://"), timeout=60)
        answers = []
        for method, path, host in (("GET", "/metrics", "[::1"), ("HEAD", "/healthz", "localhost")):
            asked.request(method, path, headers={"host": host})
            with asked.getresponse() as answer:
                answers.append((answer.status, answer.read()[:11]))
            asked.close()
        assert [(403, b"not allowed"), (200, b"")] == answers


@pytest.mark.skipif(not has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_the_drainer_listens_on_ipv6(model: AgentModel) -> None:
    """Its address has the brackets that a URL needs, and answers."""
    with serving_probes(Probes(model, "drain"), host="::1", port=0, tokens=None) as address:
        assert address.startswith("http://[::1]:")
        assert 200 == fetched(f"{address}/metrics")[0]
        assert 200 == fetched(f"{address}/healthz")[0]


def test_other_machines_need_tokens(model: AgentModel, capsys: pytest.CaptureFixture[str]) -> None:
    """Without tokens the drainer serves no other machine, and a port alone makes no service of it."""
    with (
        pytest.raises(ConfigurationError, match="without tokens"),
        serving_probes(Probes(model, "drain"), host="0.0.0.0", port=0, tokens=None),  # noqa: S104  # is refused
    ):
        pass

    assert 2 == main(["drain", "--port", "9464"])
    assert "--keep-on" in capsys.readouterr().err


def test_a_drainer_that_hangs_is_not_healthy(model: AgentModel) -> None:
    """Five minutes without a pass are a fault; a drain that works sets the time anew."""
    now = [model.drainer.last_pass_at]
    probes = Probes(model, "drain", now=lambda: now[0])
    assert 200 == probes.health().status
    now[0] += 301
    stuck = probes.health()
    before = model.drainer.last_pass_at
    model.drain()

    assert (503, "stuck") == (stuck.status, json.loads(stuck.text)["status"])
    assert before < model.drainer.last_pass_at


@pytest.mark.parametrize("part", PARTS)
def test_a_store_that_is_away_is_a_figure(
    model: AgentModel, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While a store does not answer the page has the rest, the log says what is missing, and health stays."""

    def away(*_: object, **__: object) -> None:
        raise TableUnavailable("no answer")

    def gone() -> None:
        raise CacheUnavailable("no answer")

    assert model.journal is not None
    monkeypatch.setattr(model.reviews, "inbox", away)
    monkeypatch.setattr(model.journal, "stats", gone)
    found = values(page(Probes(model, part)))

    assert {(): 1.0} == found["agentmodel_valkey_down"]
    assert {"agentmodel_journal_depth", "agentmodel_reviews_open"}.isdisjoint(found)
    assert "watch.valkey_down" in caplog.text
    assert (part != "drain") == ("metrics.not_read" in caplog.text)
    assert 200 == Probes(model, part).health().status


def test_without_the_extra_health_answers(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where prometheus-client is not installed, /metrics says the pip line."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    probes = Probes(model, "console")
    answer: ProbeAnswer = probes.metrics(known=True, client="", host="")

    assert 501 == answer.status
    assert "pip install 'agentmodel[metrics]'" in answer.text
    assert 200 == probes.health().status


def test_the_longest_wait_is_of_two_minutes() -> None:
    """The wait of an entry counts in the minute in which it was written and in the next one; then shorter ones show."""
    now = [600.0]
    waits = _LongestWait(now=lambda: now[0])

    assert 0.0 == waits.longest()
    waits.add([b"570000-0", b"599000-1"])
    assert 30.0 == waits.longest()
    now[0] = 719.0
    waits.add([b"718000-0"])
    assert 30.0 == waits.longest()
    now[0] = 721.0
    assert 1.0 == waits.longest()
    waits.add([])
    assert 1.0 == waits.longest()
    now[0] = 900.0
    assert 0.0 == waits.longest()
