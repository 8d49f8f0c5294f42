"""Derived categories: which requests come under one name, and what the name is."""

from __future__ import annotations

import pytest

from agentmodel._values import categories
from agentmodel._values.categories import Founders, derived_name


def assigned(*requests: str) -> list[str]:
    """The category of each request, one after the other."""
    founders = Founders()
    return [founders.nearest(request) or founders.found(request) for request in requests]


@pytest.mark.parametrize(
    ("founder", "same", "other"),
    [
        ("find a café near the stadium", "please find me a café near the station", "cancel my last order"),
        ("강남역 근처 맛집 찾아줘", "강남역근처맛집찾아줘", "부산 가는 기차표 예매"),
        ("강남역 근처 맛집 찾아줘", "홍대 근처 맛집도 찾아줘", "내일 날씨 어때"),
        ("今日の東京の天気は？", "明日の東京の天気は？", "寿司を予約して"),
        ("найди кафе у вокзала", "найди мне кафе у вокзала", "отмени мой заказ"),
    ],
)
def test_similar_requests_come_together(founder: str, same: str, other: str) -> None:
    """In any script a request like an earlier one joins its category; another one founds its own."""
    first, second, third = assigned(founder, same, other)

    assert derived_name(founder) == first == second
    assert derived_name(other) == third


def test_the_name_is_the_founders_alone() -> None:
    """The name has the founder's beginning on one line, and differs where any letter does; spelling changes nothing."""
    long = "find a café  near the\nstadium " * 30

    assert "~find a café near the stadium find a café near t…" == derived_name(long).partition(" · ")[0]
    assert derived_name(long) != derived_name(long[:100])
    assert derived_name("find a cafe!").partition(" · ")[2] == derived_name("Find, a CAFÉ").partition(" · ")[2]
    assert len(derived_name("가" * 9_000)) <= 60
    assert "~find a café · " == derived_name("find\x1b[31m a café\u202e")[:15]


def test_the_nearest_founder_is_joined() -> None:
    """Of several that are similar enough, the most similar one has the request."""
    founders = Founders([("~a", "find a café near the stadium"), ("~b", "find a hotel")])

    assert "~b" == founders.nearest("find a hotel now")
    assert "~a" == founders.nearest("find a café near the park")
    assert founders.nearest("cancel it") is None


def test_only_the_newest_founders_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many kinds a user asks for, a request is compared with so many founders only."""
    monkeypatch.setattr(categories, "MAX_FOUNDERS", 3)
    founders = Founders((f"~{word}", word) for word in ("one", "two", "three", "four"))

    assert (None, "~two", "~four") == tuple(map(founders.nearest, ("one", "two", "four")))
