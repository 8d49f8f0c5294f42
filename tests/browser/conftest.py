"""A served console over the demo's data, and Debian's Chromium driven by Playwright."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel
from agentmodel._demo.simulation import Simulation
from agentmodel._demo.world import seed
from agentmodel.callers import Tokens
from agentmodel.cli._console import serving
from agentmodel.dynamo.models import Review
from tests.browser.pictured import TEXTS, dinner

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PEOPLE = {"kim": ["reader", "reviewer", "operator", "curator"], "lee": ["reader", "reviewer"]}
ODD = "<img src=x onerror=alert(1)> \"'{{7*7}}</script> \u202e한글 \u2603"
SESSION, ASKING = "SESSdinner", "SESStonight"
_WATCH = """addEventListener('securitypolicyviolation',
    event => console.error('CSP ' + event.violatedDirective + ' ' + event.blockedURI))"""
_AXE = """exclude => axe.run({exclude}, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(found =>
    found.violations.map(each => each.id + ': ' + each.nodes[0].html.slice(0, 200)))"""


@pytest.fixture(scope="session")
def model() -> Iterator[AgentModel]:
    """The demo's world with forty sessions, and questions of every kind."""
    logging.disable(logging.ERROR)
    with AgentModel.local() as made:
        seed(made)
        Simulation(seed=7, sessions=40, as_of=datetime.now(UTC).date()).run(made)
        with made.session("USR001", "dinner for ten colleagues near Seomun Market", session_id=SESSION) as session:
            with session.process("search") as process, process.call("AGT001", "TL001", values={"near": ODD}) as call:
                call.result = ["Seomun Noodles"]
            for _ in range(2):
                with (
                    session.process("reserve") as process,
                    process.call("AGT003", "TL008", values={"guests": 10}) as call,
                ):
                    call.fail("no table for ten", error_type="FullyBooked")
            session.fail("no table for ten anywhere")
        with (
            made.session("USR001", "a table for four tonight", session_id=ASKING) as session,
            session.process("search") as process,
            process.call("AGT001", "TL001", values={"near": "Seomun Market"}) as call,
        ):
            call.result = ["Seomun Noodles"]
        for language in TEXTS:
            dinner(made, language)
        made.drain()
        made.refresh()
        made.publish()
        for number, question in enumerate(
            [ODD, "long " * 1000, *["서문시장에 자리를 예약할까요?", "Reserve a table?"] * 11]
        ):
            ask(made, question, arguments={"place": ODD if not number else "Seomun Market", "guests": 4, "notes": ["a"]},
                answer_within=timedelta(minutes=7 + 37 * number))  # fmt: skip
        yield made
    logging.disable(logging.NOTSET)


def ask(model: AgentModel, question: str = "Race?", **more: Any) -> Review:
    """Ask about a call in a session of the demo's first user."""
    told: dict[str, Any] = {"arguments": {"place": "x"}, "answer_within": timedelta(minutes=1)}
    told |= {"agent_id": "AGT003", "tool_id": "TL008", "reason": "a person has to look"}
    return model.reviews.ask("USR001", ASKING, question, **(told | more))


@pytest.fixture(scope="session")
def site(model: AgentModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the console, where people log in."""
    file: Path = tmp_path_factory.mktemp("tokens") / "tokens.json"
    file.write_text(
        json.dumps(
            [
                {
                    "sha256": hashlib.sha256(f"token-{name}".encode()).hexdigest(),
                    "user_id": f"USR{name}",
                    "roles": roles,
                }
                for name, roles in PEOPLE.items()
            ]
        ),
        encoding="utf-8",
    )
    with serving(model, port=0, tokens=Tokens.of_file(file), release=False) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium fonts-noto-cjk")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'agentmodel[browser]'")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        found = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()


@pytest.fixture
def person(browser: Any, site: str) -> Iterator[Callable[..., Any]]:
    """Opens a page for somebody who has logged in. No console error, CSP violation or foreign request may be left."""
    contexts, faults = [], []

    def opened(
        name: str = "kim",
        *,
        scheme: str = "light",
        locale: str = "en-GB",
        width: int = 1280,
        height: int = 800,
        script: bool = True,
    ) -> Any:
        context = browser.new_context(
            color_scheme=scheme, locale=locale, viewport={"width": width, "height": height}, java_script_enabled=script,
            base_url=site, reduced_motion="reduce",
        )  # fmt: skip
        contexts.append(context)
        context.add_init_script(_WATCH)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on(
            "response", lambda answer: faults.append(f"{answer.status} {answer.url}") if answer.status >= 500 else 0
        )
        page.on("console", lambda line: faults.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith(site) else None)
        page.goto("/log-in")
        page.locator("#token").fill(f"token-{name}")
        page.locator("form button.go").click()
        page.wait_for_url("**/inbox")
        return page

    yield opened
    for context in contexts:
        context.close()
    expected = "Failed to load resource: the server responded with a status of 4"  # a decision that comes too late
    assert [] == [fault for fault in faults if not fault.startswith(expected)]


def violations(page: Any, *exclude: str) -> list[str]:
    """What axe finds outside of some elements; it comes over the protocol, which the page's policy does not bind."""
    pytest.importorskip("axe_playwright_python", reason="pip install 'agentmodel[browser]'")
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(_AXE, list(exclude))
    return found
