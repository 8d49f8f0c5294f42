"""`agentmodel reviews`: the questions that wait for people, and their answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import typer

from agentmodel.cli import _show
from agentmodel.cli._model import opened
from agentmodel.cli._options import Json, Limit, stack_of
from agentmodel.cli._output import Output, plain, printable
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import VERDICTS, Review, Verdict
from agentmodel.exceptions import ValidationError
from agentmodel.suggest.answers import Decision, status_now
from agentmodel.suggest.review import DEFAULT_QUEUE, Reviews

__all__ = ["add"]

reviews = typer.Typer(help="Questions to people, and their answers.", rich_markup_mode=None)

Reference = Annotated[
    str, typer.Argument(metavar="REVIEW", help="Which one: user, session and review id, as `reviews list` shows them.")
]
Queue = Annotated[str, typer.Option(metavar="NAME", help="The queue.")]
By = Annotated[str, typer.Option(metavar="NAME", help="Who you are; it is kept in the trail.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; it is kept with the answer.")]
Hash = Annotated[
    str | None, typer.Option("--hash", metavar="SHA256", help="Refuse if the question is about other arguments.")
]


# Look


@reviews.command("list")
def list_(
    ctx: typer.Context,
    *,
    queue: Queue = DEFAULT_QUEUE,
    limit: Limit = 20,
    cursor: Annotated[str | None, typer.Option(metavar="TEXT", help="Continue after the last page.")] = None,
    as_json: Json = False,
) -> None:
    """List the open questions of a queue.

    The nearest deadline first.
    """
    with opened(stack_of(ctx)) as model:
        found, cursor, unread = _open(model, queue, limit, cursor)
    out = Output(as_json=as_json)
    if as_json:
        out.data({"reviews": [_data(review) for review in found], "cursor": cursor})
    else:
        for review in found:
            _list_one(out, review)
        if not found:
            out.line(printable(f"no open questions in queue {queue}"))
        if cursor is not None:
            out.line(f"more: --cursor {cursor}")
    if unread:
        out.note(f"left out, since they cannot be read: {unread}; `agentmodel check` names them")


def _open(model: AgentModel, queue: str, limit: int, cursor: str | None) -> tuple[list[Review], str | None, int]:
    """Open questions; pages on which all have expired are passed over."""
    unread = 0
    while True:
        page = model.reviews.inbox(queue, limit=limit, cursor=cursor)
        unread += len(page.aside)
        cursor = page.cursor
        if page.items or cursor is None:
            return list(page.items), cursor, unread


@reviews.command()
def show(ctx: typer.Context, review: Reference, *, as_json: Json = False) -> None:
    """Show a question with everything that happened to it."""
    with opened(stack_of(ctx)) as model:
        found = model.reviews.get(review)
    out = Output(as_json=as_json)
    if as_json:
        out.data(_data(found))
    else:
        _show_one(out, found)


# Answer, before a step


@reviews.command()
def approve(
    ctx: typer.Context, review: Reference, *, by: By, reason: Reason = None, seen: Hash = None, as_json: Json = False
) -> None:
    """Let the step be taken as it was asked."""
    _decide(ctx, review, "approve", by, reason=reason, seen=seen, as_json=as_json)


@reviews.command()
def edit(
    ctx: typer.Context,
    review: Reference,
    *,
    values: Annotated[str, typer.Option(metavar="JSON", help="The arguments to call with instead.")],
    by: By,
    reason: Reason = None,
    seen: Hash = None,
    as_json: Json = False,
) -> None:
    """Let the step be taken with other arguments."""
    arguments = _arguments(values)
    _decide(ctx, review, "edit", by, reason=reason, seen=seen, arguments=arguments, as_json=as_json)


@reviews.command()
def reject(
    ctx: typer.Context,
    review: Reference,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept with the answer.")],
    by: By,
    seen: Hash = None,
    as_json: Json = False,
) -> None:
    """Refuse the step; a reason is needed."""
    _decide(ctx, review, "reject", by, reason=reason, seen=seen, as_json=as_json)


@reviews.command()
def respond(
    ctx: typer.Context,
    review: Reference,
    *,
    text: Annotated[str, typer.Option(metavar="TEXT", help="What is given back.")],
    by: By,
    reason: Reason = None,
    seen: Hash = None,
    as_json: Json = False,
) -> None:
    """Give a text back in place of the tool's result."""
    _decide(ctx, review, "respond", by, reason=reason, seen=seen, response=text, as_json=as_json)


def _decide(
    ctx: typer.Context,
    review: str,
    decision: Decision,
    by: str,
    *,
    reason: str | None,
    seen: str | None,
    as_json: bool,
    arguments: Any = None,
    response: str | None = None,
) -> None:
    who = _name(by)
    with opened(stack_of(ctx)) as model:
        done = model.reviews.decide(
            review, decision, who, reason=reason, arguments=arguments, response=response, arguments_hash=seen
        )
    _told(done, as_json=as_json)


# Keep, and after a run


@reviews.command()
def claim(
    ctx: typer.Context,
    review: Reference,
    *,
    by: By,
    minutes: Annotated[float, typer.Option(min=1, max=1440, help="For how long.")] = 15.0,
    as_json: Json = False,
) -> None:
    """Keep a question for yourself for a while."""
    who = _name(by)
    with opened(stack_of(ctx)) as model:
        done = model.reviews.claim(review, who, minutes=minutes)
    _told(done, as_json=as_json)


@reviews.command()
def release(ctx: typer.Context, review: Reference, *, by: By, as_json: Json = False) -> None:
    """Give a question back that you kept."""
    who = _name(by)
    with opened(stack_of(ctx)) as model:
        done = model.reviews.release(review, who)
    _told(done, as_json=as_json)


@reviews.command()
def verdict(
    ctx: typer.Context,
    review: Reference,
    said: Annotated[str, typer.Argument(metavar="VERDICT", help="correct, partly, wrong or harmful.")],
    *,
    by: By,
    outcome: Annotated[
        bool | None,
        typer.Option("--succeeded/--failed", help="Whether the run succeeded; the verdict says so if not given."),
    ] = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Say how a run went.

    Its outcome is corrected from the next refresh on; what was recorded stays beside it.
    """
    meant, who = _verdict(said), _name(by)
    with opened(stack_of(ctx)) as model:
        done = model.reviews.verdict(review, meant, who, outcome=outcome, reason=reason)
    _told(done, as_json=as_json)


@reviews.command()
def sweep(ctx: typer.Context, *, queue: Queue = DEFAULT_QUEUE, as_json: Json = False) -> None:
    """Write down what time decided in a queue.

    Expired and escalated questions, and verdicts that were interrupted; for a schedule.
    """
    with opened(stack_of(ctx)) as model:
        done = model.reviews.sweep(queue)
    out = Output(as_json=as_json)
    if as_json:
        out.data(done)
    else:
        out.line(f"expired {done.expired}, escalated {done.escalated}, verdicts applied {done.applied}")


# What is given, and what is printed


def _name(by: str) -> str:
    if not by.strip():
        raise ValidationError("--by", by, "the name of who does it")
    return by.strip()


def _verdict(text: str) -> Verdict:
    for known in VERDICTS:
        if text == known:
            return known
    raise ValidationError("VERDICT", text, "one of " + ", ".join(VERDICTS))


def _arguments(text: str) -> Any:
    def refused(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise ValidationError("--values", text, f'give JSON such as \'{{"order": "W123"}}\': {error}') from None


def _status(review: Review) -> str:
    """Where it stands now, its deadline considered."""
    return status_now(review, datetime.now(UTC))


def _data(review: Review) -> dict[str, Any]:
    own: dict[str, Any] = plain(review)
    return {"reference": Reviews.reference(review), **own, "status": _status(review)}


def _told(review: Review, *, as_json: bool) -> None:
    out = Output(as_json=as_json)
    if as_json:
        out.data(_data(review))
    else:
        out.line(f"{printable(Reviews.reference(review))}: {_standing(review)}")


def _standing(review: Review) -> str:
    """Where a question stands, and by whom."""
    status = _status(review)
    if status == "claimed":
        return f"kept by {printable(review.claimed_by)} until {printable(review.claimed_until)} (UTC)"
    if status == "pending":
        late = review.on_expiry or "reject"
        return f"open until {printable(review.answer_until)} (UTC), then it counts as {late}"
    if status == "expired":
        return f"expired: nobody answered in time, it counts as {review.decision or review.on_expiry or 'reject'}"
    said = ""
    if review.verdict is not None:
        corrected = {True: ", the run succeeded", False: ", the run failed", None: ""}[review.outcome]
        said = f": {review.verdict}{corrected}"
    by = f" by {printable(review.decided_by)}" if review.decided_by else ""
    return f"{status}{by}{said}"


def _exact(arguments: Any, *, indent: int | None = None) -> str:
    r"""Arguments exactly as they are, everything that a terminal would obey or hide escaped.

    >>> print(_exact({"a": "b  c" + chr(27) + chr(8238)}))
    {"a": "b  c\u001b\u202e"}
    """
    text = json.dumps(arguments, ensure_ascii=False, indent=indent)
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def _about(review: Review) -> str:
    """The tool that is asked about."""
    if review.tool_id is None:
        return "a run that has ended" if review.phase == "post" else "a step"
    return f"{review.tool_id} of {review.agent_id or 'no agent'}"


def _list_one(out: Output, review: Review) -> None:
    """A question, its reference on a line of its own: it is to be copied."""
    out.line(printable(Reviews.reference(review)))
    out.line(f"  {printable(review.question)}")
    with_ = "" if review.arguments is None else f" with {_exact(review.arguments)}"
    out.line(f"  {printable(_about(review))}{with_}")
    if review.reason:
        out.line(f"  why: {printable(review.reason)}")
    out.line(f"  {_standing(review)}")


def _show_one(out: Output, review: Review) -> None:
    out.line(printable(review.question))
    rows: Sequence[tuple[str, Any]] = (
        ("review", Reviews.reference(review)),
        ("about", _about(review)),
        ("step", review.process_id),
        ("why it is asked", review.reason),
        ("queue", review.queue_name),
        ("may be answered", ", ".join(review.allowed or ()) if review.phase == "pre" else "verdict"),
        ("reason", review.decision_reason),
        ("response", review.response),
        ("arguments (SHA-256)", review.arguments_hash),
    )
    for name, value in rows:
        if value is not None:
            out.line(f"{name}: {printable(value)}")
    out.line(f"stands: {_standing(review)}")
    if review.arguments is not None:
        out.line(f"arguments: {_exact(review.arguments, indent=2)}")
    if review.decision == "edit":
        out.line(f"to call with instead: {_exact(review.final_arguments, indent=2)}")
    out.line()
    trail = (
        (_show.moment(event.get("at")), event.get("what"), event.get("by"), event.get("to"), event.get("note"))
        for event in review.trail or ()
    )
    out.table("What happened", ("at (UTC)", "what", "by", "then", "note"), trail)


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(reviews, name="reviews")
