"""Reviews over MCP: the open questions, and forms for the person at the client."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, cast

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve
from pydantic import BaseModel, ConfigDict, Field

from agentmodel._values.text import one_line, prompt_text
from agentmodel.callers import Caller
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import VERDICTS, Review, Verdict
from agentmodel.exceptions import ValidationError
from agentmodel.integrations.mcp._request import Cursor, CutText, Limit, Offset, Request, caller_of, readable, state_of
from agentmodel.integrations.mcp._schemas import OpenReviews, Question
from agentmodel.suggest.review import DEFAULT_QUEUE, Reviews

__all__ = ["ElicitedAnswer", "ReviewVerdict", "decide_review", "list_reviews"]


class _FormAnswer(BaseModel):
    """What a person answers in a form. Forms of MCP clients take flat fields only."""

    model_config = ConfigDict(extra="forbid")


class ElicitedAnswer(_FormAnswer):
    """What a person decides about a step before it is taken."""

    decision: Literal["approve", "edit", "reject", "respond"] = Field(description="What to do about the call.")
    reason: str = Field(default="", description="Why; required for reject.")
    text: str = Field(default="", description="With edit: the new arguments as JSON. With respond: the text to return.")


class ReviewVerdict(_FormAnswer):
    """The verdict of a person on a run that has ended."""

    verdict: Verdict = Field(description="How the run went.")
    outcome: Literal["succeeded", "failed"] | None = Field(
        default=None,
        description="Whether the run succeeded. If left out, correct means succeeded, wrong and harmful mean failed, "
        "and partly changes nothing.",
    )
    reason: str = Field(default="", description="Why.")


Said = Annotated[
    ElicitedAnswer | ReviewVerdict | None,
    Field(
        description="Only for a client without forms: what the person answered. For a question about a run that has "
        "ended, pass a verdict."
    ),
]


def _question(ctx: Request, review: Review, note: str | None = None) -> Question:
    model, size, reference = state_of(ctx).model, state_of(ctx).size, Reviews.reference(review)
    exact = json.dumps(review.arguments, ensure_ascii=False)
    shown = size.cut(exact, "list_reviews", f"{reference}/arguments")
    return Question(
        review=reference,
        question=size.line(review.question, "list_reviews", f"{reference}/question"),
        phase=review.phase or "pre",
        status=model.reviews.status(review),
        agent_id=review.agent_id,
        tool_id=review.tool_id,
        arguments=review.arguments if shown == exact else shown,
        reason=size.line(review.reason, "list_reviews", f"{reference}/reason"),
        allowed=VERDICTS if review.phase == "post" else tuple(review.allowed or ()),
        answer_until=review.answer_until,
        decision=review.decision,
        verdict=review.verdict,
        outcome=review.outcome,
        decided_by=review.decided_by,
        note=note,
    )


@readable
def list_reviews(
    ctx: Request,
    queue: str = DEFAULT_QUEUE,
    *,
    limit: Limit = 20,
    cursor: Cursor = None,
    text: CutText = None,
    offset: Offset = 0,
) -> OpenReviews:
    """List the open questions of a queue, nearest deadline first. For reviewers.

    With ``text``, return the rest of one text that was cut.
    """
    caller_of(ctx).need("reviewer")
    model, size = state_of(ctx).model, state_of(ctx).size
    if text is not None:
        return OpenReviews(text=size.part(text, _text_of(model, text), offset))

    def page(most: int) -> OpenReviews:
        found = model.reviews.inbox(queue, limit=most, cursor=cursor)
        return OpenReviews(reviews=tuple(_question(ctx, review) for review in found.items), cursor=found.cursor)

    return size.page(limit, page)


def _text_of(model: AgentModel, text: str) -> str:
    """Return a text of a question, by the name that stands where it was cut."""
    reference, _, name = text.rpartition("/")
    review = model.reviews.get(reference)
    match name:
        case "arguments":
            return json.dumps(review.arguments, ensure_ascii=False)
        case "question":
            return review.question
        case "reason":
            return review.reason or ""
    raise ValidationError("text", text, "must be the name of a text, as it stands where the text was cut")


def _may_decide(ctx: Request, which: str) -> tuple[Caller, Review]:
    caller, state = caller_of(ctx), state_of(ctx)
    caller.need("reviewer")
    review = state.model.reviews.get(which)
    caller.check_reviewer(which, review.user_id, self_review=state.self_review)
    return caller, review


@readable
def asked_person(ctx: Request, review: str, said: Said = None) -> Elicit[_FormAnswer] | _FormAnswer:
    """Return the form for the person at the client; for a client without forms, the answer that its call has."""
    _, found = _may_decide(ctx, review)
    model = state_of(ctx).model
    after = found.phase == "post"
    kind, subject = (ReviewVerdict, _run(model, found)) if after else (ElicitedAnswer, _step(ctx, found))
    capabilities = ctx.client_capabilities
    form = None if capabilities is None else capabilities.elicitation
    if form is not None and (form.form is not None or form.url is None):
        return Elicit(f"{one_line(found.question, longest=1000)}\n{subject}", kind)
    if said is None:
        raise ToolError(
            f"review {review} stays open: this client cannot show a form to a person. "
            "Ask the person, then call this tool again with their answer as `said`"
        )
    if not isinstance(said, kind):
        fields = ", ".join(kind.model_fields)
        raise ToolError(
            f"review {review} stays open: `said` must be an object with the fields {fields}, because the question is "
            f"about {subject.partition(chr(10))[0]}"
        )
    return said


def _step(ctx: Request, review: Review) -> str:
    """Return what a person decides about: the tool, the agent and the exact arguments."""
    exact = json.dumps(review.arguments, ensure_ascii=True, sort_keys=True)
    exact = state_of(ctx).size.cut(exact, "list_reviews", f"{Reviews.reference(review)}/arguments")
    about = f"{review.tool_id or 'a step'} of {review.agent_id or 'no agent'}"
    return f"{about} with {exact}\nSHA-256 {review.arguments_hash}"


def _run(model: AgentModel, review: Review) -> str:
    """Return what a person judges: a run that has ended, and its first calls."""
    lines = [f"run {review.session_id} of {review.user_id}, which has ended"]
    session = model.repository.session(review.user_id, review.session_id)
    if session is None:
        return f"{lines[0]}; its history does not exist any more"
    calls = model.repository.session_history(review.user_id, review.session_id, limit=20).executions
    lines += [f"asked for: {prompt_text(session.request, longest=1000)}"] if session.request else []
    lines += [
        f"{prompt_text(call.tool_name)}: {call.status or ('ok' if call.succeeded else 'error')}" for call in calls
    ]
    return "\n".join(lines)


@readable
def decide_review(
    ctx: Request,
    review: str,
    answer: Annotated[ElicitationResult[_FormAnswer], Resolve(asked_person)],
    said: Said = None,  # noqa: ARG001  # `asked_person` takes it
) -> Question:
    """Show a question to the person at the client in a form, and store their answer. For reviewers.

    The person decides about a step that is not taken yet, or gives a verdict on a run that has ended. Pass ``said``
    only if the client has no forms, and only with what the person said.
    """
    caller, found = _may_decide(ctx, review)
    model, size = state_of(ctx).model, state_of(ctx).size
    if not isinstance(answer, AcceptedElicitation):
        note = f"nothing was decided, because the person chose to {answer.action}"
        return size.shortened(_question(ctx, found, note))
    person = answer.data
    if isinstance(person, ReviewVerdict):
        outcome = None if person.outcome is None else person.outcome == "succeeded"
        done = model.reviews.verdict(
            review, person.verdict, caller.user_id, outcome=outcome, reason=person.reason or None
        )
    else:
        done = _decided(model.reviews, found, cast("ElicitedAnswer", person), caller.user_id)
    return size.shortened(_question(ctx, done))


def _decided(reviews: Reviews, review: Review, person: ElicitedAnswer, by: str) -> Review:
    return reviews.decide(
        review,
        person.decision,
        by,
        reason=person.reason or None,
        arguments=_edited(person.text) if person.decision == "edit" else None,
        response=(person.text or None) if person.decision == "respond" else None,
        arguments_hash=review.arguments_hash,
    )


def _edited(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValidationError("text", text, "must be the arguments to call with, as JSON") from None
