"""What people do in the console, in a real browser."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel
from tests.browser.conftest import ODD, SESSION, ask, violations
from tests.browser.pictured import TEXTS

PICTURES = os.environ.get("CONSOLE_PICTURES")
"""A folder into which pictures are put: `make pictures` makes those of the documentation."""


@pytest.mark.parametrize(
    ("scheme", "locale", "width"),
    [("light", "en-GB", 1280), ("dark", "ko-KR", 1280), ("dark", "en-GB", 360), ("light", "ko-KR", 360)],
)
def test_every_page_is_clean(
    person: Callable[..., Any], model: AgentModel, scheme: str, locale: str, width: int
) -> None:
    """No console error, no CSP violation, nothing for axe, and no sideways scrolling, in all that a page is shown in."""
    page = person(scheme=scheme, locale=locale, width=width)
    _, long, _, question, *_ = [model.reviews.reference(review) for review in model.reviews.inbox(limit=4)]
    pages = {
        "inbox": "/inbox",
        "long": f"/inbox/{long}",
        "question": f"/inbox/{question}",
        "decisions": "/decisions",
        "sessions": "/sessions",
        "session": f"/sessions/USR001/{SESSION}",
        "agents": "/agents",
        "agent": "/agents/AGT002",
        "plans": "/plans",
        "effect": "/effect",
        "problem": "/sessions/USR999/SESSnone",
    }
    for name, path in pages.items():
        page.goto(path)
        if name == "plans":
            page.locator("#user").fill("USR001")
            page.locator("#request").fill("a quiet café near the stadium")
            page.locator(".ask button").click()
            page.wait_for_load_state()

        assert [] == violations(page), name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
        assert locale[:2] == page.locator("html").get_attribute("lang")
        if PICTURES:
            page.screenshot(path=Path(PICTURES) / f"{name}-{locale[:2]}-{scheme}-{width}.png")


@pytest.mark.parametrize(("language", "locale"), [("en", "en-GB"), ("ko", "ko-KR")])
def test_the_pictures_of_the_documentation(
    person: Callable[..., Any], model: AgentModel, language: str, locale: str
) -> None:
    """A question is a form of its tool's schema, a session shows what failed and who was waited for, a phone has cards."""

    def picture(page: Any, name: str) -> None:
        if PICTURES:
            page.screenshot(path=Path(PICTURES) / {"en": "assets"}.get(language, language) / f"console-{name}.png")

    told = TEXTS[language]
    page = person(locale=locale, height=940)
    question = model.reviews.inbox(told["queue"]).items[0]
    page.goto(f"/inbox/{model.reviews.reference(question)}")
    kinds = [field.evaluate("each => each.type") for field in page.locator("#decision [data-was] [name^=arg]").all()]

    assert ["textarea", "date", "textarea", "select-one", "textarea", "textarea"] == kinds
    picture(page, "question")
    page.goto(f"/sessions/USR001/{told['session']}")
    assert (4, 2, 1) == tuple(
        page.locator(f"svg.timeline {each}").count() for each in ("rect:not(.wait)", ".cross", ".wait")
    )
    assert told["why"] in page.locator(".steps").last.inner_text()
    picture(page, "session")
    phone = person(locale=locale, scheme="dark", width=375)
    phone.goto(f"/sessions?text={told['request'][:6]}")
    assert told["request"] in phone.locator(".rows").inner_text()
    phone.goto("/sessions")
    picture(phone, "sessions-phone")


def test_enter_in_a_field_decides_nothing(person: Callable[..., Any], model: AgentModel) -> None:
    """Enter in a field of one line sends no form: the first button would approve."""
    question = model.reviews.inbox("bookings").items[0]
    for script in (True, False):
        page = person(script=script)
        page.goto(f"/inbox/{model.reviews.reference(question)}")
        page.locator("input[type=date]").press("Enter")
        if not script:
            page.locator("#told.bad").wait_for()
        page.locator("#reason").fill("still here")

        assert "pending" == model.reviews.get(question).status


def test_odd_texts_are_text(person: Callable[..., Any], model: AgentModel) -> None:
    """Markup in a question is shown as it was written, runs nowhere, and what reorders is shown by its number."""
    odd = next(review for review in model.reviews.inbox(limit=50) if review.question == ODD)
    page = person()
    page.goto("/inbox/" + model.reviews.reference(odd))
    text = page.locator("#q").inner_text()

    assert "⟨U+202E⟩한글" in text
    assert "<img src=x onerror=alert(1)>" in text
    assert "{{7*7}}" in text
    assert 0 == page.locator("img").count()
    assert ODD == page.locator("#arg-1").input_value()


def test_twenty_decisions_by_keyboard(person: Callable[..., Any], model: AgentModel) -> None:
    """Questions are approved, edited and rejected without a mouse; one stray key decides nothing."""
    page = person()
    before = [model.reviews.reference(review) for review in model.reviews.inbox(limit=20)]
    for number in range(20):
        if number % 4 == 1:
            page.keyboard.press("r")
            page.keyboard.type("not today")
            page.keyboard.press("Control+Enter")
        elif number % 4 == 2:
            page.keyboard.press("e")
            page.keyboard.press("Control+End")
            page.keyboard.type(" 2")
            page.keyboard.press("Control+Enter")
        else:
            page.keyboard.press("a")
            page.keyboard.press("Enter")
        page.wait_for_url("**/inbox?queue=review&done=*")
        page.goto("/inbox")
    after = [model.reviews.get(ref) for ref in before]

    assert {"approved", "rejected", "edited"} == {review.status for review in after}
    assert {"USRkim"} == {review.decided_by for review in after}
    assert all(review.final_arguments["place"].endswith(" 2") for review in after if review.status == "edited")
    assert all(review.final_arguments["guests"] == 4 for review in after)


def test_two_reviewers_race(person: Callable[..., Any], model: AgentModel) -> None:
    """One decides; the other is told who did, and finds what it typed."""
    review = ask(model)
    ref = model.reviews.reference(review)
    kim, lee = person("kim"), person("lee")
    for page in (kim, lee):
        page.goto("/inbox/" + ref)
    lee.locator("#reason").fill("my long reason")
    kim.get_by_role("button", name="Approve", exact=True).click()
    kim.wait_for_url("**/inbox?queue=review&done=*")
    lee.get_by_role("button", name="Reject").click()
    lee.locator("#told.bad").wait_for()

    assert "USRkim" in lee.locator("#told").inner_text()
    assert "my long reason" == lee.locator("#reason").input_value()
    assert "approve" == model.reviews.get(ref).decision


def test_a_question_expires_while_it_is_open(person: Callable[..., Any], model: AgentModel) -> None:
    """The deadline passes under the reviewer's hands: it is told, and nothing that was typed is lost."""
    page = person()
    review = ask(model, answer_within=timedelta(seconds=20))
    page.goto("/inbox/" + model.reviews.reference(review))
    page.locator("#reason").fill("too late")
    while model.reviews.status(review) != "expired":
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Reject").click()
    page.locator("#told.bad").wait_for()

    assert "expired" in page.locator("#told").inner_text()
    assert "too late" == page.locator("#reason").input_value()


def test_a_change_is_marked_and_not_approved_away(person: Callable[..., Any], model: AgentModel) -> None:
    """What was proposed stands beside what was changed, and Approve is off until it is put back."""
    page = person()
    page.goto("/inbox/" + model.reviews.reference(ask(model)))
    approve = page.get_by_role("button", name="Approve", exact=True)

    assert approve.is_enabled()
    page.locator("#arg-1").fill("changed")
    assert approve.is_disabled()
    assert "was proposed: x" == page.locator(".changed .was").inner_text()
    page.locator("#arg-1").fill("x")
    assert approve.is_enabled()


def test_news_are_announced(person: Callable[..., Any], model: AgentModel) -> None:
    """A new question is announced without a reload, and what is being typed stays."""
    page = person()
    page.goto("/inbox/" + model.reviews.reference(ask(model)))
    page.locator("#reason").fill("typing")
    ask(model, answer_within=timedelta(hours=200))
    page.locator("#fresh").wait_for()

    assert "typing" == page.locator("#reason").input_value()


def test_it_works_without_script(person: Callable[..., Any], model: AgentModel) -> None:
    """A question is decided, and a filter set, without a line of script."""
    review = ask(model)
    page = person(script=False)
    page.goto("/inbox/" + model.reviews.reference(review))
    page.get_by_role("button", name="Approve", exact=True).click()
    page.goto("/sessions")
    page.locator("select[name=outcome]").select_option("failed")
    page.get_by_role("button", name="Show").click()

    assert "approve" == model.reviews.get(review).decision
    assert {"failed"} == set(page.locator(".rows .badge").all_inner_texts())
