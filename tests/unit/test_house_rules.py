"""What linters do not know about this house, read off the source."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "agentmodel").rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if path.parent.name != "typing")
EXCEPTIONS = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:\s*no cover|fmt:\s*(?:off|skip)|pyright:\s*ignore)(.*)")

if not PACKAGE:
    pytest.skip("the source folder is out of the way: these tests read it", allow_module_level=True)


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _at(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def test_every_test_tells_its_promise() -> None:
    """Each test has a docstring, which is its promise."""
    silent = [
        f"{_at(path, function)} {function.name}"
        for path in TESTS
        for function in _functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]

    assert [] == silent


def test_a_class_name_means_one_thing() -> None:
    """No two classes of the package have the same name, so a name in a review or a log says which class it is."""
    places = defaultdict(list)
    for path in PACKAGE:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(_at(path, node))

    assert {} == {name: where for name, where in places.items() if len(where) > 1}


def test_every_exception_to_a_rule_has_its_reason() -> None:
    """Whoever switches a check off for a line names the check and says why."""
    unexplained = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
        for path in PACKAGE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for found in [EXCEPTIONS.search(line)]
        if found is not None and not found[1].startswith("fmt")
        if not re.search(r"(:\s*[A-Z]+\d+|\[[\w,-]+\]|no cover).*?(#|-|:)\s*`?\w+", found[0])
    ]

    assert [] == unexplained


def test_key_text_is_joined_and_split_in_one_place() -> None:
    """Only keys.py puts a number sign between two parts of a key, or takes a key apart at one."""
    joining = re.compile(r"""(split\(['"]#|\}#\{|\+ ?['"]#|['"]#['"]\.join)""")
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
        for path in PACKAGE
        if path.name != "keys.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if joining.search(line)
    ]

    assert [] == found


def test_no_error_is_swallowed() -> None:
    """No `except` of everything has an empty body."""
    empty = [
        _at(path, node)
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        if node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
        if all(isinstance(each, ast.Pass) for each in node.body)
    ]

    assert [] == empty


def test_no_test_measures_time() -> None:
    """Benchmarks measure, tests decide: no assertion of a test is about how long something took."""
    timed = re.compile(r"^\s*assert .*\b(elapsed|duration|perf_counter|took)\b(?!_)")
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
        for path in TESTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if timed.match(line)
    ]

    assert [] == found


def test_every_lock_is_made_anew_in_a_forked_child() -> None:
    """A lock that a thread of the parent held stays locked in a child for ever: `ForkSafeLock`, or a `renew`."""
    made = re.compile(r"threading\.(Lock|RLock|Condition|Semaphore)\(")
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE}
    found = [str(path.relative_to(ROOT)) for path, source in sources.items() if made.search(source)]
    kept = [name for name in found if "def renew(" not in (ROOT / name).read_text(encoding="utf-8")]

    assert len(found) > len(kept)
    assert ["agentmodel/embedded/_moto.py"] == kept, "moto answers in the process that started it"
