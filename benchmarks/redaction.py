"""Measure what redacting a text costs, beside other ways to do it, in one run.

    python benchmarks/redaction.py

Texts have 200 characters. The peers are a plain loop of ``re.sub`` over the same patterns, and, where they are
installed, scrubadub and the pattern recognizers of Presidio, without a language model. Times are the thread's processor
time of one call: the minimum of many rounds, in which all take turns.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import time
from collections.abc import Callable

from agentmodel._redaction import Redaction
from agentmodel._values import secret_forms as forms
from agentmodel.privacy import PatternRedactor

PROSE = (
    "Find a café near the stadium that opens before eight and has room for twelve people, quiet enough to talk, not "
    "more than ten minutes on foot, and tell me which of them takes reservations for the day."
)
KOREAN = "경기장 근처에서 여덟 시 전에 여는 카페를 찾아 주세요. 열두 명이 앉을 수 있고, 이야기하기에 조용해야 합니다. "
TEXTS = {
    "prose": f"{PROSE:.<200}",
    "Korean": (KOREAN * 4)[:200],
    "JSON with ids and times": (
        '{"place": "stadium", "session": "SESS20250614001", "id": "3f2b8c1e-9a77-4d0e-8a31-5c1d2e3f4a5b", "at": '
        '"2025-06-14T09:00:00.123456Z", "n": 1718355600123, "url": "https://example.com/stores/17?near=west"}'
    )[:198]
    + '"}',
    "with an address": f"write to mina@example.com: {PROSE}"[:200],
}


def plain(text: str) -> str:
    """Replace every pattern by itself, as it is often written."""
    for kind, pattern in PATTERNS.items():
        text = pattern.sub(f"[{kind}]", text)
    return text


PATTERNS = {
    "private_key": forms.PRIVATE_KEY,
    "api_key": forms.API_KEY,
    "bearer": forms.BEARER,
    "password": forms.PASSWORD,
    "email": re.compile(r"[\w.%+'-]+@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}"),
    "card": re.compile(r"\b(?:\d[ -]?){13,19}\b"),
    "iban": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b"),
    "resident_number": re.compile(r"\b\d{6}-?[1-8]\d{6}\b"),
    "business_number": re.compile(r"\b\d{3}-\d{2}-\d{5}\b"),
    "phone": re.compile(r"(?:\+\d{1,3}[ .-]?)?\(?\d{2,4}\)?[ .-]?\d{3,4}[ .-]?\d{4}\b"),
}


def peers() -> dict[str, Callable[[str], object]]:
    """The ways that are compared."""
    found: dict[str, Callable[[str], object]] = {
        "agentmodel": PatternRedactor(),
        "agentmodel, as a stored text": Redaction(PatternRedactor()).text,
        "a loop of `re.sub`": plain,
    }
    if importlib.util.find_spec("scrubadub") is not None:
        import scrubadub

        found["scrubadub"] = scrubadub.Scrubber().clean
    if importlib.util.find_spec("presidio_analyzer") is not None:
        import spacy
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        class Blank(SpacyNlpEngine):
            """Splits texts into words, and recognizes no names."""

            def __init__(self) -> None:
                super().__init__()
                self.nlp = {"en": spacy.blank("en")}

        analyzer = AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"])
        found["Presidio's patterns"] = lambda text: analyzer.analyze(text, language="en")
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure what redacting a text costs.")
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    ways = peers()
    best = {(way, text): float("inf") for way in ways for text in TEXTS}
    for _ in range(rounds):
        for (way, text), least in best.items():
            run, given = ways[way], TEXTS[text]
            calls = 1000 if least < 1e-4 else 20
            began = time.thread_time()
            for _ in range(calls):
                run(given)
            best[way, text] = min(least, (time.thread_time() - began) / calls)
    print(f"| µs for 200 characters | {' | '.join(TEXTS)} |")
    print(f"|---|{'---|' * len(TEXTS)}")
    for way in ways:
        cells = [f"{best[way, text] * 1e6:.1f} ({best[way, text] / best['agentmodel', text]:.1f}×)" for text in TEXTS]
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
