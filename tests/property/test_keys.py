"""The formats of the keys: one class for each of their six rules, the methods are what follows from it."""

from __future__ import annotations

import ast
import itertools
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import agentmodel
from agentmodel import keys
from agentmodel.access.patterns import PATTERNS
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Review,
    Suggestion,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.exceptions import KeyFormatError, ValidationError
from agentmodel.keys import KeyFormat
from agentmodel.testing import (
    HARD_TEXTS,
    agents,
    entities,
    executions,
    ids,
    key_texts,
    numbers,
    processes,
    reviews,
    scores,
    times,
    tools,
)
from agentmodel.testing._strategies import _short_ids

PACKAGE = Path(agentmodel.__file__).parent
Format = KeyFormat[*tuple[Any, ...]]
Values = tuple[Any, ...]

PREFIXES = ("DMN", "AGT", "TL", "USR", "SESS", "PRC")

FORMATS: list[tuple[Format, st.SearchStrategy[Values]]] = [
    (keys.DOMAIN, st.tuples(ids("DMN"))),
    (keys.AGENT, st.tuples(ids("AGT"))),
    (keys.USER, st.tuples(ids("USR"))),
    (keys.SESSION_ITEMS, st.tuples(ids("USR"), ids("SESS"))),
    (keys.PUBLISH, st.just(())),
    (keys.ERASED, st.just(())),
    (keys.DELETED, st.tuples(key_texts())),
    (keys.LEASE, st.tuples(key_texts())),
    (keys.ROUTING, st.just(())),
    (keys.METADATA, st.just(())),
    (keys.TOOL, st.tuples(ids("TL"))),
    (keys.SESSION, st.tuples(ids("SESS"))),
    (keys.PROCESS, st.tuples(ids("PRC"))),
    (
        keys.EXECUTION,
        st.tuples(_short_ids("PRC"), _short_ids("AGT"), _short_ids("TL"), numbers().map(lambda number: number or 1)),
    ),
    (keys.MAPPING, st.tuples(key_texts())),
    (keys.REVIEW, st.tuples(key_texts())),
    (keys.SUGGESTIONS, st.tuples(ids("USR"))),
    (keys.SUGGESTION, st.tuples(key_texts())),
    (keys.FENCE, st.tuples(key_texts())),
    (keys.DOMAINS, st.just(())),
    (keys.MAPPINGS, st.tuples(numbers())),
    (keys.REVIEW_QUEUE, st.tuples(key_texts())),
    (keys.AGENT_SCORE, st.tuples(scores())),
    (keys.TOOL_NAME, st.tuples(key_texts())),
    (keys.TEXT, st.tuples(key_texts())),
    (keys.REVIEW_DUE, st.tuples(times())),
]

WORDED = (
    keys.PUBLISH, keys.ERASED, keys.DELETED, keys.LEASE, keys.ROUTING, keys.METADATA, keys.MAPPING, keys.REVIEW,
    keys.SUGGESTION, keys.FENCE, keys.DOMAINS, keys.MAPPINGS, keys.REVIEW_QUEUE, keys.AGENT_SCORE, keys.TOOL_NAME,
)  # fmt: skip
"""Formats that begin with a word, not with a value."""

built = st.sampled_from(FORMATS).flatmap(lambda each: st.tuples(st.just(each[0]), each[1]))
"""A format and values that it takes."""


KINDS: tuple[type[Entity], ...] = (
    Domain, Agent, Tool, User, UserSession, UserSessionProcess, ToolExecution, UserToolMapping, Review, Suggestion,
)  # fmt: skip


def wire(text: str) -> bytes:
    """Text as DynamoDB compares it."""
    return text.encode("utf-8")


class TestOnlyTheKeysModuleJoinsOrSplitsKeyText:
    """Only `keys.py` joins or splits key text; keys are no arguments, are read-only, and follow their attributes."""

    # Where `#` stands for something else, or a warehouse cuts keys, which cannot call Python.
    ALLOWED = (
        "keys.py",
        "_values/secret_forms.py",  # regular expressions of secrets
        "_values/urls.py",  # the fragment of a URL
        "testing/_strategies.py",  # free text that holds the separator
        "cache/_lua.py",  # Lua: the length operator
        "aws/template.py",  # comments of YAML
        "cli/",  # the heading of a column of numbers
        "dynamo/_update_expression.py",  # names in DynamoDB's expressions
        "redshift/",  # SQL: split_part of a key, the parts of a tool sequence
    )
    PLACEHOLDER = re.compile(r"[^#]*(#[a-z]+\b[^#]*)+")  # names in DynamoDB's expressions

    @pytest.mark.parametrize(
        "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix()
    )
    def test_no_other_module_holds_the_separator(self, path: Path) -> None:
        """Outside keys.py no string of the package's source holds `#`, but where it is something else."""
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(self.ALLOWED):
            pytest.skip("it may hold the separator")
        tree = ast.parse(path.read_text("utf-8"))
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        found = [
            f"{name}:{node.lineno}: {node.value!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
            if "#" in node.value and not self.PLACEHOLDER.fullmatch(node.value)
        ]

        assert [] == found

    @pytest.mark.parametrize(
        "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix()
    )
    def test_no_other_module_looks_inside_a_key(self, path: Path) -> None:
        """Outside keys.py the separator of the keys module is not used."""
        if path.name == "keys.py":
            pytest.skip("it is the module itself")
        names = {node.attr for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)}

        assert set() == names & {"_SEPARATOR", "_AFTER_SEPARATOR", "_escape", "_unescape"}

    @given(entities())
    def test_keys_are_no_constructor_arguments(self, entity: Entity) -> None:
        """No entity takes a key in its constructor."""
        values = {name: value for name, value in entity.attribute_values.items() if value is not None}
        for name in ("pk", "sk", "gsi1_pk", "gsi1_sk", "PK"):
            with pytest.raises(ValidationError, match="has no such attribute"):
                type(entity)(**(values | {name: "X"}))

    @given(entities())
    def test_keys_are_read_only(self, entity: Entity) -> None:
        """Setting a key of an entity is refused, and says to set the attributes."""
        for name in ("pk", "sk", "gsi1_pk", "gsi1_sk"):
            with pytest.raises(ValidationError, match="set those"):
                setattr(entity, name, "X")

    @given(agents(), ids("DMN"), scores())
    def test_an_agents_index_keys_follow(self, agent: Agent, domain_id: str, score: float) -> None:
        """An agent that changes domain or score is in the index under the new ones."""
        agent.domain_id, agent.score = domain_id, score
        item = agent.to_item()

        assert keys.DOMAIN.build(domain_id) == item["GSI1_PK"]["S"]
        assert keys.AGENT_SCORE.build(score) == item["GSI1_SK"]["S"]

    @given(tools(), key_texts())
    def test_a_tools_index_key_follows(self, tool: Tool, name: str) -> None:
        """A tool that is renamed is in the index under the new name."""
        tool.name = name

        assert keys.TOOL_NAME.build(name) == tool.to_item()["GSI1_SK"]["S"] == tool.gsi1_sk

    @given(reviews(), key_texts(), times())
    def test_a_review_is_in_the_index_while_pending(self, review: Review, queue: str, due: datetime) -> None:
        """A review without a queue has no index keys; with one it has them; decided, it has none again."""
        review.queue, review.due_at = queue, due
        pending = review.to_item()
        review.queue = review.due_at = None
        decided = review.to_item()

        assert keys.REVIEW_QUEUE.build(queue) == pending["GSI1_PK"]["S"]
        assert keys.REVIEW_DUE.build(due) == pending["GSI1_SK"]["S"]
        assert set() == {"GSI1_PK", "GSI1_SK"} & set(decided)

    @given(entities(), st.data())
    def test_a_part_of_the_primary_key_cannot_change(self, entity: Entity, data: st.DataObject) -> None:
        """Setting a part of PK or SK to something else is refused: copy the entity and delete the old one."""
        made = type(entity).partition.attributes + type(entity).sort.attributes
        for field in made:
            before = getattr(entity, field.name)
            other = before + 1 if isinstance(before, int) else before[:-1] + ("x" if before[-1] != "x" else "y")
            with pytest.raises(ValidationError, match="copy the item to the new key and delete this one"):
                setattr(entity, field.name, other)
            setattr(entity, field.name, before)


class TestInjective:
    """Two different entities never share a key."""

    def test_every_format_is_tried(self) -> None:
        """The formats of this file are all formats that there are."""
        assert {id(made_by) for made_by, _ in FORMATS} == {
            id(value) for value in vars(keys).values() if isinstance(value, KeyFormat)
        }

    @given(entities(), entities())
    def test_over_all_pairs(self, one: Entity, other: Entity) -> None:
        """Entities of one primary key are of one kind, and one in everything that identifies them."""
        same = type(one) is type(other) and identity(one) == identity(other)

        assert same == (one.key == other.key)

    @given(st.data())
    def test_within_one_partition(self, data: st.DataObject) -> None:
        """Where everything is alike but one part, the keys differ exactly when that part does."""
        home = {"user_id": "USR1", "session_id": "SESS1"}
        parts = {"process_id": _short_ids("PRC"), "agent_id": _short_ids("AGT"), "tool_id": _short_ids("TL")}
        one = data.draw(executions(**home, **parts))
        change = data.draw(st.sampled_from([*parts, "attempt"]))
        held = {name: getattr(one, name) for name in [*parts, "attempt"] if name != change}
        other = data.draw(executions(**home, **held))

        assert (getattr(one, change) == getattr(other, change)) == (one.key == other.key)

    def test_free_text_cannot_imitate_the_separator(self) -> None:
        """Texts made of `#`, `%` and their escapes have keys of their own."""
        assert len(HARD_TEXTS) == len({keys.MAPPING.build(text) for text in HARD_TEXTS})

    def test_no_prefix_begins_another(self) -> None:
        """An id is of one kind: no prefix begins another."""
        assert [] == [pair for pair in itertools.permutations(PREFIXES, 2) if pair[0].startswith(pair[1])]

    @given(built, built)
    def test_formats_of_one_place_share_no_key(self, one: tuple[Format, Values], other: tuple[Format, Values]) -> None:
        """Whatever two formats build is equal only if `overlaps` says it may be."""
        (ours, mine), (theirs, yours) = one, other
        if ours is theirs:
            assert (mine == yours) == (ours.build(*mine) == theirs.build(*yours))
        elif ours.build(*mine) == theirs.build(*yours):
            assert ours.overlaps(theirs)

    def test_primary_keys_of_two_kinds_never_meet(self) -> None:
        """By their declarations alone, no two kinds can have one PK and one SK."""
        for one, other in itertools.combinations(KINDS, 2):
            both = one.partition.format.overlaps(other.partition.format) and one.sort.format.overlaps(other.sort.format)
            assert not both, (one, other)

    @pytest.mark.parametrize(
        "character",
        [*"#% \t\n/\\\"'$&*()!?,;<>[]{}|^`\x00\x7f\u200b\u00a0\ufeff", "½", "€", "😀", "Ⅷ"],
        ids=lambda character: f"U+{ord(character):04X}",
    )
    def test_an_id_refuses_other_characters_by_name(self, character: str) -> None:
        """The error of an id names the field and the character."""
        for prefix in PREFIXES:
            with pytest.raises(ValidationError) as caught:
                keys.check_id("the_field", f"{prefix}a{character}b", prefix)

            assert "the_field" == caught.value.field
            assert repr(character) in caught.value.rule
            assert unicodedata.name(character, f"U+{ord(character):04X}") in caught.value.rule
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("token", ["", "x" * 129, "\u0301a", "e\u0301", "\u1112\u1161\u11ab", "\ud800"])
    def test_an_id_has_one_spelling_and_a_length(self, token: str) -> None:
        """Ids that are empty, too long, begin with a combining mark or are not in NFC are refused."""
        with pytest.raises(ValidationError, match="agent_id"):
            keys.check_id("agent_id", f"AGT{token}", "AGT")

    @given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
    def test_spellings_that_look_alike_are_one_text(self, text: str) -> None:
        """Free text in NFC and NFD has one key."""
        composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))

        assert keys.TEXT.build(composed) == keys.TEXT.build(decomposed)

    @given(
        st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3),
        st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3),
    )
    @example(["a", "b"], ["a-b"])
    @example(["a~b"], ["a", "b"])
    @example(["a b"], ["a-b"])
    def test_stable_ids_of_other_names_differ(self, one: list[str], other: list[str]) -> None:
        """Ids made of names are the same for the same names in NFC, and others for others; all are ids."""
        normal = [[unicodedata.normalize("NFC", name) for name in names] for names in (one, other)]
        mine, yours = (keys.stable_id("TL", *names) for names in (one, other))

        assert mine == keys.check_id("id", mine, "TL")
        assert (normal[0] == normal[1]) == (mine == yours)


class TestLexicalOrderIsTheIntendedOrder:
    """Compared byte by byte in UTF-8, keys are in the order of what they are made of."""

    @given(numbers(), numbers())
    @example(999, 1000)
    @example(9999, 10000)
    @example(10**28, 10**28 - 1)
    def test_numbers(self, one: int, other: int) -> None:
        """Numbers of any length sort as numbers."""
        assert (one < other) == (wire(keys.format_number(one)) < wire(keys.format_number(other)))

    def test_numbers_of_the_design(self) -> None:
        """PRC999 comes before PRCA1000, and that before PRCB10000."""
        made = [keys.process_id(number) for number in (1, 2, 10, 999, 1000, 9999, 10000)]

        assert ["PRC001", "PRC002", "PRC010", "PRC999", "PRCA1000", "PRCA9999", "PRCB10000"] == made
        assert sorted(made, key=wire) == made

    @given(scores(), scores())
    def test_scores(self, one: float, other: float) -> None:
        """Scores sort as numbers."""
        assert (one < other) == (wire(keys.AGENT_SCORE.build(one)) < wire(keys.AGENT_SCORE.build(other)))

    @given(times(), times())
    def test_times(self, one: datetime, other: datetime) -> None:
        """Times of all zones sort as moments, to the microsecond."""
        assert (one < other) == (wire(keys.REVIEW_DUE.build(one)) < wire(keys.REVIEW_DUE.build(other)))

    @given(times(last=datetime(9000, 1, 1, tzinfo=UTC)), st.integers(1, 10**12))
    def test_sessions_sort_by_their_start(self, start: datetime, later: int) -> None:
        """A session that starts later has a later id, whatever keeps it apart; one without a time comes first."""
        second = start + timedelta(microseconds=later)
        ordered = [keys.new_session_id(start, token="~~~"), keys.new_session_id(second, token="0")]

        assert sorted(ordered, key=wire) == ordered
        assert wire(keys.imported_session_id(None, "a", "b")) < wire(keys.imported_session_id(start, "a", "b"))

    @given(st.tuples(numbers(), numbers()), st.tuples(numbers(), numbers()))
    def test_attempts_follow_their_process(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        """Executions sort by process, then attempt, and directly after their own process."""
        (first, attempt), (second, other_attempt) = sorted([one, other])
        low = keys.EXECUTION.build(keys.process_id(first), "AGT1", "TL1", attempt or 1)
        high = keys.EXECUTION.build(keys.process_id(second), "AGT1", "TL1", other_attempt or 1)

        assert ((first, attempt or 1) < (second, other_attempt or 1)) == (wire(low) < wire(high))
        assert wire(keys.process_id(first)) < wire(low)
        if first < second:
            assert wire(low) < wire(keys.process_id(second))

    @given(st.text(st.sampled_from("abz가힣"), min_size=1), st.text(st.sampled_from("abz가힣"), min_size=1))
    def test_free_text_without_the_escaped_characters(self, one: str, other: str) -> None:
        """Names sort as their text."""
        assert (wire(one) < wire(other)) == (wire(keys.TEXT.build(one)) < wire(keys.TEXT.build(other)))

    @pytest.mark.parametrize(
        "score", [-1, -0.0000001, 10**8, 99_999_999.9999999, float("nan"), float("inf"), "60", None, True, Decimal(1)]
    )
    def test_scores_out_of_range_are_refused(self, score: Any) -> None:
        """A score that would not sort raises."""
        with pytest.raises(ValidationError, match="must be a number from 0 to below 100000000"):
            keys.AGENT_SCORE.build(score)

    @pytest.mark.parametrize("number", [-1, 10**29, 1.0, "1", None, True])
    def test_numbers_out_of_range_are_refused(self, number: Any) -> None:
        """A number that would not sort raises."""
        with pytest.raises(ValidationError):
            keys.format_number(number)

    @pytest.mark.parametrize("moment", [datetime(2025, 6, 14), "20250614", None])  # noqa: DTZ001  # naive: that is the case
    def test_times_without_a_zone_are_refused(self, moment: Any) -> None:
        """A time whose moment is not known raises."""
        with pytest.raises(ValidationError, match="time zone"):
            keys.format_time("started", moment)

    def test_the_samples_score_is_read(self) -> None:
        """The sample's unpadded score is read, and what is written of it is padded."""
        assert ((60.0,), "AGTSCORE#00000060.000000") == (
            keys.AGENT_SCORE.parse("AGTSCORE#60"),
            keys.AGENT_SCORE.build(60),
        )


class TestPrefixDisjoint:
    """No access pattern's begins_with ever matches another entity, and BETWEEN neither leaks nor pays."""

    @given(entities())
    def test_no_pattern_reads_another_entity(self, entity: Entity) -> None:
        """An entity that lies in a pattern's partition under its prefix is one of those the pattern returns."""
        for pattern in PATTERNS:
            partition, sort = (entity.gsi1_pk, entity.gsi1_sk) if pattern.index else (entity.pk, entity.sk)
            if partition is None or sort is None:
                continue
            here = pattern.partition.overlaps(_format(entity, pattern.index))
            if here and sort.startswith(pattern.prefix):
                assert isinstance(entity, pattern.returns), pattern.name

    @pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
    def test_by_declaration(self, pattern: Any, kind: type[Entity]) -> None:
        """A kind that a pattern does not return cannot have a key that its request matches."""
        partition, sort = (kind.index_partition, kind.index_sort) if pattern.index else (kind.partition, kind.sort)
        if kind in pattern.returns or partition is None or sort is None:
            return
        reached = pattern.partition.overlaps(partition.format) and sort.format.begins_with(pattern.prefix)

        assert not reached

    @given(entities())
    def test_every_entity_of_a_pattern_is_under_its_prefix(self, entity: Entity) -> None:
        """What a pattern returns begins with its prefix: nothing of it is missed."""
        for pattern in PATTERNS:
            if isinstance(entity, pattern.returns):
                sort = entity.gsi1_sk if pattern.index else entity.sk
                assert sort is not None
                assert sort.startswith(pattern.prefix), pattern.name

    @given(key_texts(), key_texts())
    def test_the_beginning_of_a_category(self, category: str, other: str) -> None:
        """The beginning of a category matches exactly the categories that begin with it."""
        for cut in range(1, len(category) + 1):
            begin = unicodedata.normalize("NFC", category[:cut])
            prefix = keys.MAPPING.prefix(partial=begin)

            assert other.startswith(begin) == keys.MAPPING.build(other).startswith(prefix)

    @given(processes(process_id=numbers().map(keys.process_id)), executions(process_id=numbers().map(keys.process_id)))
    def test_between_holds_one_process(self, process: UserSessionProcess, execution: ToolExecution) -> None:
        """The range of a process's executions holds all of them and none of another process."""
        low, high = keys.EXECUTION.within(process.process_id)
        inside = wire(low) <= wire(execution.sk) <= wire(high)

        assert (process.process_id == execution.process_id) == inside
        assert not wire(low) <= wire(process.sk) <= wire(high)

    @given(executions(), executions(), st.integers(1, 4))
    def test_between_holds_what_begins_alike(self, one: ToolExecution, other: ToolExecution, parts: int) -> None:
        """The range of the first parts of a key holds exactly the keys with these parts, attempts too."""
        values = [(e.process_id, e.agent_id, e.tool_id, e.attempt)[:parts] for e in (one, other)]
        low, high = keys.EXECUTION.within(*values[0])

        assert wire(low) <= wire(one.sk) <= wire(high)
        assert (values[0] == values[1]) == (wire(low) <= wire(other.sk) <= wire(high))

    @given(built)
    def test_within_all_of_a_format(self, made: tuple[Format, Values]) -> None:
        """The range of no values holds every key of a format that begins with a word; of the others there is none."""
        made_by, values = made
        if made_by in WORDED:
            low, high = made_by.within()
            assert wire(low) <= wire(made_by.build(*values)) <= wire(high)
        else:
            with pytest.raises(ValidationError, match="must begin with the key's first part"):
                made_by.within()

    def test_a_prefix_that_would_match_neighbours_is_refused(self) -> None:
        """The attempts of a call have no prefix: the first has no number, and TL1 begins TL10. There is a range."""
        with pytest.raises(ValidationError, match="within"):
            keys.EXECUTION.prefix("PRC001", "AGT1", "TL1")

    @given(st.integers(0, 998), key_texts())
    def test_spread_mappings_have_partitions_of_their_own(self, number: int, category: str) -> None:
        """Each of the index partitions that mappings are spread over has a key that no user's item has."""
        key = keys.MAPPINGS.build(number)

        assert (number,) == keys.MAPPINGS.parse(key)
        assert number == 0 or key != keys.MAPPINGS.build(0)
        assert not key.startswith(PREFIXES)


class TestRoundTrip:
    """`parse(build(x)) == x`; parsing anything else raises an error naming the key and the rule."""

    @given(built)
    def test_what_was_built_is_parsed(self, made: tuple[Format, Values]) -> None:
        """The values of a key come back."""
        made_by, values = made

        assert values == made_by.parse(made_by.build(*values))

    @given(
        st.sampled_from([made_by for made_by, _ in FORMATS]),
        st.one_of(st.text(max_size=40), st.sampled_from(HARD_TEXTS), built.map(lambda made: made[0].build(*made[1]))),
    )
    @example(keys.EXECUTION, "PRC001#AGT001#TL001#001")
    @example(keys.EXECUTION, "PRC001#AGT001#TL001#2")
    @example(keys.EXECUTION, "PRC001#AGT001#TL001#A999")
    @example(keys.EXECUTION, "PRC001#AGT001#TL001#002#003")
    @example(keys.MAPPING, "UserPrcToolMapp#e\u0301")
    @example(keys.MAPPING, "UserPrcToolMapp#a%b")
    @example(keys.MAPPING, "UserPrcToolMapp#")
    @example(keys.REVIEW_DUE, "20250230000000000000")
    @example(keys.AGENT_SCORE, "AGTSCORE#-1")
    @example(keys.TOOL, "TL001\n")
    def test_anything_else_is_refused(self, made_by: Format, text: str) -> None:
        """Text is a key of a format, and then building its values gives it again, or it raises; nothing between."""
        refused: KeyFormatError | None = None
        try:
            values = made_by.parse(text)
        except KeyFormatError as error:
            refused = error

        if refused is not None:
            assert (made_by.name, text) == (refused.field, refused.value)
            assert refused.rule
            assert "\n" not in str(refused)
        elif made_by is not keys.AGENT_SCORE:  # it also reads the sample's unpadded scores
            assert text == made_by.build(*values)

    @given(st.one_of(numbers().map(keys.format_number), st.text("0123456789ABZ", max_size=6)))
    def test_numbers(self, text: str) -> None:
        """A text is a number in one way only."""
        try:
            number = keys.parse_number(text)
        except KeyFormatError:
            return

        assert text == keys.format_number(number)

    @given(times())
    def test_times(self, moment: datetime) -> None:
        """A time comes back to the microsecond, in UTC, from 20 digits; 14 to 19 give what they hold."""
        text = keys.format_time("at", moment)

        assert 20 == len(text)
        assert moment == keys.parse_time(text)
        assert UTC is keys.parse_time(text).tzinfo
        for digits in range(14, 20):
            short = keys.parse_time(text[:digits])
            assert timedelta(0) <= moment - short < timedelta(seconds=10 ** (14 - digits))

    @given(ids("AGT"))
    def test_ids(self, agent_id: str) -> None:
        """Every id of the strategies is one, at both ends."""
        assert agent_id == keys.check_id("agent_id", agent_id, "AGT")
        assert keys.AGENT.build(agent_id) == agent_id

    @given(st.integers(1, 400), st.sampled_from("a한😀#%"))
    def test_limits_are_counted_in_bytes(self, length: int, character: str) -> None:
        """A sort key of more than 1024 bytes of UTF-8, after escaping, is refused with both numbers; up to it none is."""
        text = character * length
        size = len(wire("UserPrcToolMapp#")) + len(wire(text.replace("%", "%25").replace("#", "%23")))
        if size <= 1024:
            assert size == len(wire(keys.MAPPING.build(text)))
        else:
            with pytest.raises(ValidationError, match=f"at most 1024 bytes of UTF-8, not {size}"):
                keys.MAPPING.build(text)

    def test_the_longest_ids_fit_a_partition_key(self) -> None:
        """The longest user and session ids fit together; three of the longest ids do not fit a sort key, and say so."""
        longest = "한" * 128

        assert len(wire(keys.SESSION_ITEMS.build(f"USR{longest}", f"SESS{longest}"))) <= 2048
        with pytest.raises(ValidationError, match=r"execution key.*at most 1024 bytes"):
            keys.EXECUTION.build(f"PRC{longest}", f"AGT{longest}", f"TL{longest}", 1)

    def test_a_lone_surrogate_is_refused(self) -> None:
        """Text that UTF-8 cannot hold is refused before it is sent."""
        for made_by in (keys.MAPPING, keys.TEXT, keys.TOOL_NAME, keys.REVIEW):
            with pytest.raises(ValidationError, match="surrogates"):
                made_by.build("a\ud800")


class TestNothingIsOverwritten:
    """A second attempt has a key of its own; see also tests/integration/test_recorder_numbers.py."""

    @given(executions(attempt=1), st.integers(2, 10**29 - 1))
    def test_a_retry_has_a_fourth_part(self, first: ToolExecution, attempt: int) -> None:
        """The first attempt has the sample's key, each later one that key and its number."""
        values = {name: value for name, value in first.attribute_values.items() if name != "attempt"}
        retry = ToolExecution(**values, attempt=attempt)

        assert 2 == first.sk.count("#")
        assert f"{first.sk}#{keys.format_number(attempt)}" == retry.sk

    def test_the_second_attempt_of_the_sample(self) -> None:
        """PRC001#AGT001#TL001 is followed by PRC001#AGT001#TL001#002."""
        assert "PRC001#AGT001#TL001#002" == keys.EXECUTION.build("PRC001", "AGT001", "TL001", 2)

    @pytest.mark.parametrize("attempt", [0, -1, 1.5, None, True])
    def test_attempts_begin_at_one(self, attempt: Any) -> None:
        """There is no attempt before the first."""
        with pytest.raises(ValidationError, match="attempt"):
            keys.EXECUTION.build("PRC001", "AGT001", "TL001", attempt)


_texts = st.text(st.sampled_from("a#$%\x00\ud7ff\ue000\U0010ffff"), min_size=1, max_size=5)


class TestRangesOfTexts:
    @given(_texts, _texts)
    def test_have_exact_ends(self, text: str, end: str) -> None:
        """What begins with a text, and what sorts before or after it, is all between two texts, and nothing else is."""
        assert text.startswith(end) == (end <= text <= keys.last_text(end))
        assert (text < end) == (text <= keys.text_before(end))
        assert (text > end) == (text >= keys.text_after(end))

    @given(_texts)
    def test_have_ends_that_dynamodb_takes(self, text: str) -> None:
        """The ends are valid sort keys."""
        for end in (keys.last_text(text), keys.text_before(text), keys.text_after(text)):
            assert len(end.encode()) <= 1024

    @given(executions(), processes())
    def test_a_span_holds_the_keys_with_its_values(self, call: ToolExecution, process: UserSessionProcess) -> None:
        """Every key lies in the span of its leading values, and a process never in that of a process's calls."""
        values = (call.process_id, call.agent_id, call.tool_id, call.attempt)
        for count in range(5):
            low, high = keys.EXECUTION.span(*values[:count])
            assert low <= call.sk <= high
            assert keys.EXECUTION.lies_between(low, high)
        low, high = keys.EXECUTION.span(call.process_id)
        assert not low <= process.sk <= high
        assert not keys.PROCESS.lies_between(low, high)


def identity(entity: Entity) -> Values:
    """What makes an entity that one: the attributes of its primary key."""
    made = type(entity).partition.attributes + type(entity).sort.attributes
    return tuple(getattr(entity, field.name) for field in made)


def _format(entity: Entity, index: str | None) -> Format:
    made = type(entity).index_partition if index else type(entity).partition
    assert made is not None
    return made.format
