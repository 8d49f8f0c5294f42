"""What commands print for people is there in Korean, too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

import agentmodel.cli
from agentmodel.cli._learn import ToolLine, _health
from agentmodel.cli._output import Output
from agentmodel.cli._units import Volume, usage
from agentmodel.cli._words import KOREAN
from agentmodel.dynamo.models import VERDICTS, ReviewStatus
from agentmodel.suggest.evaluate import RANKINGS, Verdict
from agentmodel.suggest.evaluate._impact import TEXTS
from agentmodel.suggest.evaluate._regimes import REGIMES
from agentmodel.suggest.health import HealthState
from agentmodel.suggest.plan import PlanSource
from agentmodel.suggest.review import Decision

STATES = {
    *get_args(ReviewStatus), *get_args(PlanSource), *get_args(Decision), *VERDICTS, "yes", "no",
    *REGIMES, *(set(RANKINGS) - {"classic", "evidence"}), *get_args(Verdict), *TEXTS.values(),
    *(row.made_of for row in usage(Volume(calls=1000))),
}  # fmt: skip
"""What is shown of a review, a plan or a measurement by its name; the two rankings have the same names in Korean."""

SAME = {
    " by {name}",
    " with {error}",
    "AUC",
    "PK",
    "SK",
    "SNIPS",
    "evidence, 90 %",
    "id",
    "In {domain}:",
    "oracle, 90 %",
    "{mean} ({low} to {high})",
}
"""What is the same in Korean."""

FILES = sorted(Path(agentmodel.cli.__file__).parent.glob("_*.py"))
ELSEWHERE = [Path(agentmodel.cli.__file__).parents[1] / "suggest" / name for name in ("_run_check.py", "evaluate")]
"""Where else texts are made that commands show."""


def texts(node: ast.AST) -> Iterator[str]:
    """The texts that an expression can be; of a conditional one both, of a text with values in it a mark."""
    match node:
        case ast.Constant(value=str(text)) if text:
            yield text
        case ast.JoinedStr():
            yield "a text with values in it"
        case ast.IfExp(body=body, orelse=other):
            yield from (*texts(body), *texts(other))
        case ast.Dict(values=values) | ast.Tuple(elts=values) | ast.List(elts=values):
            yield from (text for value in values for text in texts(value))
        case ast.Starred(value=value) | ast.Subscript(value=value):
            yield from texts(value)


def told(tree: ast.Module) -> Iterator[str]:
    """What a file hands to tables, `say`, `tell` and `line`: titles, columns, empty tables, sentences."""
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, []).append(node.value)
    for node in ast.walk(tree):
        for given in _given(node):
            values = assigned.get(given.id, []) if isinstance(given, ast.Name) else [given]
            yield from (_column(text) for value in values for text in texts(value))


def _given(node: ast.AST) -> list[ast.expr]:
    """What a call of `table`, `say`, `tell` or `line` is given to be shown."""
    match node:
        case ast.Call(func=ast.Attribute(attr="table"), args=[title, columns, *_], keywords=keywords):
            return [title, columns, *(word.value for word in keywords if word.arg == "empty")]
        case ast.Call(func=ast.Attribute(attr="say" | "tell"), args=[text]):
            return [text]
        case ast.Call(func=ast.Attribute(attr="line"), args=[ast.Constant(value=str()) as text]):
            return [text]
        case ast.Call(func=ast.Attribute(attr="line"), args=[ast.JoinedStr(values=parts)]):
            return [part for part in parts if isinstance(part, ast.Constant) and re.search("[a-z]", str(part.value))]
        case _:
            return []


def _column(text: str) -> str:
    return text.removesuffix(">")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_table_is_translated(path: Path) -> None:
    """Each title, column and sentence that a command shows has a Korean text."""
    shown = set(told(ast.parse(path.read_text(encoding="utf-8"))))

    assert [] == sorted(shown - KOREAN.keys())


def test_every_translation_is_used_and_has_the_same_values() -> None:
    """Each text is one of a command, and its Korean one has the same names in braces."""
    elsewhere = [file for path in ELSEWHERE for file in (path.glob("*.py") if path.is_dir() else [path])]
    files = [path for path in (*FILES, *elsewhere) if path.stem != "_words"]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    written = {each.value for tree in trees for each in ast.walk(tree) if isinstance(each, ast.Constant)}
    columns = {text.removesuffix(">") for text in written if isinstance(text, str)}
    places = re.compile(r"\{\w+\}")

    assert [] == [text for text in KOREAN if text not in columns and text not in STATES]
    assert [] == sorted(STATES - KOREAN.keys())
    assert [] == [en for en, ko in KOREAN.items() if sorted(places.findall(en)) != sorted(places.findall(ko))]
    assert [] == [en for en, ko in KOREAN.items() if not re.search("[가-힣]", ko) and en not in SAME]


def test_a_table_is_printed_in_korean(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Title, columns and yes or no are Korean; data is not translated, whatever it says."""
    monkeypatch.setenv("AGENTMODEL_LANGUAGE", "ko")
    Output().table("Domains that fit the request", ("domain", "likelihood>"), [("yes", True), ("domain", 0.5)])
    printed = capsys.readouterr().out

    assert "요청에 맞는 도메인" in printed.splitlines()[0]
    assert "도메인" in printed
    assert "yes" in printed
    assert "예" in printed
    assert 1 == printed.count("domain")


def test_health_is_told_in_korean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each state of a tool has its Korean words, also where it fails for some users alone."""
    monkeypatch.setenv("AGENTMODEL_LANGUAGE", "ko")
    row = ToolLine(None, "AGT001", "finder", "TL001", "search")
    states = [replace(row, state=state, failing_users=users) for state in get_args(HealthState) for users in (0, 1, 2)]
    told = [_health(Output(), each) or "" for each in states]

    assert [] == [each for each in told if re.search("[a-z]", each)]


def test_a_language_that_there_is_not() -> None:
    """Another language is refused as every wrong setting is, with what it may be."""
    from agentmodel.config import Settings
    from agentmodel.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError, match="must be 'en' or 'ko'"):
        Settings.load(language="fr")
