"""`agentmodel reviews`: asked by a program, looked at and answered from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel import AgentModel, Review, Settings
from agentmodel.cli import main
from agentmodel.suggest.review import Reviews
from tests.integration.suggest_world import catalogue, opened, run
from tests.integration.test_cli_errors import environment

ARGUMENTS = {"order": "W123", "items": [1, 2]}
BY = ("--by", "kim")


class Cli:
    """Runs `agentmodel reviews …` and gives what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        found = main(["reviews", *arguments])
        out, err = self.capsys.readouterr()
        assert code == found, err
        assert (code != 0) == err.startswith("error: "), err
        assert code == 0 or ("", 1) == (out, err.count("\n"))
        return out or err

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def model(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentModel]:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    with opened(settings) as model:
        catalogue(model)
        yield model


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def ask(model: AgentModel) -> Callable[..., str]:
    def ask(question: str = "Cancel the order?", **options: Any) -> str:
        given = {"arguments": ARGUMENTS, "agent_id": "AGT001", "tool_id": "TL002"} | options
        return Reviews.reference(model.reviews.ask("USR001", "SESS1", question, **given))

    return ask


def longer_ago(model: AgentModel) -> Reviews:
    """Reviews that live two days ago."""
    return Reviews(
        model.settings, model.table, writer=model.writer, repository=model.repository, recorder=model.recorder,
        now=lambda: datetime.now(UTC) - timedelta(days=2),
    )  # fmt: skip


def test_a_question_is_shown_in_korean(cli: Cli, ask: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With AGENTMODEL_LANGUAGE=ko state, deadline and trail are Korean; what was written stays, and so does JSON."""
    reference = ask(reason="a large sum")
    english = cli.json("show", reference)
    monkeypatch.setenv("AGENTMODEL_LANGUAGE", "ko")
    listed, shown, same = cli("list"), cli("show", reference), cli.json("show", reference)
    decided = cli("reject", reference, "--reason", "no", *BY)

    assert "Cancel the order?" in listed
    assert "이유: a large sum" in listed
    assert "UTC까지 열려 있음. 답이 없으면 거부" in listed
    assert "상태: " in shown
    assert "일어난 일" in shown
    assert "거부됨 (kim)" in decided
    assert english == same


def test_a_queue_is_listed(cli: Cli, ask: Callable[..., str]) -> None:
    """Open questions come nearest deadline first, page by page, each queue its own."""
    later, soon = ask(), ask("Refund?", answer_within=timedelta(hours=1), reason="a large sum")
    elsewhere = ask(queue="refunds")
    listed = cli.json("list")

    assert [soon, later] == [review["reference"] for review in listed["reviews"]]
    assert ("pending", ARGUMENTS) == (listed["reviews"][0]["status"], listed["reviews"][0]["arguments"])
    assert [elsewhere] == [review["reference"] for review in cli.json("list", "--queue", "refunds")["reviews"]]
    first = cli.json("list", "--limit", "1")
    rest = cli.json("list", "--cursor", first["cursor"])
    assert [soon, later] == [review["reference"] for page in (first, rest) for review in page["reviews"]]
    text = cli("list", "--limit", "1")
    assert f"{soon}\n  Refund?\n" in text
    assert 'TL002 of agent 1 with {"order": "W123", "items": [1, 2]}' in text
    assert "why: a large sum" in text
    assert "There may be more: add --cursor" in text
    assert "No question waits in queue 'nobody'." in cli("list", "--queue", "nobody")


def test_expired_questions_do_not_hide_open_ones(model: AgentModel, cli: Cli, ask: Callable[..., str]) -> None:
    """A page on which every question has expired is passed over, and sweeping writes them down."""
    old = longer_ago(model)
    for number in range(3):
        old.ask("USR001", f"SESS{number}", "Too late?", answer_within=timedelta(hours=1))
    asked = ask()

    assert [asked] == [review["reference"] for review in cli.json("list", "--limit", "1")["reviews"]]
    assert {"expired": 3, "escalated": 0, "applied": 0} == cli.json("sweep")
    assert "Questions expired: 0, escalated: 0" in cli("sweep")


def test_a_question_is_shown_exactly(cli: Cli, ask: Callable[..., str]) -> None:
    """Arguments are shown as they are, with nothing a terminal would obey or hide, and with their hash and trail."""
    asked = ask("Delete\x1b[2J it?", arguments={"path": "a  b\x1b[2J\u202e"}, process_id="PRC001", reason="risky")
    shown = cli.json("show", asked)
    text = cli("show", asked)

    assert {"path": "a  b\x1b[2J\u202e"} == shown["arguments"]
    assert '"path": "a  b\\u001b[2J\\u202e"' in text
    assert "\x1b" not in text
    assert shown["arguments_hash"] in text
    assert "possible answers: approve, edit, reject, respond" in text
    assert "without an answer it counts as reject" in text
    assert "asked" in text.partition("What happened")[2]


def test_questions_are_decided(model: AgentModel, cli: Cli, ask: Callable[..., str]) -> None:
    """Approve, edit, reject and respond reach the program that asked, with who and why."""
    approved, edited, rejected, responded = ask(), ask(), ask(), ask()
    digest = cli.json("show", approved)["arguments_hash"]
    assert "approved" == cli.json("approve", approved, *BY, "--reason", "fine", "--hash", digest)["status"]
    assert f"{edited}: edited by kim" in cli("edit", edited, *BY, "--values", '{"order": "W124"}')
    assert f"{rejected}: rejected by kim" in cli("reject", rejected, *BY, "--reason", "too risky")
    assert f"{responded}: responded by kim" in cli("respond", responded, *BY, "--text", "It is cancelled already.")
    one, two, three, four = (model.reviews.answer(each) for each in (approved, edited, rejected, responded))

    assert one and two and three and four  # noqa: PT018  # all were answered
    assert ("kim", "fine", ARGUMENTS, True) == (one.by, one.reason, one.arguments, one.permits)
    assert ({"order": "W124"}, True) == (two.arguments, two.permits)
    assert ("too risky", False) == (three.reason, three.permits)
    assert ("It is cancelled already.", False) == (four.response, four.permits)
    assert "arguments to call with instead: {\n" in cli("show", edited)
    assert [] == cli.json("list")["reviews"]


def test_a_claim_keeps_others_out(cli: Cli, ask: Callable[..., str]) -> None:
    """Who claims a question decides it; it can be given back."""
    asked = ask()
    assert "claimed by kim until" in cli("claim", asked, *BY, "--minutes", "5")
    assert "is claimed by kim" in cli("approve", asked, "--by", "lee", code=1)
    assert "pending" == cli.json("release", asked, *BY)["status"]
    assert "approved by lee" in cli("approve", asked, "--by", "lee")
    assert "is already approved by lee" in cli("approve", asked, *BY, code=1)


def test_a_verdict_corrects_the_outcome(model: AgentModel, cli: Cli) -> None:
    """What a person says of a run stands beside what was recorded."""
    session = run(model, succeeded=True)
    model.drain()
    runs = [model.reviews.ask("USR001", session, "Was this it?", phase="post") for _ in range(2)]
    wrong, partly = (Reviews.reference(review) for review in runs)
    assert "completed by kim: wrong, the run failed" in cli("verdict", wrong, "wrong", *BY, "--reason", "another café")
    said = cli.json("verdict", partly, "partly", *BY, "--succeeded")
    model.drain()
    stored = model.repository.session("USR001", session)

    assert ("completed", "partly", True) == (said["status"], said["verdict"], said["outcome"])
    assert stored is not None
    assert (True, True) == (stored.succeeded, stored.corrected)


def test_after_the_deadline_nobody_answers(model: AgentModel, cli: Cli) -> None:
    """A question that expired says what it counts as, and takes no answer."""
    review = longer_ago(model).ask("USR001", "SESS1", "Too late?", answer_within=timedelta(hours=1))
    asked = Reviews.reference(review)

    assert "expired: nobody answered in time, so it counts as reject" in cli("show", asked)
    assert "expired" == cli.json("show", asked)["status"]
    assert "is already expired" in cli("approve", asked, *BY, code=1)


WRONG_USE = {
    "nobody": (["approve", "{}", "--by", " "], "--by"),
    "no name": (["approve", "{}"], "--by"),
    "a rejection without a reason": (["reject", "{}", *BY], "--reason"),
    "an empty reason": (["reject", "{}", *BY, "--reason", ""], "must be given for a rejection"),
    "values that are no JSON": (["edit", "{}", *BY, "--values", "order=W1"], "--values"),
    "values that are no number": (["edit", "{}", *BY, "--values", "[NaN]"], "--values"),
    "an edit without values": (["edit", "{}", *BY], "--values"),
    "values of nothing": (["edit", "{}", *BY, "--values", "null"], "arguments to call the tool with"),
    "other arguments": (["approve", "{}", *BY, "--hash", "0" * 64], "other arguments"),
    "a verdict that is none": (["verdict", "{}", "good", *BY], "correct, partly"),
    "a verdict before": (["verdict", "{}", "wrong", *BY], "must be `post`"),
    "a reference that is none": (["show", "USR001/SESS1"], "joined by slashes"),
    "a user that is none": (["show", "AGT001/SESS1/1"], "USR"),
    "no minutes": (["claim", "{}", *BY, "--minutes", "0"], "--minutes"),
    "a cursor of nothing": (["list", "--cursor", "x"], "cursor of a page"),
}


@pytest.mark.parametrize("case", WRONG_USE)
def test_wrong_use_is_one_line_and_changes_nothing(
    case: str, model: AgentModel, cli: Cli, ask: Callable[..., str]
) -> None:
    """What is wrong is named with exit 2, and the question stays open."""
    asked = ask()
    arguments, told = WRONG_USE[case]

    assert told in cli(*(asked if each == "{}" else each for each in arguments), code=2)
    assert "pending" == model.reviews.status(asked)


def test_what_is_not_there_is_exit_1(model: AgentModel, cli: Cli) -> None:
    """A reference that is one, but of nothing, is named."""
    assert "review USR001/SESS1/1 does not exist" in cli("show", "USR001/SESS1/1", code=1)
    assert "review USR001/SESS1/1 does not exist" in cli("approve", "USR001/SESS1/1", *BY, code=1)


def test_questions_that_cannot_be_read_are_told(
    model: AgentModel, ask: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One broken item neither hides the others nor goes unnoticed."""
    ask()
    good = Review.at(*ask("Broken?").split("/"))
    item = {name: dict(value) for name, value in (model.table.get(good) or pytest.fail("gone")).to_item().items()}
    model.table.call("PutItem", TableName=model.table.name, Item=item | {"AnswerUntilDT": {"S": "soon"}})
    assert 0 == main(["reviews", "list", "--json"])
    out, err = capsys.readouterr()

    assert 1 == len(json.loads(out)["reviews"])
    assert "cannot be read: 1. Run `agentmodel check`" in err


def test_the_beginning_of_an_open_question_is_enough(cli: Cli, ask: Callable[..., str]) -> None:
    """The beginning of the last part of a reference names the one open question that begins so, with its session too."""
    one, other = ask(call_id="1"), ask(call_id="2")
    start = one.rpartition("/")[2][:8]

    assert one == cli.json("show", start)["reference"]
    assert "approved by kim" in cli("approve", start, *BY)
    assert "does not exist" in cli("show", start, code=1)
    assert one == cli.json("show", f"USR001/SESS1/{start}")["reference"]
    assert "does not exist" in cli("approve", f"USR001/SESS1/{start}", *BY, code=1)
    assert other == cli.json("claim", other.rpartition("/")[2][:8], *BY)["reference"]
    assert "does not exist" in cli("show", "nothing", code=1)
    assert "must be an id, or the beginning of one" in cli("approve", "", *BY, code=2)  # not the only one that is open
