"""Guard: decides what to do about a call before it is made, whatever framework makes it.

    guard = model.guard()
    decision = guard.before(agent_id="AGT001", tool_id="TL001", arguments=arguments, user_id="USR001",
                            session_id=session_id, call_id=call_id)
    match decision:
        case Go():                  # make the call, then guard.after(decision, result)
        case Cached(result):        # the result of an earlier call: use it, and record the call as `cache_hit`
        case Blocked(message):      # the tool is failing: give the model the message, and record the call as `blocked`
        case Ask(review):           # a person must decide: guard.answer(review) is None until they have

`Enforcer` carries these decisions out for a framework.

A question is stored: run again after an interrupt, or in another process, the call finds its question, and the review
rule is not evaluated again. Nor is it evaluated again for a call that needed no question.

If a store does not answer, the call goes on without what that store knows (plan, health, cached result). A review is
different: if the guard cannot find out whether a person must be asked, or cannot store the question, it blocks the
call. For DynamoDB a decision waits for ``timeout`` seconds at most, all its questions together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from agentmodel import keys
from agentmodel._log import logger
from agentmodel._runtime.deadline import deadline, no_deadline
from agentmodel._values.text import storable_text
from agentmodel.access.repository import Repository
from agentmodel.dynamo.entity import ItemKey
from agentmodel.dynamo.models import Agent, Review, Tool
from agentmodel.exceptions import AgentModelError, NotFound, TableUnavailable, ValidationError
from agentmodel.suggest._types import Failing, ToolRef
from agentmodel.suggest.guard._decided_calls import DecidedCalls, RuleOutcome
from agentmodel.suggest.guard._decision import Ask, Blocked, Cached, Go, GuardDecision
from agentmodel.suggest.guard._response_cache import CacheScope, ResponseCache, Write
from agentmodel.suggest.guard._texts import blocked_text, cannot_ask_text
from agentmodel.suggest.health import HealthMonitor, counted_user
from agentmodel.suggest.plan import Fallbacks, Plan, Planner
from agentmodel.suggest.review import (
    DEFAULT_QUEUE,
    Answer,
    Decision,
    Reviews,
    answer_of,
    approval_reason,
    canonical,
    check_terms,
    sorted_arguments,
    write_history,
)

if TYPE_CHECKING:
    from agentmodel.cache import Valkey

__all__ = ["Guard", "ReviewRule"]

_log = logger(__name__)

ReviewRule: TypeAlias = (
    Literal["marked", "history", "policy", "never", "always"] | Collection[str] | Callable[[str, str, Any], str | None]
)
"""When a person is asked: for tools marked ``needs_review``, for these and for writes that earlier runs speak against
(``history``), as `Reviews.needed` says (``policy``), never, always, for the tools of these names or ids, or when a
function of agent id, tool id and arguments returns a reason."""

_REMEMBERED_SECONDS = 86_400  # how long Valkey keeps a decision not to ask, beyond the deadline of a question
_MOST_MADE = 1_000  # tools


@dataclass(slots=True)
class _Call:
    """A call that is about to be made.

    Its key is the caller's id of it with agent and tool, so that an answer is valid for no other tool. ``named`` says
    that the name of the tool is known, ``catalogued`` that the catalogue answered, ``exact`` that its arguments are
    what JSON gives back, ``works`` that its health was read and is not open.
    """

    ref: ToolRef
    tool: str
    named: bool
    arguments: Any
    exact: bool
    user_id: str
    session_id: str
    key: str | None
    number: int  # among the calls of its id
    process_id: str | None
    item: Tool | None = None
    catalogued: bool = True
    agent: Agent | None = None
    works: bool = False
    equal_calls: bool = False
    memory_id: str = ""  # under which the outcome of the rule is remembered

    def __post_init__(self) -> None:
        if self.key is not None:  # each call of an id that is sent again has its own
            first = self.key if self.number == 1 else f"{self.key}~{self.number}"
            self.memory_id = Reviews.id_of(first, arguments=self.arguments)

    def found(self, item: Tool | None, catalogued: bool) -> None:
        """Note what the catalogue has of the tool."""
        self.item, self.catalogued = item, catalogued
        if item is not None and not self.named:
            self.tool, self.named = item.name, True

    @property
    def session(self) -> tuple[str, str]:
        return self.user_id, self.session_id

    @property
    def counted_user(self) -> str:
        """Whose failures count for it, besides those of everybody."""
        return counted_user(self.user_id, self.session_id)


class Guard:
    """Decides what to do about each call before it is made; `AgentModel.guard` makes one.

    Args:
        repository: The catalogue.
        health: Tells which tools are failing.
        reviews: Asks people.
        response_cache: Cached results of read-only tools.
        planner: Makes plans.
        valkey: Shares between processes which calls needed no question; None keeps that in this process.
        review: When a person is asked.
        cache: Who gets a cached result; False uses no cache.
        block: Whether to block tools that are failing; or the names of the tools to block.
        queue: Queue of the questions.
        allowed: Decisions that a person may take.
        answer_within: Time until the deadline of a question.
        on_expiry: Decision that counts from the deadline on.
        domain: Domain of agents that are given by name.
        timeout: Seconds that a decision may wait for DynamoDB.
        now: Returns the present time.

    Raises:
        ValidationError: An argument is not accepted.

    Attributes:
        reviews: The same.

    >>> guard = model.guard(review=["book_table"])
    >>> call = dict(agent_id="AGT002", user_id="USR261", session_id="SESS1", arguments={"place": "park"})
    >>> decision = guard.before(tool_id="TL002", **call)
    >>> type(decision).__name__
    'Go'
    >>> guard.after(decision, ["quiet café at the park"])
    >>> guard.before(tool_id="TL002", **call)
    Cached(result=['quiet café at the park'])
    >>> decision = guard.before(tool_id="TL003", **call)
    >>> type(decision).__name__, guard.answer(decision.review)
    ('Ask', None)
    """

    def __init__(
        self,
        repository: Repository,
        *,
        health: HealthMonitor,
        reviews: Reviews,
        response_cache: ResponseCache,
        planner: Planner,
        valkey: Valkey | None = None,
        review: ReviewRule = "marked",
        cache: CacheScope | Literal[False] = "user",
        block: bool | Collection[str] = True,
        queue: str = DEFAULT_QUEUE,
        allowed: Sequence[Decision] = ("approve", "edit", "reject", "respond"),
        answer_within: timedelta = timedelta(hours=24),
        on_expiry: Decision = "reject",
        domain: str = "agents",
        timeout: float = 2.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._scope: CacheScope | None = cache or None
        if isinstance(review, str) and review not in ("marked", "history", "policy", "never", "always"):
            rule = "must be marked, history, policy, never, always, a collection of tool names, or a function"
            raise ValidationError("review", review, rule)
        if cache is not False and cache not in get_args(CacheScope):
            raise ValidationError("cache", cache, "must be user, everybody or False")
        check_terms(allowed, on_expiry, answer_within)
        keys.REVIEW_QUEUE.build(queue)
        self._repository = repository
        self._health = health
        self.reviews = reviews
        self._response_cache = response_cache
        self._planner = planner
        self._rule = review
        self._block = block
        self._asking: Mapping[str, Any] = {
            "queue": queue,
            "allowed": allowed,
            "answer_within": answer_within,
            "on_expiry": on_expiry,
        }
        self._domain = domain
        self._timeout = timeout
        self._now = now
        self._fallbacks = Fallbacks(repository, health)
        seconds = _REMEMBERED_SECONDS + max(0, int(answer_within.total_seconds()))
        self._decided_calls = DecidedCalls(valkey, seconds=seconds)
        self._made: dict[ToolRef, tuple[Tool | None]] = {}  # tools whose last call was made, with their items

    def plan(
        self,
        user_id: str,
        *,
        request: str | None = None,
        category: str | None = None,
        domain_id: str | None = None,
        session_id: str | None = None,
    ) -> Plan | None:
        """Return a plan for a request, or None if none can be made; never raises.

        Put ``plan.as_prompt()`` into the model's context, and give the session that follows it ``plan.suggestion_id``.

        Args:
            user_id: The user, by id or name.
            request: The request, in the user's words.
            category: The kind of request.
            domain_id: The domain to choose an agent from.
            session_id: The session that the plan is for, by id or name: all its plans are given, or all withheld.

        >>> model.guard().plan("USR002", category="cafe search").agent
        'review agent'
        """
        try:
            who = keys.lenient_id_of("USR", user_id)
            domain = None if domain_id is None else keys.lenient_id_of("DMN", domain_id)
            session = None if session_id is None else keys.lenient_id_of("SESS", session_id)
            return self._planner.suggest(who, category=category, request=request, domain_id=domain, session_id=session)
        except NotFound as error:
            _log.debug("guard.no_plan: the domain has no history yet: %s", error)
            return None
        except Exception as error:  # noqa: BLE001  # an agent works without a plan
            _log.warning("guard.no_plan: could not plan for %s; the agent continues without a plan: %s", user_id, error)
            return None

    def before(
        self,
        *,
        agent_id: str,
        tool_id: str,
        user_id: str,
        session_id: str,
        arguments: Any = None,
        tool: str | None = None,
        call_id: str | None = None,
        process_id: str | None = None,
        plan: Plan | None = None,
        fresh: bool = False,
        asked_at: datetime | None = None,
        asked: int = 1,
        equal_calls: bool = False,
    ) -> GuardDecision:
        """Decide what to do about a call that is about to be made.

        Agent, tool, user and session may be given by id or by name, as for the recorder.

        Args:
            agent_id: The agent that calls.
            tool_id: The tool.
            user_id: The user of the session.
            session_id: The session.
            arguments: Arguments of the call; JSON.
            tool: Name of the tool; the name in the catalogue when not given.
            call_id: Identity of the call in its session, such as the model's id of it: run again, it is the same call.
                Without one, each run is a call of its own.
            process_id: The step.
            plan: The plan that the agent follows; its alternatives are named if the tool is failing.
            fresh: Whether to ignore a cached result.
            asked_at: When the model asked for this call, if that was seen. A question from before is about an earlier
                call with the same id, if that call has ended: some servers send the same ids in every turn.
            asked: How many calls of this id the model asked for, as far as the caller saw it: all but the last ended.
            equal_calls: Whether ``call_id`` is the id of all calls of the session, since the framework gives none: a
                question is then about one of the calls with these arguments, and that one of them needed no question
                says nothing of the next.
        """
        within = () if "/" in agent_id else (self._domain,)  # "support/finder" names a domain of its own
        ref = ToolRef(keys.lenient_id_of("AGT", agent_id, *within), keys.lenient_id_of("TL", tool_id))
        plain, exact = _plain(arguments)
        user_id, session_id = keys.lenient_id_of("USR", user_id), keys.lenient_id_of("SESS", session_id)
        call = _Call(
            ref=ref,
            tool=tool or tool_id,
            named=tool is not None,
            arguments=plain,
            exact=exact and not fresh,
            user_id=user_id,
            session_id=session_id,
            # where nobody is asked, no question has to be told by it
            key=None if call_id is None or self._rule == "never" else canonical([*ref, call_id]),
            number=asked,
            process_id=process_id,
            equal_calls=equal_calls,
        )
        with deadline(self._timeout):
            with self._sent_ahead(call, exact=exact):
                call.found(*self._tool(ref))
                decision = self._decide(call, plan, asked_at)
                if isinstance(decision, Go):
                    self._response_cache.begins(user_id, call.item, ref, plain, exact=exact)
            self._remember(call, isinstance(decision, Go))
            return decision

    def _sent_ahead(self, call: _Call, *, exact: bool) -> AbstractContextManager[None]:
        """Send what a decision may ask Valkey for in one round trip; the block's commands are answered by it.

        A call of a tool whose last call was made here is marked as one that may write, before that is decided: a mark
        too many only has a result be fetched again.
        """
        items: list[ItemKey[Any]] = [Tool.at(*call.ref)]
        if self._scope is not None or self._rule == "policy":
            items.append(Agent.at(call.ref.agent_id))
        commands = self._health.reads([call.ref]) if self._block else []
        if self._rule != "never" and call.key is not None:
            commands += self._decided_calls.reads(call.session, call.memory_id)
        made = self._made.get(call.ref)
        if made is not None:
            commands += self._response_cache.marks(call.user_id, made[0], call.ref, call.arguments, exact=exact)
        return self._repository.prefetched(items, others=commands)

    def _remember(self, call: _Call, made: bool) -> None:
        """Remember the item of a tool whose call is made, for the next one."""
        if not made:
            self._made.pop(call.ref, None)
        elif len(self._made) < _MOST_MADE or call.ref in self._made:
            self._made[call.ref] = (call.item,)

    def _decide(self, call: _Call, plan: Plan | None, asked_at: datetime | None) -> GuardDecision:
        """Take the earlier decision if there is one, else look at health, review rule and cache, in this order."""
        released = False
        if self._rule != "never" and call.key is not None:
            outcome = self._decided_calls.recall(call.session, call.memory_id)
            released = outcome == "released" and not call.equal_calls
            try:
                review = None if released else self._review(call, asked_at, ended=call.number > 1)
            except AgentModelError as error:
                if outcome != "":
                    return self._cannot_ask(call, error)
                review = None  # Valkey knows of no question
            if review is not None:
                return Ask(review)
        blocked = self._blocked(call, plan)
        if blocked is not None:
            return blocked
        if self._rule != "never" and not released:
            question = self._ask(call)
            if question is not None:
                return question
        return self._cached(call)

    def may_ask(self, tool: str) -> bool:
        """Return whether a person may be asked about calls of the tool of this name.

        >>> guard = model.guard(review=["book_table"])
        >>> guard.may_ask("book_table"), guard.may_ask("read_reviews")
        (True, False)
        """
        rule = self._rule
        if isinstance(rule, str):
            return rule != "never"
        return callable(rule) or tool in rule or keys.lenient_id_of("TL", tool) in rule

    def undecided(self, tool: str) -> Go | Blocked:
        """Decide about a call after `before` raised: block it if a person may be asked about the tool, else make it.

        >>> guard = model.guard(review=["book_table"])
        >>> guard.undecided("book_table").status, type(guard.undecided("read_reviews")).__name__
        ('blocked', 'Go')
        """
        return Blocked(cannot_ask_text(tool)) if self.may_ask(tool) else Go()

    def after(self, decision: GuardDecision, result: Any) -> None:
        """Cache the result of a call that was made, if the decision allows it; never raises."""
        if isinstance(decision, Go) and decision.lookup is not None:
            try:
                self._response_cache.keep(decision.lookup, result)
            except Exception as error:  # noqa: BLE001  # the call was made; the next one is made again
                _log.warning("guard: a result was not cached: %s", error)

    def answer(self, review: Review) -> Answer | None:
        """Return what was decided about a call, or None while the question is open.

        Raises:
            NotFound: The question does not exist any more.
            TableUnavailable: The table does not answer.
        """
        found = answer_of(review, self._now())  # an answer does not change any more
        with deadline(self._timeout):
            found = self.reviews.answer(review) if found is None else found
            if found is not None and found.permits and review.agent_id is not None and review.tool_id is not None:
                ref = ToolRef(review.agent_id, review.tool_id)
                self._response_cache.learn([Write(review.user_id, ref, canonical(found.arguments), "began")])
        return found

    # Review

    def _review(self, call: _Call, asked_at: datetime | None, *, ended: bool) -> Review | None:
        """Return the question that was asked about this call, and give the call the key of its question.

        Questions about calls with the same id and the same arguments have the numbers 1, 2, ….
        """
        first, found = str(call.key), None
        for number in count(1):
            key = first if number == 1 else f"{first}~{number}"
            review = self.reviews.about(call.user_id, call.session_id, key, arguments=call.arguments)
            if review is None:
                if found is not None and not self._is_earlier(found, call, asked_at, ended=ended):
                    return found
                call.key = key
                return None
            call.key, found = key, review
        raise AssertionError("unreachable")  # pragma: no cover - the loop returns

    def _is_earlier(self, review: Review, asking: _Call, asked_at: datetime | None, *, ended: bool) -> bool:
        """Return whether a question is about an earlier call than the one that the model asked for at this time.

        Where equal calls are told by number, another process may have made the call that a question is about since.
        """
        if asked_at is None or review.asked_at is None:
            return False
        until = None if asking.equal_calls else asked_at
        if review.asked_at >= asked_at:
            if until is not None:
                return False
            ended = False
        decided_at = review.decided_at or review.answer_until
        if ended or decided_at is None:
            return ended
        texts = {storable_text(review.arguments), storable_text(review.final_arguments)}
        return any(
            (call.agent_id, call.tool_id) == (review.agent_id, review.tool_id)
            and call.values in texts
            and decided_at <= (made := call.executed_at or decided_at)
            and (until is None or made < until)
            for call in self._repository.session_history(review.user_id, review.session_id).executions
        )

    def _ask(self, call: _Call) -> Ask | Blocked | None:
        try:
            reason = self._reason(call)
            if call.key is not None:
                outcome: RuleOutcome = "released" if reason is None else "asked"
                self._decided_calls.remember(call.session, call.memory_id, outcome)
            if reason is None:
                return None
            review = self.reviews.ask(
                call.user_id,
                call.session_id,
                f"May {call.ref.agent_id} call {call.tool}?",
                agent_id=call.ref.agent_id,
                tool_id=call.ref.tool_id,
                process_id=call.process_id,
                arguments=call.arguments,
                reason=reason,
                call_id=call.key,
                **self._asking,
            )
        except Exception as error:  # noqa: BLE001  # also of a rule of the application, whose outcome is then not known
            return self._cannot_ask(call, error)
        return Ask(review)

    def _reason(self, call: _Call) -> str | None:
        rule = self._rule
        if rule in ("marked", "history"):
            if not call.catalogued:
                raise TableUnavailable(
                    f"could not read whether {call.tool} is marked needs_review: call it again later"
                )
            marked = call.item is not None and call.item.needs_review
            if marked or rule == "marked":
                return approval_reason(call.tool) if marked else None
            return self._against_history(call)
        if rule == "policy":
            items = {} if call.item is None else {call.ref: call.item}
            failing: Mapping[ToolRef, Failing] = {}
            if not call.works:
                failing = self._health.failing([call.ref], items, user_id=call.counted_user)
            needed = self.reviews.needed(*call.ref, tool=call.item, agent=self._agent(call), failing=failing)
            return "; ".join(needed) or None
        if rule == "always":
            return "every call needs approval"
        if callable(rule):
            with no_deadline():  # it is the application's
                return rule(*call.ref, call.arguments)
        if call.tool in rule or call.ref.tool_id in rule:
            return approval_reason(call.tool)
        if not call.named and not call.catalogued:
            raise TableUnavailable(f"could not read the name of {call.tool}: call it again later")
        return None

    def _against_history(self, call: _Call) -> str | None:
        """Return what the earlier runs of the user and category say against a write call.

        Nothing is said where there are too few successes, and where the session has neither a category nor a request.
        """
        if call.item is not None and call.item.read_only:
            return None
        session = self._repository.session(call.user_id, call.session_id)
        if session is None:
            return None
        history = write_history(self._repository, session)
        if not history.successes:
            _log.debug("guard.no_history: no earlier runs of %s like %s are known", call.user_id, call.session_id)
        arguments = self._repository.redaction.text(canonical(call.arguments))
        return history.reason(call.tool, sorted_arguments(arguments))

    def _cannot_ask(self, call: _Call, error: Exception) -> Blocked:
        _log.warning(
            "guard.not_asked: blocked a call of %s of %s; it may need approval, and nobody could be asked: %s",
            call.ref.tool_id,
            call.ref.agent_id,
            error,
        )
        return Blocked(cannot_ask_text(call.tool))

    # Health and cache

    def _tool(self, ref: ToolRef) -> tuple[Tool | None, bool]:
        """Return the tool's item, if there is one, and whether the catalogue answered."""
        try:
            return self._repository.tool(*ref), True
        except AgentModelError as error:
            _log.warning(
                "guard: could not read tool %s of %s; deciding without it: %s", ref.tool_id, ref.agent_id, error
            )
            return None, False

    def _agent(self, call: _Call) -> Agent | None:
        """Return the agent's item, read once for a call."""
        if call.agent is None:
            call.agent = self._repository.agent(call.ref.agent_id)
        return call.agent

    def _blocked(self, call: _Call, plan: Plan | None) -> Blocked | None:
        blocks = self._block if isinstance(self._block, bool) else call.tool in self._block
        if not blocks:
            return None
        try:
            tools = {} if call.item is None else {call.ref: call.item}
            health = self._health.health_by_failures([call.ref], tools, user_id=call.counted_user).get(call.ref)
        except AgentModelError as error:
            _log.warning(
                "guard: could not read the health of %s of %s; not blocking the call: %s",
                call.ref.tool_id,
                call.ref.agent_id,
                error,
            )
            return None
        if health is None or health.state(self._now()) != "open":
            call.works = True
            return None
        fallbacks = self._fallbacks.of(call.ref, call.tool, call.item, plan, user_id=call.counted_user)
        return Blocked(blocked_text(call.tool, call.ref.agent_id, health, fallbacks), health.since, fallbacks)

    def _cached(self, call: _Call) -> Go | Cached:
        if self._scope is None or not call.exact or call.item is None or not call.item.read_only:
            return Go()
        try:
            agent = self._agent(call)
            found = self._response_cache.look(
                *call.ref, call.arguments, user_id=call.user_id, scope=self._scope, tool=call.item, agent=agent
            )
        except AgentModelError as error:
            _log.warning("guard: could not look up a cached result of %s; making the call: %s", call.tool, error)
            return Go()
        return Cached(found.result) if found.hit else Go(found)


def _plain(arguments: Any) -> tuple[Any, bool]:
    """Return arguments as a question stores them, and whether that is exactly what they are."""
    try:
        canonical(arguments)
    except ValidationError:
        return storable_text(arguments), False
    return arguments, True
