"""Which kinds of calls are known to leave a read as it is."""

from __future__ import annotations

from agentmodel.suggest.guard._write_effects import (
    ANY,
    KindCounts,
    WriteMark,
    are_harmless,
    kinds_between,
    learned,
    values_of,
)

W1, W2 = values_of({"order": "#W1001"}), values_of(["w-2002", {"deep": 7001}])
SAFE, CULPRIT, NEW = KindCounts(same=2), KindCounts(changed=1, alone=1), KindCounts(same=1)


def mark(tool: str, values: frozenset[str] = W1, ended: str = "ok") -> WriteMark:
    return WriteMark(tool, values, ended)  # type: ignore[arg-type]  # one of three


def test_values_tell_things_apart() -> None:
    """Case and punctuation do not count; short values, flags and nothing are none; too many are any."""
    assert values_of({"a": "#W1001"}) == values_of([["w1001", True, None, "", "ab", 12]])
    assert 1 == len(W1)
    assert W2 == values_of({"x": ["W2002"], "y": 7001})
    assert frozenset() == values_of(None)
    assert 64 == len(values_of(list(range(100, 164))))
    assert frozenset({ANY}) == values_of(list(range(100, 165)))


def test_kinds_are_of_a_tool_and_of_what_it_shares_with_the_read() -> None:
    """A kind says whether a value is shared, and whether one of its calls succeeded."""
    marks = [mark("put"), mark("put", W2, "failed"), mark("stop", W2, "began"), mark("put", ended="began")]

    assert {"+put": True, "-put": False, "-stop": False} == kinds_between(marks, W1)
    assert {"+put": True} == kinds_between([mark("put", frozenset({ANY}))], W1)
    assert {ANY: False} == kinds_between([mark(ANY, frozenset(), "began")], W1)


def test_harmless_is_what_was_seen_twice_and_changed_nothing() -> None:
    """Every kind must be known; without any, nothing is outdated."""
    assert are_harmless([], {})
    assert are_harmless(["+put"], {"+put": SAFE})
    assert not are_harmless(["+put"], {"+put": NEW})
    assert not are_harmless(["+put"], {"+put": KindCounts(same=9, changed=1)})
    assert not are_harmless(["+put", "-put"], {"+put": SAFE})


def test_an_equal_result_speaks_for_the_calls_that_succeeded() -> None:
    """A call that failed or only began says nothing by an equal result."""
    assert [("+put", "same")] == learned({"+put": True, "-stop": False}, {}, changed=False)
    assert [] == learned({ANY: True, "+put": True}, {}, changed=False)
    assert [] == learned({}, {}, changed=True)


def test_a_change_is_laid_on_the_likeliest_kinds() -> None:
    """Succeeded calls, known culprits, kinds not known to be harmless, kinds that share a value, in this order."""
    both = {"+put": True, "-stop": True}

    assert [("+put", "changed"), ("+put", "alone")] == learned({"+put": True}, {}, changed=True)
    assert [("+put", "changed")] == learned(both, {}, changed=True)
    assert [("-stop", "changed")] == learned(both, {"-stop": CULPRIT}, changed=True)
    assert [("-stop", "changed")] == learned(both, {"+put": SAFE}, changed=True)
    assert [("-stop", "changed")] == learned({"+put": False, "-stop": True}, {}, changed=True)
    assert [("+put", "changed")] == learned({"+put": False, "-stop": False}, {}, changed=True)
    assert [("-go", "changed"), ("-stop", "changed")] == learned({"-go": True, "-stop": True}, {}, changed=True)
