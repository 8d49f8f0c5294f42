"""A user who has written reads what was written: the response cache gives no result from before a write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentmodel import AgentModel, Settings, Tool
from agentmodel.cache import Valkey
from agentmodel.exceptions import CacheUnavailable
from agentmodel.suggest.guard import Go
from agentmodel.suggest.guard._response_cache import _MOST_MARKS
from tests.integration.suggest_world import opened

AGENT, READ, WRITE = "AGT001", "TL001", "TL002"
W1 = {"order": "#W1001"}


class Shop:
    """A shop with an order that is read and written, each from the entry point that a test is about."""

    def __init__(self, model: AgentModel) -> None:
        self.model = model
        self.state = "pending"
        tools = [("get_order", READ, True), ("cancel_order", WRITE, None), ("get_help", "TL003", None)]
        model.repository.put(
            *[
                Tool(agent_id=AGENT, tool_id=tool_id, domain_id="DMN001", name=name, read_only=reads)
                for name, tool_id, reads in tools
            ]
        )
        self.guard = model.guard(review="never")
        self.calls = 0

    def get(self, arguments: dict[str, str] = W1, *, user: str = "USR001", scope: Any = "user") -> str:
        """Read the order through the cache."""
        with self.model.session(user) as session, session.process("read") as process:
            found: str = self.model.response_cache.call(
                process, AGENT, READ, lambda: self.state, arguments=arguments, scope=scope
            )
            return found

    def record(self, tool_id: str = WRITE, values: dict[str, str] = W1, *, fail: bool = False) -> None:
        """Make a call and record it."""
        with (
            self.model.session("USR001") as session,
            session.process("write") as process,
            process.call(AGENT, tool_id, values=values) as call,
        ):
            call.result = "ok"
            if fail:
                call.mark("error")

    def before(self, tool_id: str = WRITE, *, review: Any = "never", **more: Any) -> Any:
        """Ask a guard about a call; nothing of it is recorded."""
        guard = self.model.guard(review=review)
        return guard.before(agent_id=AGENT, tool_id=tool_id, arguments=W1, user_id="USR001", session_id="SESS1", **more)


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    with opened(settings) as model:
        yield Shop(model)


def by_recorder(shop: Shop) -> None:
    shop.record()


def by_failed_call(shop: Shop) -> None:
    shop.record(fail=True)


def by_response_cache(shop: Shop) -> None:
    with shop.model.session("USR001") as session, session.process("write") as process:
        shop.model.response_cache.call(process, AGENT, WRITE, lambda: "ok", arguments=W1)


def by_function(shop: Shop) -> None:
    @shop.model.tool(agent="another agent", name="cancel")
    def cancel(order: str) -> str:
        return "ok"

    with shop.model.session("USR001"):
        cancel("#W1001")


def by_guard(shop: Shop) -> None:
    assert Go() == shop.before()


def by_unknown_tool(shop: Shop) -> None:
    assert Go() == shop.before("TL404")


def by_approval(shop: Shop) -> None:
    asked = shop.before(review="always", call_id="c1")
    shop.get()  # while the question is open
    shop.model.reviews.decide(asked.review, "approve", by="kim")
    answer = shop.guard.answer(asked.review)
    assert answer is not None
    assert answer.permits


@pytest.mark.parametrize(
    "write",
    [by_recorder, by_failed_call, by_response_cache, by_function, by_guard, by_unknown_tool, by_approval],
    ids=lambda write: write.__name__,
)
def test_a_write_from_any_entry_point_outdates_results(shop: Shop, write: Callable[[Shop], None]) -> None:
    """Whatever makes the user's write, the same read again is made again; then it is answered."""
    assert "pending" == shop.get()
    shop.state = "changed unseen"
    assert "pending" == shop.get(), "without a write it is answered"
    write(shop)
    shop.state = "cancelled"

    assert "cancelled" == shop.get()
    shop.state = "changed unseen"
    assert "cancelled" == shop.get()


def test_reads_and_other_users_outdate_nothing(shop: Shop) -> None:
    """A call of a tool that is marked read-only outdates nothing, nor does a write of another user."""
    shop.get(user="USR002")
    shop.get()
    shop.record(READ)
    shop.state = "changed unseen"
    assert "pending" == shop.get()
    shop.record()
    assert "pending" == shop.get(user="USR002")


def test_results_of_everybody_are_not_older_than_the_users_own_writes(shop: Shop) -> None:
    """After a write, its user has results apart; others keep those of everybody."""
    shop.get(user="USR002", scope="everybody")
    assert "pending" == shop.get(scope="everybody")
    shop.record()
    shop.state = "cancelled"

    assert "cancelled" == shop.get(scope="everybody")
    shop.state = "changed unseen"
    assert "cancelled" == shop.get(scope="everybody")
    assert "pending" == shop.get(user="USR002", scope="everybody")


def test_what_writes_nothing_is_learned(shop: Shop) -> None:
    """A tool that twice changed nothing between equal reads outdates them no longer; one that did goes on to."""
    for _ in range(2):
        shop.get()
        shop.record("TL003")
        shop.get()
    shop.state = "changed unseen"
    shop.record("TL003")
    assert "pending" == shop.get()
    shop.record()
    assert "changed unseen" == shop.get()


def test_a_write_to_another_thing_is_learned_apart(shop: Shop) -> None:
    """That cancelling another order changes nothing here is learned; cancelling this one still outdates it."""
    other = {"order": "#W2002"}
    for _ in range(2):
        shop.get()
        shop.record(values=other)
        shop.get()
    shop.state = "changed unseen"
    shop.record(values=other)
    assert "pending" == shop.get()
    shop.record()
    assert "changed unseen" == shop.get()


def test_a_write_that_valkey_did_not_store(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Valkey does not take the mark of a write, this process gives its user no cached result."""
    shop.get()
    real = Valkey.execute_many

    def away(self: Valkey, commands: Any) -> Any:
        if any(command[0] == "XADD" and "answers-writes" in str(command[1]) for command in commands):
            raise CacheUnavailable("away")
        return real(self, commands)

    with monkeypatch.context() as patch:
        patch.setattr(Valkey, "execute_many", away)
        shop.before()
        shop.state = "cancelled"
        assert "cancelled" == shop.get()
    shop.state = "shipped"

    assert "shipped" == shop.get(), "what was read meanwhile was not cached"
    shop.state = "changed unseen"
    assert "shipped" == shop.get()


def test_more_writes_than_are_kept(shop: Shop) -> None:
    """Where the mark that a result was cached after is gone, the result is not given."""
    shop.record()
    shop.get()
    assert shop.model.valkey is not None
    (name,) = list(shop.model.valkey.scan("*answers-writes*"))
    fields = ("tool", "DMN001:get_help", "values", "", "ended", "ok")
    shop.model.valkey.execute_many([("XADD", name, "MAXLEN", _MOST_MARKS, "*", *fields)] * _MOST_MARKS)
    shop.state = "cancelled"

    assert "cancelled" == shop.get()


def test_marks_are_erased_with_their_user(shop: Shop) -> None:
    """An erasure takes the marks of the user's writes, and cached results with them."""
    shop.get()
    shop.record()
    shop.model.settle()
    assert shop.model.valkey is not None
    assert 1 == len(list(shop.model.valkey.scan("*answers-writes*")))
    shop.model.erase_user("USR001")

    assert [] == list(shop.model.valkey.scan("*answers-writes*"))


def test_with_redaction_any_write_outdates(settings: Settings) -> None:
    """Redacted arguments do not say what was written to, so every recorded write outdates the user's results."""
    with AgentModel(settings, redact=lambda text: text.replace("2002", "[x]")) as model:
        model.table.create()
        shop = Shop(model)
        for _ in range(3):
            shop.get()
            shop.record(values={"order": "#W2002"})
        shop.state = "cancelled"
        assert "cancelled" == shop.get()
