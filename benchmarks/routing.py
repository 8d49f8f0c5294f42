"""Measure how well requests are routed to their domains, and how long that takes.

    python benchmarks/routing.py [FILE…]

With trace files, one for each domain, the first 60 % of the requests of each domain are known and the others are asked
for. Without, the requests are made up (`tests/routing_requests.py`). Times are the thread's
processor time, medians.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agentmodel.dynamo.models import Domain, Tool
from agentmodel.suggest._request_index import RequestIndex, calibrated, trigrams
from agentmodel.suggest._routing_store import Profile
from agentmodel.traces import read
from tests.routing_requests import DOMAINS, OTHER, TOOLS, requests

SHIPPED = 150  # requests of a domain, as a publish ships them

Known = dict[str, list[str]]
Asked = list[tuple[str, str]]
Texts = dict[str, list[frozenset[int]]]


def profile(name: str, description: str, tools: Sequence[str]) -> list[frozenset[int]]:
    """The texts of a domain without any request."""
    made = [Tool(agent_id="AGT1", tool_id=f"TL{n}", domain_id="DMN1", name=tool) for n, tool in enumerate(tools)]
    return Profile(Domain(domain_id="DMN1", name=name, description=description), tuple(made)).texts()


def of_traces(files: Sequence[Path]) -> tuple[Known, Asked, Texts]:
    """The earlier requests of each domain, newest first, the later ones, and the descriptions."""
    known: Known = {}
    later: Asked = []
    descriptions: Texts = {}
    for file in files:
        runs: dict[tuple[str, str, str], tuple[str, str]] = {}
        tools = set()
        for record in read(file, strict=True):
            tools.add(record.tool)
            run = ("" if record.started_at is None else record.started_at.isoformat(), record.request or "")
            key = (record.agent, record.user or "", record.session)
            runs[key] = min(runs.get(key, run), run)
            name = record.domain
        ordered = [request for _, request in sorted(runs.values(), key=lambda run: run[0])]
        cut = int(0.6 * len(ordered))
        known[name] = [text for text in dict.fromkeys(reversed(ordered[:cut])) if text]
        later += [(name, text) for text in ordered[cut:]]
        descriptions[name] = profile(name, "", sorted(tools))
    return known, later, descriptions


def made_up() -> tuple[Known, Asked, Texts]:
    """The same of the four made-up domains."""
    known = {name: requests(name)[:-60] for name in DOMAINS}
    later = [(name, text) for name in DOMAINS for text in requests(name)[-60:]]
    return known, later, {name: profile(*DOMAINS[name], TOOLS[name]) for name in DOMAINS}


def median(work: Callable[[str], object], texts: Sequence[str]) -> float:
    """The median of the milliseconds that work takes on each text."""
    spent = []
    for text in texts:
        began = time.thread_time()
        work(text)
        spent.append(time.thread_time() - began)
    return 1000 * statistics.median(spent)


def measured(known: Known, later: Asked, descriptions: Texts, other: Sequence[str]) -> None:
    """Print a row for each number of requests that are known."""
    print(f"{len(later)} later requests of {len(known)} domains, {len(other)} about other matters\n")
    print("| requests known of a domain | first | right and routed | wrong and routed | others routed | ms |")
    print("|---|---|---|---|---|---|")
    for most in (0, 5, 10, 30, 60, SHIPPED):
        grams = {name: [trigrams(text) for text in texts[:most]] for name, texts in known.items() if most}
        index = RequestIndex({name: [*grams.get(name, ()), *own] for name, own in descriptions.items()})
        thresholds: Mapping[str, float] = calibrated(grams, descriptions).thresholds if most else {}
        first = right = wrong = 0
        for name, text in later:
            scores = index.scores(trigrams(text))
            best = max(scores, key=lambda each: scores[each])
            fits = most and scores[best] >= thresholds[best]
            first += best == name
            right += bool(fits and best == name)
            wrong += bool(fits and best != name)
        found = [index.scores(trigrams(text)) for text in other]
        routed = [scores for scores in found if any(scores[name] >= least for name, least in thresholds.items())]
        spent = median(lambda text, index=index: index.scores(trigrams(text)), [text for _, text in later])
        share = (f"{count / len(later):.3f}" for count in (first, right, wrong))
        print(f"| {most or 'none, by descriptions'} | {' | '.join(share)} | {len(routed)} | {spent:.2f} |")


def at_scale() -> None:
    """Print what the largest index costs that is shipped: 1,500 requests of 20 domains."""
    draw = random.Random(1)  # noqa: S311  # made-up words
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(4000)]
    texts = {f"DMN{n}": [trigrams(" ".join(draw.choices(words, k=25))) for _ in range(75)] for n in range(20)}
    began = time.thread_time()
    index = RequestIndex(texts)
    built = time.thread_time() - began
    began = time.thread_time()
    calibrated(texts, {name: [] for name in texts})
    spent = time.thread_time() - began
    each = median(lambda text: index.scores(trigrams(text)), [" ".join(draw.choices(words, k=25)) for _ in range(100)])
    print("\n1,500 requests of 25 words, of 20 domains:")
    print(f"{each:.1f} ms a request, {built:.2f} s to read it into a process, {spent:.1f} s of a publish to calibrate")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="trace files, one for each domain")
    files = parser.parse_args().files
    measured(*(of_traces(files) if files else made_up()), OTHER)
    at_scale()


if __name__ == "__main__":
    main()
