"""Requests of four made-up domains in two languages, and requests about other matters, for tests and the benchmark."""

from __future__ import annotations

import random
from itertools import product

__all__ = ["DOMAINS", "OTHER", "TOOLS", "requests"]

DOMAINS = {
    "DMNstore": ("매장 검색", "지역과 업종으로 매장을 찾아 주는 서비스. 맛집, 카페, 식당, 주차 가능 여부."),
    "DMNtrain": ("기차 예매", "열차 승차권을 조회하고 예매하거나 취소한다. 좌석, 환불, 시간표."),
    "DMNleave": ("Payroll and leave", "Salary slips, holiday requests, sick leave and overtime of employees."),
    "DMNreview": ("Code review", "Reviews pull requests, finds bugs, suggests tests and fixes failing builds."),
}
"""Names and descriptions."""

TOOLS = {
    "DMNstore": ("search_store", "geocodePlace"),
    "DMNtrain": ("search_train", "book_ticket"),
    "DMNleave": ("get_payslip", "request_leave"),
    "DMNreview": ("readDiff", "run_tests"),
}
"""Names of tools."""

_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "DMNstore": (
        ("잠실역 근처", "강남에서", "홍대 주변", "부산 해운대에", "성수동", "시청 앞", "광화문 근처", "여의도에서"),
        ("조용한 카페", "주차되는 식당", "맛집 세 곳", "브런치 카페", "회식할 고깃집", "디저트 가게", "24시간 식당"),
        ("찾아줘", "추천해 줘", "알려줄래?", "어디 있어?", "검색해 줘"),
    ),
    "DMNtrain": (
        ("내일 아침", "금요일 저녁", "다음 주 월요일", "오늘 밤", "주말에", "설날 전날"),
        ("부산 가는", "대전행", "강릉 가는", "동대구행", "여수 가는", "광주행"),
        (
            "기차표 두 장 예매해 줘",
            "열차 시간표 알려줘",
            "승차권 취소하고 환불해 줘",
            "창가 좌석으로 바꿔 줘",
            "KTX 예약",
        ),
    ),
    "DMNleave": (
        ("Please", "Could you", "I need you to", "Can somebody", "Kindly", "Hi,"),
        ("book my holiday", "request sick leave", "approve the overtime", "send my payslip", "check my vacation days"),
        ("for March", "from Monday to Friday", "of last week", "in August", "before the end of the year", "for today"),
    ),
    "DMNreview": (
        ("Review", "Find the bug in", "Write unit tests for", "Explain the failing build of", "Refactor", "Merge"),
        ("my pull request", "the parser module", "branch feature/cache", "the login service", "this commit"),
        ("before the release", "and run the tests", "in the repository", "that breaks CI", "with a race condition"),
    ),
}

OTHER = tuple(
    """What is the capital of Mongolia?|Write a poem about autumn leaves|How do I bake sourdough bread at home?
Who won the football world cup in 1998?|Translate 'good evening' into Spanish|Suggest a science fiction novel
What is the square root of 1764?|How tall is Mount Everest?|Explain how photosynthesis works|Plan a birthday party
My cat scratches the sofa all night|What is the best way to learn the guitar?|Summarise the plot of Hamlet
How does a heat pump work?|Will it rain in Oslo tomorrow?|Tell me a joke about penguins|Set an alarm for six
Which paint suits a bathroom ceiling?|How do I get red wine out of a carpet?|What are the rules of castling?
Compare Kant and Hume on causality|How often does a cactus need water?|Turn on the lights in the living room
What vitamins are in spinach?|Is it safe to eat raw eggs?|When is the next solar eclipse?|How do I knit a scarf?
Convert 12 miles into kilometres|Play some jazz music|Help me choose flowers that bloom in June
오늘 서울 날씨 어때?|김치찌개 끓이는 법|조선 시대 왕 이름을 순서대로 말해 봐|재미있는 농담 하나 해 봐|영어로 자기소개서 써 봐
피아노 배우려면 얼마나 걸려?|고양이가 밥을 안 먹어요|1부터 100까지 더하면 얼마야?|여섯 시에 알람 맞춰|세종대왕이 언제 태어났어?
수영을 잘하려면 어떻게 하나요|거실 불 꺼|주식 투자 초보가 읽을 책|조용한 음악 틀어|이 문장을 일본어로 번역해
부동산 계약할 때 주의할 점|태양계 행성은 몇 개야?|운동 계획을 세워 봐|감기에 좋은 차가 뭐야?|한글은 누가 만들었어?""".replace(
        "\n", "|"
    ).split("|")
)
"""Fifty requests that belong to none of the domains."""


def requests(domain_id: str, seed: int = 1) -> list[str]:
    """All different requests of a domain, in an order that the seed decides."""
    found = [" ".join(parts) for parts in product(*_PARTS[domain_id])]
    random.Random(f"{domain_id} {seed}").shuffle(found)  # noqa: S311  # an order, no secret
    return found
