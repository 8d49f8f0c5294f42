"""The demo world: a store search in Seoul with its stores, agents, tools and users.

All of it was written for the demo. The tools are plain functions over a dozen stores, so that the results that a
session records are computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentmodel._runtime.lease import WAIT
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import Agent, Domain, Tool, User

if TYPE_CHECKING:
    from agentmodel.client import AgentModel

__all__ = [
    "AGENTS", "CATEGORIES", "DOMAIN_ID", "PLACES", "ROUTINES", "STORES", "TOOLS", "USERS", "Category", "DemoTool",
    "Store", "catalogue", "seed",
]  # fmt: skip

DOMAIN_ID = "DMN001"
"""Id of the domain of the demo."""

_DOMAIN = ("매장 검색 (store search)", "Finds cafés, restaurants and their offers near a place in Seoul.")
_CREATED_AT = datetime(2025, 3, 2, tzinfo=UTC)  # of the users


@dataclass(frozen=True, slots=True)
class Store:
    """A store of the demo world.

    Attributes:
        name: Name of the store.
        place: The quarter it is in.
        kind: ``cafe``, ``korean``, ``grill`` or ``noodles``.
        seats: Number of seats at its largest table.
        closes: Hour of the day at which it closes; above 24 means after midnight.
        stars: Mean rating of its reviews, 1 to 5.
        lunch: Price of its lunch in won; 0 where it serves none.
    """

    name: str
    place: str
    kind: str
    seats: int
    closes: int
    stars: float
    lunch: int


STORES = (
    Store("온다 커피 Onda Coffee", "성수 Seongsu", "cafe", 4, 22, 4.6, 0),
    Store("달빛 로스터스 Dalbit Roasters", "성수 Seongsu", "cafe", 6, 24, 4.3, 9_000),
    Store("성수 국수집 Seongsu Noodles", "성수 Seongsu", "noodles", 4, 21, 4.1, 8_500),
    Store("화로상회 Hwaro Grill", "홍대 Hongdae", "grill", 12, 26, 4.4, 13_000),
    Store("골목 다방 Golmok Dabang", "홍대 Hongdae", "cafe", 4, 23, 4.0, 7_500),
    Store("밤참 분식 Bamcham", "홍대 Hongdae", "noodles", 4, 28, 4.2, 7_000),
    Store("한강 한상 Hangang Table", "잠실 Jamsil", "korean", 16, 22, 4.7, 15_000),
    Store("석촌 카페 Seokchon Café", "잠실 Jamsil", "cafe", 8, 22, 4.5, 8_000),
    Store("야구장 포차 Ballpark Pocha", "잠실 Jamsil", "grill", 10, 27, 3.9, 0),
    Store("북촌 손만두 Bukchon Mandu", "종로 Jongno", "korean", 8, 21, 4.6, 11_000),
    Store("인사 찻집 Insa Teahouse", "종로 Jongno", "cafe", 6, 20, 4.8, 0),
    Store("종로 심야식당 Jongno Midnight", "종로 Jongno", "noodles", 6, 29, 4.4, 9_500),
)
"""The stores that the agents of the demo search."""

PLACES = tuple(dict.fromkeys(store.place for store in STORES))
"""The places that have a store, each once."""


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of request.

    Attributes:
        name: Name of the category.
        kinds: Kinds of stores that fit it.
        requests: What users ask; ``{place}`` stands for the quarter.
    """

    name: str
    kinds: tuple[str, ...]
    requests: tuple[str, ...]


CATEGORIES = (
    Category("cafe search", ("cafe",), ("a quiet café near {place}", "{place} 근처 조용한 카페 찾아줘")),
    Category(
        "restaurant booking", ("korean", "grill"), ("a table for four in {place} tonight", "{place} 저녁 4명 예약")
    ),
    Category("group dinner", ("korean", "grill"), ("dinner for ten colleagues in {place}", "{place} 회식 10명 장소")),
    Category("lunch deals", ("cafe", "korean", "noodles"), ("a lunch deal in {place}", "{place} 점심 할인 되는 곳")),
    Category("야식 찾기", ("grill", "noodles"), ("{place}에서 새벽까지 하는 야식집", "late-night food in {place}")),
)
"""The kinds of requests that users of the demo make."""


@dataclass(frozen=True, slots=True)
class DemoTool:
    """A tool of the demo world.

    Attributes:
        agent_id: Id of the agent that uses it.
        tool_id: Id of the tool.
        name: Name of the tool.
        about: What it does.
        run: Returns the result for a place and the stores that fit the request.
        milliseconds: Mean duration of a call.
        fault: Makes the error with which it fails.
    """

    agent_id: str
    tool_id: str
    name: str
    about: str
    run: Callable[[str, list[Store]], Any]
    milliseconds: int
    fault: Callable[[], Exception]


AGENTS = (
    ("AGT001", "지도 에이전트 (map)", "Finds stores on the map and leads the way."),
    ("AGT002", "리뷰 에이전트 (reviews)", "Reads what visitors wrote and weighs it."),
    ("AGT003", "예약 에이전트 (booking)", "Looks for free tables and reserves one."),
    ("AGT004", "혜택 에이전트 (deals)", "Compares menus, prices and coupons."),
)
"""Id, name and description of each agent."""


def _names(found: list[Store]) -> list[str]:
    return [store.name for store in found]


def _best(found: list[Store]) -> Store:
    return max(found, key=lambda store: (store.stars, store.name))


def _timeout() -> Exception:
    return TimeoutError("no answer within 3 s")


def _unavailable() -> Exception:
    return ConnectionError("503 Service Unavailable")


def _fully_booked() -> Exception:
    return LookupError("no free table at that time")


TOOLS = (
    DemoTool("AGT001", "TL001", "find_on_map", "Stores of a kind near a place.",
             lambda _, found: _names(found), 240, _timeout),
    DemoTool("AGT001", "TL002", "opening_hours", "Until when each store is open.",
             lambda _, found: {store.name: f"until {store.closes % 24:02}:00" for store in found}, 120, _unavailable),
    DemoTool("AGT001", "TL003", "walking_route", "Minutes on foot to the first store.",
             lambda place, found: {"from": place, "to": found[0].name, "minutes": 3 + len(found[0].name) % 9},
             310, _timeout),
    DemoTool("AGT002", "TL004", "search_reviews", "Stars of the stores near a place.",
             lambda _, found: {store.name: store.stars for store in found}, 420, _timeout),
    DemoTool("AGT002", "TL005", "similar_stores", "Stores like the best one, elsewhere.",
             lambda _, found: [s.name for s in STORES if s.kind == _best(found).kind and s not in found][:3],
             530, _unavailable),
    DemoTool("AGT002", "TL006", "summarise_reviews", "What visitors say of the best store, in a line.",
             lambda _, found: f"{_best(found).name}: {_best(found).stars} stars, praised for its service",
             690, _timeout),
    DemoTool("AGT003", "TL007", "open_tables", "The largest free table of each store.",
             lambda _, found: {store.name: store.seats for store in found}, 350, _fully_booked),
    DemoTool("AGT003", "TL008", "reserve_table", "Reserves at the store with the largest table.",
             lambda _, found: {"reserved": max(found, key=lambda store: (store.seats, store.name)).name},
             480, _fully_booked),
    DemoTool("AGT003", "TL009", "ask_guests", "Asks the guests by message where they would go.",
             lambda place, found: {"place": place, "votes": {store.name: len(store.kind) for store in found}},
             160, _unavailable),
    DemoTool("AGT004", "TL010", "find_coupons", "Coupons of the stores near a place.",
             lambda _, found: {store.name: "10 %" for store in found if store.lunch}, 280, _unavailable),
    DemoTool("AGT004", "TL011", "compare_menus", "Stores that serve lunch, cheapest first.",
             lambda _, found: [s.name for s in sorted(found, key=lambda s: s.lunch) if s.lunch], 370, _timeout),
    DemoTool("AGT004", "TL012", "price_alert", "Watches the price of the best store.",
             lambda _, found: {"watching": _best(found).name}, 90, _timeout),
)  # fmt: skip
"""The tools of each agent."""

ROUTINES: Mapping[str, tuple[tuple[tuple[str, str], ...], ...]] = {
    "AGT001": (
        (("locate", "TL001"), ("guide", "TL003")),
        (("locate", "TL001"), ("check hours", "TL002"), ("guide", "TL003")),
    ),
    "AGT002": (
        (("gather", "TL004"), ("judge", "TL006")),
        (("gather", "TL004"), ("widen", "TL005"), ("judge", "TL006")),
    ),
    "AGT003": (
        (("look", "TL007"), ("reserve", "TL008")),
        (("look", "TL007"), ("ask guests", "TL009"), ("reserve", "TL008")),
    ),
    "AGT004": (
        (("compare", "TL011"), ("watch", "TL012")),
        (("compare", "TL011"), ("collect coupons", "TL010"), ("watch", "TL012")),
    ),
}
"""Two ways in which each agent works: its processes in order, each with its tool.

The tool in the middle of the longer way may break; the shorter way does not use it.
"""

USERS = (
    ("USR001", "김민아 Mina Kim"),
    ("USR002", "이준호 Junho Lee"),
    ("USR003", "박서연 Seoyeon Park"),
    ("USR004", "Daniel Weber"),
    ("USR005", "최하늘 Haneul Choi"),
    ("USR006", "정우진 Woojin Jung"),
    ("USR007", "Amélie Laurent"),
    ("USR008", "강지우 Jiwoo Kang"),
    ("USR009", "조은별 Eunbyeol Cho"),
    ("USR010", "윤도현 Dohyun Yoon"),
    ("USR011", "Sofia Rossi"),
    ("USR012", "한가람 Garam Han"),
)
"""Id and name of each user."""


def catalogue() -> tuple[Entity, ...]:
    """Return the domain, its agents, their tools and the users as entities.

    >>> from collections import Counter
    >>> sorted(Counter(entity.kind for entity in catalogue()).items())
    [('Agent', 4), ('Domain', 1), ('Tool', 12), ('UserInfo', 12)]
    """
    name, about = _DOMAIN
    return (
        Domain(domain_id=DOMAIN_ID, name=name, description=about),
        *(Agent(agent_id=id_, domain_id=DOMAIN_ID, name=name, description=about) for id_, name, about in AGENTS),
        *(_tool(tool) for tool in TOOLS),
        *(User(user_id=id_, name=name, created_at=_CREATED_AT) for id_, name in USERS),
    )


def _tool(tool: DemoTool) -> Tool:
    spec = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
    return Tool(
        agent_id=tool.agent_id,
        tool_id=tool.tool_id,
        domain_id=DOMAIN_ID,
        name=tool.name,
        description=tool.about,
        spec=spec,
        read_only=tool.name not in ("reserve_table", "ask_guests", "price_alert"),
    )


def seed(model: AgentModel, *, wait: float = WAIT) -> Counter[str]:
    """Add the catalogue to the table; entries that exist keep their scores.

    Args:
        model: The installation.
        wait: Seconds to wait for another seed, import or repair that is under way; 0 does not wait.

    Returns:
        Number of entries that were added, by kind.

    Raises:
        LeaseHeld: Another takes longer than ``wait``; the message says who works since when.
    """
    wanted = catalogue()
    with model.table.lease(doing="seed", wait=wait):
        stored = model.table.get_many([entity.key for entity in wanted], consistent=True)
        missing = [entity for entity, found in zip(wanted, stored, strict=True) if found is None]
        if missing:
            model.repository.put(*missing)
    return Counter(entity.kind for entity in missing)
