"""`agentmodel reviews`: list and answer the questions that wait for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from agentmodel._lookup.decisions import ANSWERS, page_of_decisions
from agentmodel._lookup.ids import Ids
from agentmodel.cli import _show
from agentmodel.cli._model import agent_names, open_model, parse_since
from agentmodel.cli._options import Cursor, Json, Limit, Since, stack_of
from agentmodel.cli._output import Output, plain, printable
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import VERDICTS, Review, Verdict
from agentmodel.exceptions import ValidationError
from agentmodel.suggest.review import DEFAULT_QUEUE, Decision, Reviews, status_now

if TYPE_CHECKING:  # the warehouse loads SQLAlchemy, which few commands need
    from agentmodel.redshift.decisions import PastDecision

__all__ = ["add"]

reviews = typer.Typer(help="List and answer questions that wait for a person.", rich_markup_mode=None)

Reference = Annotated[
    str,
    typer.Argument(
        metavar="REVIEW",
        help="Reference USER/SESSION/REVIEW, as `agentmodel reviews list` prints it, or a beginning of its last part "
        "that no other one has, with or without USER/SESSION.",
    ),
]
Queue = Annotated[str, typer.Option(metavar="NAME", help="Name of the queue.")]
By = Annotated[str, typer.Option(metavar="NAME", help="Your name; it is kept with the question.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why you decide so; it is kept with the answer.")]
Hash = Annotated[
    str | None,
    typer.Option(
        "--hash",
        metavar="SHA256",
        help="Answer only if this is the hash of the arguments, as `reviews show` prints it.",
    ),
]


# Show questions


@reviews.command("list")
def list_(
    ctx: typer.Context,
    *,
    queue: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Name of the queue. [default: {DEFAULT_QUEUE}]")
    ] = None,
    decided: Annotated[
        bool, typer.Option("--decided", help="List what was decided, newest first, in every queue.")
    ] = False,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="With --decided: only of this reviewer.")] = None,
    user: Annotated[str | None, typer.Option(metavar="USER", help="With --decided: only about this user.")] = None,
    agent: Annotated[str | None, typer.Option(metavar="AGENT", help="With --decided: only about this agent.")] = None,
    tool: Annotated[str | None, typer.Option(metavar="TOOL", help="With --decided: only about this tool.")] = None,
    answer: Annotated[
        str | None, typer.Option(metavar="ANSWER", help=f"With --decided: only one of: {', '.join(ANSWERS)}.")
    ] = None,
    since: Since = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List the open questions of a queue, nearest deadline first, or what was decided.

    What was decided comes from the warehouse, as of the last refresh.
    """
    narrow = {"by": by, "user": user, "agent": agent, "tool": tool, "answer": answer}
    if decided:
        with open_model(stack_of(ctx)) as model:
            made, cursor = page_of_decisions(
                model, model.warehouse, **narrow, queue=queue, since=parse_since(since), limit=limit, cursor=cursor,
                dashes="--",
            )  # fmt: skip
        _show_decided(Output(as_json=as_json), made, cursor)
        return
    for name, value in {**narrow, "since": since}.items():
        if value is not None:
            raise ValidationError(f"--{name}", value, "cannot be asked of open questions: add --decided")
    queue = queue or DEFAULT_QUEUE
    with open_model(stack_of(ctx)) as model:
        found, cursor, unreadable = _open_questions(model, queue, limit, cursor)
        names = {} if as_json else agent_names(model, (review.agent_id for review in found))
    out = Output(as_json=as_json)
    if as_json:
        out.data({"reviews": [_data(review) for review in found], "cursor": cursor})
    else:
        for review in found:
            _list_one(out, review, names)
        if not found:
            out.line(printable(out.say("No question waits in queue {queue}.", queue=repr(queue))))
        if cursor is not None:
            out.line(out.say("There may be more: add --cursor {cursor}", cursor=cursor))
    if unreadable:
        out.note(f"Questions left out because they cannot be read: {unreadable}. Run `agentmodel check` to see why.")


def _show_decided(out: Output, made: Sequence[PastDecision], cursor: str | None) -> None:
    if out.as_json:
        out.data({"decisions": [{"reference": each.reference, **plain(each)} for each in made], "cursor": cursor})
        return
    rows = [
        (_show.moment(each.at), out.say(each.verdict or each.status), each.by, each.user_name, each.tool_name,
         each.agent_name, each.question, each.reason)
        for each in made
    ]  # fmt: skip
    columns = ("decided (UTC)", "answer", "by", "user", "tool", "agent", "question", "reason of the answer")
    out.table("Decisions, newest first", columns, rows, empty="No decision. Run `agentmodel refresh`; or ask for more.")
    if cursor is not None:
        out.line(out.say("There may be more: add --cursor {cursor}", cursor=cursor))


def _open_questions(
    model: AgentModel, queue: str, limit: int, cursor: str | None
) -> tuple[list[Review], str | None, int]:
    """Return a page of open questions, its cursor and the number of unreadable ones; skip pages without an open one."""
    unreadable = 0
    while True:
        page = model.reviews.inbox(queue, limit=limit, cursor=cursor)
        unreadable += len(page.unreadable)
        cursor = page.cursor
        if page.items or cursor is None:
            return list(page.items), cursor, unreadable


@reviews.command()
def show(ctx: typer.Context, review: Reference, *, as_json: Json = False) -> None:
    """Show a question, its arguments and what happened to it."""
    with open_model(stack_of(ctx)) as model:
        found = model.reviews.get(Ids(model).review(review, decided=True))
        names = agent_names(model, [found.agent_id])
    out = Output(as_json=as_json)
    if as_json:
        out.data(_data(found))
    else:
        _show_one(out, found, names)


# Answer a question that is asked before a step


@reviews.command()
def approve(
    ctx: typer.Context, review: Reference, *, by: By, reason: Reason = None, seen: Hash = None, as_json: Json = False
) -> None:
    """Approve the step as it was asked."""
    _decide(ctx, review, "approve", by, reason=reason, seen=seen, as_json=as_json)


@reviews.command()
def edit(
    ctx: typer.Context,
    review: Reference,
    *,
    values: Annotated[str, typer.Option(metavar="JSON", help="Arguments to call the tool with instead.")],
    by: By,
    reason: Reason = None,
    seen: Hash = None,
    as_json: Json = False,
) -> None:
    """Approve the step with other arguments."""
    arguments = _arguments(values)
    _decide(ctx, review, "edit", by, reason=reason, seen=seen, arguments=arguments, as_json=as_json)


@reviews.command()
def reject(
    ctx: typer.Context,
    review: Reference,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why you reject it; it is kept with the answer.")],
    by: By,
    seen: Hash = None,
    as_json: Json = False,
) -> None:
    """Reject the step and say why."""
    _decide(ctx, review, "reject", by, reason=reason, seen=seen, as_json=as_json)


@reviews.command()
def respond(
    ctx: typer.Context,
    review: Reference,
    *,
    text: Annotated[str, typer.Option(metavar="TEXT", help="Text that the program gets as the result.")],
    by: By,
    reason: Reason = None,
    seen: Hash = None,
    as_json: Json = False,
) -> None:
    """Answer with a text instead of calling the tool.

    The program gets the text in place of the tool's result.
    """
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
    with open_model(stack_of(ctx)) as model:
        done = model.reviews.decide(
            Ids(model).review(review),
            decision,
            who,
            reason=reason,
            arguments=arguments,
            response=response,
            arguments_hash=seen,
        )
    _print_status(done, as_json=as_json)


# Claim a question, rate a run, expire what is overdue


@reviews.command()
def claim(
    ctx: typer.Context,
    review: Reference,
    *,
    by: By,
    minutes: Annotated[float, typer.Option(min=1, max=1440, help="How long you keep it, in minutes.")] = 15.0,
    as_json: Json = False,
) -> None:
    """Reserve a question for yourself.

    Nobody else can answer it until --minutes have passed or you release it.
    """
    who = _name(by)
    with open_model(stack_of(ctx)) as model:
        done = model.reviews.claim(Ids(model).review(review), who, minutes=minutes)
    _print_status(done, as_json=as_json)


@reviews.command()
def release(ctx: typer.Context, review: Reference, *, by: By, as_json: Json = False) -> None:
    """Release a question that you claimed.

    Others can answer it again.
    """
    who = _name(by)
    with open_model(stack_of(ctx)) as model:
        done = model.reviews.release(Ids(model).review(review), who)
    _print_status(done, as_json=as_json)


@reviews.command()
def verdict(
    ctx: typer.Context,
    review: Reference,
    rating: Annotated[str, typer.Argument(metavar="VERDICT", help="One of: correct, partly, wrong, harmful.")],
    *,
    by: By,
    outcome: Annotated[
        bool | None,
        typer.Option("--succeeded/--failed", help="Whether the run succeeded. [default: as the verdict implies]"),
    ] = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Rate a finished run as correct, partly, wrong or harmful.

    The next refresh counts the corrected outcome; the recorded one is kept beside it.
    """
    checked, who = _verdict(rating), _name(by)
    with open_model(stack_of(ctx)) as model:
        done = model.reviews.verdict(Ids(model).review(review), checked, who, outcome=outcome, reason=reason)
    _print_status(done, as_json=as_json)


@reviews.command()
def sweep(ctx: typer.Context, *, queue: Queue = DEFAULT_QUEUE, as_json: Json = False) -> None:
    """Expire or escalate overdue questions of a queue.

    Also finishes verdicts that were interrupted. Run it on a schedule.
    """
    with open_model(stack_of(ctx)) as model:
        done = model.reviews.sweep(queue)
    out = Output(as_json=as_json)
    if as_json:
        out.data(done)
    else:
        told = "Questions expired: {expired}, escalated: {escalated}, verdicts finished: {applied}."
        out.line(out.say(told, expired=done.expired, escalated=done.escalated, applied=done.applied))


# Check what is given, print what is found


def _name(by: str) -> str:
    if not by.strip():
        raise ValidationError("--by", by, "must be the name of the person who does it")
    return by.strip()


def _verdict(text: str) -> Verdict:
    for known in VERDICTS:
        if text == known:
            return known
    raise ValidationError("VERDICT", text, "must be one of " + ", ".join(VERDICTS))


def _arguments(text: str) -> Any:
    def refused(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise ValidationError("--values", text, f'must be JSON, such as \'{{"order": "W123"}}\': {error}') from None


def _status(review: Review) -> str:
    """Return the status as of now, which the deadline may have changed."""
    return status_now(review, datetime.now(UTC))


def _data(review: Review) -> dict[str, Any]:
    own: dict[str, Any] = plain(review)
    return {"reference": Reviews.reference(review), **own, "status": _status(review)}


def _print_status(review: Review, *, as_json: bool) -> None:
    out = Output(as_json=as_json)
    if as_json:
        out.data(_data(review))
    else:
        out.line(f"{printable(Reviews.reference(review))}: {_status_text(out, review)}")


def _status_text(out: Output, review: Review) -> str:
    """Return the status of a question in words: who decided what, or until when it can be answered."""
    status = _status(review)
    if status == "claimed":
        by, until = printable(review.claimed_by), printable(review.claimed_until)
        return out.say("claimed by {name} until {until} UTC", name=by, until=until)
    if status == "pending":
        told = "open until {until} UTC; without an answer it counts as {answer}"
        return out.say(told, until=printable(review.answer_until), answer=out.say(review.on_expiry or "reject"))
    if status == "expired":
        answer = out.say(review.decision or review.on_expiry or "reject")
        return out.say("expired: nobody answered in time, so it counts as {answer}", answer=answer)
    verdict = ""
    if review.verdict is not None:
        corrected = {True: "{verdict}, the run succeeded", False: "{verdict}, the run failed", None: "{verdict}"}
        verdict = ": " + out.say(corrected[review.outcome], verdict=out.say(review.verdict))
    by = out.say(" by {name}", name=printable(review.decided_by)) if review.decided_by else ""
    return f"{out.say(status)}{by}{verdict}"


def _exact(arguments: Any, *, indent: int | None = None) -> str:
    r"""Return arguments as JSON; characters that control a terminal or that it would hide are escaped.

    >>> print(_exact({"a": "b  c" + chr(27) + chr(8238)}))
    {"a": "b  c\u001b\u202e"}
    """
    text = json.dumps(arguments, ensure_ascii=False, indent=indent)
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def _about(out: Output, review: Review, names: Mapping[str, str]) -> str:
    """Return what the question is about: a tool of an agent, a step, or a run."""
    if review.tool_id is None:
        return out.say("a run that has ended" if review.phase == "post" else "a step")
    agent = names.get(review.agent_id or "", review.agent_id or out.say("no agent"))
    return out.say("{tool} of {agent}", tool=review.tool_id, agent=agent)


def _list_one(out: Output, review: Review, names: Mapping[str, str]) -> None:
    """Show a question, with its reference on a line of its own to be copied."""
    out.line(printable(Reviews.reference(review)))
    out.line(f"  {printable(review.question)}")
    about = printable(_about(out, review, names))
    if review.arguments is not None:
        about = out.say("{about} with {arguments}", about=about, arguments=_exact(review.arguments))
    out.line(f"  {about}")
    if review.reason:
        out.line("  " + out.say("why: {reason}", reason=printable(review.reason)))
    out.line(f"  {_status_text(out, review)}")


def _show_one(out: Output, review: Review, names: Mapping[str, str]) -> None:
    out.line(printable(review.question))
    rows: Sequence[tuple[str, Any]] = (
        ("review", Reviews.reference(review)),
        ("about", _about(out, review, names)),
        ("step", review.process_id),
        ("why it is asked", review.reason),
        ("queue", review.queue_name),
        ("possible answers", ", ".join(review.allowed or ()) if review.phase == "pre" else "verdict"),
        ("reason of the answer", review.decision_reason),
        ("text of the answer", review.response),
        ("arguments (SHA-256)", review.arguments_hash),
    )
    for name, value in rows:
        if value is not None:
            out.line(f"{out.say(name)}: {printable(value)}")
    out.line(out.say("status: {status}", status=_status_text(out, review)))
    if review.arguments is not None:
        out.line(out.say("arguments: {arguments}", arguments=_exact(review.arguments, indent=2)))
    if review.decision == "edit":
        final = _exact(review.final_arguments, indent=2)
        out.line(out.say("arguments to call with instead: {arguments}", arguments=final))
    out.line()
    trail = (
        (_show.moment(event.get("at")), event.get("what"), event.get("by"), event.get("to"), event.get("note"))
        for event in review.trail or ()
    )
    out.table("What happened", ("time (UTC)", "event", "by", "status after", "note"), trail)


def add(app: typer.Typer) -> None:
    """Add the commands `reviews …` to the application."""
    app.add_typer(reviews, name="reviews")
