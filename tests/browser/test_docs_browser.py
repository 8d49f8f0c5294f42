"""The built documentation in a real browser: search, widths, schemes, and what axe and the console say."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import violations

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
SEARCHES = {
    "approve": "suggest/reviews/",
    "deploy": "deploy/",
    "redact": "privacy/redact/",
    "IAM policy": "deploy/",
    "rate limit": "integrations/mcp/",
    "async": "integrations/asyncio/",
    "pytest": "testing/",
    "guardrails": "suggest/guard/",
    "cost": "warehouse/prices/",
    "token": "integrations/mcp/",
    "fork": "cache/guarantees/",
    "lambda": "deploy/",
    "delete user": "erase/",
    "GDPR": "erase/",
    "webhook": "suggest/reviews/",
    "audit": "suggest/reviews/",
    "human in the loop": "suggest/reviews/",
    "feedback": "suggest/outcomes/",
    "A/B test": "suggest/impact/",
    "holdout": "suggest/impact/",
    "batch": "models/",
    "install": "",
    "backup": "cli/",
    "crash": "cache/guarantees/",
    "migration": "warehouse/migrate/",
    "logging": "cache/operating/",
    "ranking": "suggest/evaluate/",
    "prompt injection": "suggest/plans/",
    "multi-tenant": "tenants/",
    "CSV": "what_not/",
    "streaming": "what_not/",
    "hallucination": "what_not/",
    "multi-agent": "what_not/",
    "memory": "what_not/",
    "vector": "what_not/",
    "fine-tuning": "what_not/",
    "rollback": "what_not/",
    "Slack": "suggest/reviews/",
    "Grafana": "monitor/",
    "Terraform": "deploy/",
    "CDK": "deploy/",
    "prompt": "suggest/plans/",
    "token usage": "warehouse/prices/",
    "latency": "integrations/",
    "dashboard": "deploy/",
    "retry": "integrations/",
    "embedding": "suggest/similar/",
    "JSON lines": "cli/",
    "Parquet": "export/",
    "Prometheus": "monitor/",
    "승인": "ko/reviews/",
    "배포": "ko/deploy/",
    "모니터링": "ko/deploy/",
    "비용": "ko/prices/",
    "삭제": "ko/cli/",
    "웹훅": "ko/reviews/",
    "차단": "ko/guard/",
    "타임아웃": "ko/guard/",
    "장애": "ko/health/",
    "마이그레이션": "ko/from_sample/",
    "환각": "ko/what_not/",
    "스트리밍": "ko/what_not/",
    "슬랙": "ko/reviews/",
    "프롬프트": "ko/plans/",
    "대시보드": "ko/deploy/",
    "재시도": "ko/langchain/",
    "임베딩": "ko/similar/",
    "지연": "ko/python/",
    "토큰": "ko/prices/",
}
REFERENCE = ("reference/client/", "reference/cli/")
"""Of the pages that are made of docstrings by one template, these."""

NARROW = (
    "assets/loop.svg", "assets/collections.svg", "assets/deployment.svg", "cache/life.svg", "suggest/review.svg",
    "warehouse/refresh.svg",
)  # fmt: skip
"""Pictures of the guides."""


def pages() -> list[str]:
    """The addresses of the site's pages, from its folders."""
    every = sorted(str(page.parent.relative_to(SITE)) + "/" for page in SITE.rglob("index.html"))
    return ["" if page == "./" else page for page in every if not page.startswith("reference/") or page in REFERENCE]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:  # it overrides a method
        """Log nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the built documentation is served."""
    if not (SITE / "ko" / "index.html").is_file():
        pytest.skip("the documentation is not built: make docs")
    built = (SITE / "ko" / "index.html").stat().st_mtime
    sources = [ROOT / "mkdocs.yml", ROOT / "mkdocs.ko.yml", *(ROOT / "docs").rglob("*.md")]
    if changed := [path.name for path in sources if path.stat().st_mtime > built]:
        pytest.skip(f"the documentation is older than {changed[0]}: make docs")
    handler = functools.partial(_Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def reader(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Opens a tab. No console error, failed or foreign request may be left."""
    contexts, faults = [], []

    def opened(*, scheme: str = "light", width: int = 1280) -> Any:
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 800}, base_url=address, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda line: faults.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("response", lambda found: faults.append(f"{found.status} {found.url}") if found.status >= 400 else 0)
        page.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith(address) else None)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [] == faults


def test_search_finds_what_people_ask_for(reader: Callable[..., Any], address: str) -> None:
    """The site's own search has the page of each topic among its first three hits."""
    page, found = reader(), {}
    for asked, wanted in SEARCHES.items():
        page.goto("ko/" if wanted.startswith("ko/") else "")
        page.locator(".md-search__input").click()
        page.locator(".md-search__input").fill(asked)
        page.keyboard.press("End")  # the theme asks when a key goes up
        page.locator(".md-search-result__item a").first.wait_for()
        links = page.locator(".md-search-result__item > a").evaluate_all("all => all.slice(0, 3).map(a => a.href)")
        found[asked] = [link.removeprefix(address).partition("?")[0].partition("#")[0] for link in links]

    assert {} == {asked: hits for asked, hits in found.items() if SEARCHES[asked] not in hits}


def test_every_page_fits_a_phone(reader: Callable[..., Any]) -> None:
    """At 375 px no page scrolls sideways."""
    page, wide = reader(width=375), []
    for path in pages():
        page.goto(path)
        if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
            wide.append(path)

    assert [] == wide


def test_pictures_have_their_texts_inside(reader: Callable[..., Any]) -> None:
    """No text of a picture is cut off at its side, and pictures of the guides are narrow enough for a phone."""
    page, cut, wide = reader(), [], []
    for path in sorted(SITE.rglob("*.svg")):
        page.set_content(path.read_text(encoding="utf-8"))
        name = path.relative_to(SITE).as_posix()
        width = page.evaluate("document.querySelector('svg').viewBox.baseVal.width")
        boxes = "all => all.map(text => [text.textContent, text.getBBox().x, text.getBBox().width])"
        cut += [
            f"{name}: {text}"
            for text, left, long in page.locator("text").evaluate_all(boxes)
            if left < 0 or left + long > width
        ]
        if name in NARROW and width > 400:
            wide.append(name)

    assert [] == cut
    assert [] == wide


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_each_kind_are_accessible(reader: Callable[..., Any], scheme: str) -> None:
    """Axe finds nothing on a page with pictures, with tables and code, of the reference and in Korean."""
    page = reader(scheme=scheme, width=375)
    found = {}
    for path in ("", "suggest/reviews/", "reference/keys/", "ko/"):
        page.goto(path)
        found[path] = violations(page, ".md-code__nav")  # two of these have one name; the theme makes them

    assert {} == {path: faults for path, faults in found.items() if faults}


def test_the_reader_chooses_the_scheme(reader: Callable[..., Any]) -> None:
    """The button in the header goes from what the system says to light, to dark, and back."""
    page, seen = reader(scheme="dark"), []
    page.goto("quickstart/")
    for name in ("Switch to light mode", "Switch to dark mode", "Follow the system"):
        seen.append(page.locator("body").get_attribute("data-md-color-scheme"))
        page.locator(f"label[title='{name}']:visible").click()

    assert ["slate", "default", "slate"] == seen
