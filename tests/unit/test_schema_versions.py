"""Stored items outlive their classes: older ones are upgraded when they are read, newer ones lose nothing."""

from __future__ import annotations

from typing import Any

import pytest

from agentmodel import keys
from agentmodel.dynamo._attribute import Attr, Field
from agentmodel.dynamo.attributes import identifier, number, text
from agentmodel.dynamo.entity import Entity, Item, key, lookup, upgrade
from agentmodel.exceptions import ConfigurationError, CorruptItem


def make(schema: int) -> Any:
    """A class of a schema, as a program of that day has it."""

    class Note(Entity, kind="TestNote", schema=schema):
        user_id: Attr[str] = identifier("USR")
        title: Attr[str] = text("Title")
        words: Attr[int | None] = number("Words", default=None)

        at = lookup(user_id)
        partition = key(keys.USER, user_id)
        sort = key(keys.METADATA)

    return Note


def item(**others: Any) -> Item:
    return {"PK": {"S": "USR1"}, "SK": {"S": "METADATA"}, "EntityType": {"S": "TestNote"}, **others}


class TestOlderItems:
    def test_are_upgraded_step_by_step(self) -> None:
        """An item of schema 1 passes through every registered step, in order, before it is read."""
        note = make(3)

        @upgrade(note, 1)
        def titled(old: Item) -> Item:
            return {name: value for name, value in old.items() if name != "Name"} | {"Title": old["Name"]}

        @upgrade(note, 2)
        def counted(old: Item) -> Item:
            return old | {"Words": {"N": str(len(old["Title"]["S"].split()))}}

        read = note.from_item(item(Name={"S": "two words"}, SchemaVer={"N": "1"}))

        assert ("two words", 2) == (read.title, read.words)
        assert {"N": "3"} == read.to_item()["SchemaVer"]
        assert "Name" not in read.to_item()

    def test_without_a_schema_are_of_the_first(self) -> None:
        """An item that was written before schemas were counted (the sample's) has the first."""
        note = make(2)
        upgrade(note, 1)(lambda old: old | {"Title": {"S": "given"}})

        assert "given" == note.from_item(item()).title

    def test_of_this_schema_are_left_alone(self) -> None:
        """No step runs for an item of the class's own schema."""
        note = make(2)
        upgrade(note, 1)(lambda old: old | {"Title": {"S": "given"}})

        assert "own" == note.from_item(item(Title={"S": "own"}, SchemaVer={"N": "2"})).title

    def test_the_stored_item_is_not_changed_by_reading(self) -> None:
        """An upgrade works on a copy."""
        note = make(2)

        @upgrade(note, 1)
        def titled(old: Item) -> Item:
            old["Title"] = {"S": "given"}
            return old

        stored = item()
        note.from_item(stored)

        assert item() == stored

    def test_an_upgrade_cannot_move_an_item(self) -> None:
        """An upgrade that changes the primary key would leave the old item behind: it is refused."""
        note = make(2)
        upgrade(note, 1)(lambda old: old | {"PK": {"S": "USR2"}, "Title": {"S": "a"}})

        with pytest.raises(CorruptItem, match="primary key"):
            note.from_item(item())


class TestNewerItems:
    def test_lose_nothing(self) -> None:
        """An item of a newer schema is read; what is unknown, and its schema, are written back as they were."""
        newer = item(Title={"S": "a"}, SchemaVer={"N": "7"}, Shape={"M": {"x": {"N": "1"}}})
        note = make(1).from_item(newer)
        note.title = "b"

        assert newer | {"Title": {"S": "b"}} == note.to_item()

    def test_a_schema_that_is_no_number_is_corrupt(self) -> None:
        """A SchemaVer that cannot be read is named."""
        with pytest.raises(CorruptItem, match="SchemaVer"):
            make(1).from_item(item(Title={"S": "a"}, SchemaVer={"S": "one"}))


class TestRegistering:
    @pytest.mark.parametrize("schema", [0, 2, 3])
    def test_a_step_beyond_the_class_is_refused(self, schema: int) -> None:
        """An upgrade leads to a schema that the class has."""
        with pytest.raises(ConfigurationError, match="schema 2"):
            upgrade(make(2), schema)(lambda old: old)

    def test_a_step_has_one_function(self) -> None:
        """Two upgrades from the same schema cannot both be right."""
        note = make(2)
        upgrade(note, 1)(lambda old: old)

        with pytest.raises(ConfigurationError, match="once"):
            upgrade(note, 1)(lambda old: old)


class TestDeclarationsFitTogether:
    def test_an_attribute_that_would_be_lost_is_refused(self) -> None:
        """An id that is stored in no key that is always written is refused when the class is made."""
        with pytest.raises(ConfigurationError, match=r"agent_id would be lost"):

            class Lost(Entity, kind="TestLost"):
                user_id: Attr[str] = identifier("USR")
                agent_id: Attr[str] = identifier("AGT")
                partition = key(keys.USER, user_id)
                sort = key(keys.METADATA)

    def test_one_stored_name_for_two_attributes_is_refused(self) -> None:
        """Two attributes under one stored name would overwrite each other."""
        with pytest.raises(ConfigurationError, match="other cannot be stored as Title, because title is"):

            class Twice(Entity, kind="TestTwice"):
                user_id: Attr[str] = identifier("USR")
                title: Attr[str] = text("Title")
                other: Attr[str] = text("Title")
                partition = key(keys.USER, user_id)
                sort = key(keys.METADATA)

    def test_a_nullable_part_of_the_primary_key_is_refused(self) -> None:
        """Every item has a primary key, so its parts are required."""
        with pytest.raises(ConfigurationError, match="must not have the default None: it is a part of the primary key"):

            class Keyless(Entity, kind="TestKeyless"):
                title: Attr[str | None] = text("Title", default=None)
                partition = key(keys.TEXT, title)
                sort = key(keys.METADATA)

    def test_a_name_of_generated_code_is_refused(self) -> None:
        """Names that begin with an underscore belong to the generated code."""
        with pytest.raises(ConfigurationError, match="underscore"):

            class Hidden(Entity, kind="TestHidden"):
                user_id: Attr[str] = identifier("USR")
                _note: Attr[str] = text("Note")
                partition = key(keys.USER, user_id)
                sort = key(keys.METADATA)

    def test_a_subclass_reads_what_its_base_reads(self) -> None:
        """An entity can be extended: the subclass has its base's kind and keys, and code of its own."""
        note = make(1)

        class Longer(note):  # type: ignore[misc, valid-type]  # its base is made above
            extra_words: Attr[str | None] = text("Extra", default=None)

        read = Longer.from_item(item(Title={"S": "a"}, Extra={"S": "b"}))

        assert "b" == read.extra_words
        assert {"Extra": {"S": "b"}} == note.from_item(read.to_item()).extra


class TestCustomAttributes:
    def test_a_field_needs_only_its_methods(self) -> None:
        """An attribute of one's own says check, serialize and deserialize; generated code uses them."""

        class Upper(Field):
            def check(self, value: Any) -> Any:
                return super().check(value).lower()

            def serialize(self, value: Any) -> Any:
                return value.upper()

            def deserialize(self, value: Any) -> Any:
                return value.lower()

        class Shout(Entity, kind="TestShout"):
            user_id: Attr[str] = identifier("USR")
            word: Attr[str] = Upper("Word", required=True)  # type: ignore[assignment]  # a Field at run time
            partition = key(keys.USER, user_id)
            sort = key(keys.METADATA)

        shout = Shout(user_id="USR1", word="Hey")

        assert "hey" == shout.word
        assert {"S": "HEY"} == shout.to_item()["Word"]
        assert shout == Shout.from_item(shout.to_item())
