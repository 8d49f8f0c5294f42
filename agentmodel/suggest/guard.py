"""Guard: what to do about a call before it is made, whatever framework is about to make it.

    guard = model.guard()
    step = guard.before(agent_id="AGT001", tool_id="TL001", arguments=arguments, user_id="USR001",
                        session_id=session_id, call_id=call_id)
    match step:
        case Go():                  # make the call, then guard.after(step, result)
        case Known(result):         # it was made before: this is its answer; record it as `cache_hit`
        case Blocked(message):      # the tool fails now: tell the model; record it as `blocked`
        case Ask(review):           # a person decides: guard.answer(review), None while nobody has

What was decided about a call is a fact that is kept: run again after an interrupt or in another process, the call
finds its question, and the rule that asked it is not looked at again. A call that was let go is not asked about later.

Where a store is away the call goes on without what it would have told (plan, health, known answers). Whether a person
must be asked is different: where that cannot be known, or the question cannot be kept, the call is blocked.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from agentmodel import keys
from agentmodel.access.recorder import as_text, fitting
from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Agent, Review, Status, Tool
from agentmodel.exceptions import AgentModelError, CacheUnavailable, NotFound, TableUnavailable, ValidationError
from agentmodel.suggest.advise import Adviser, Failing, Place
from agentmodel.suggest.answers import Answer, Decision, answer_of, canonical
from agentmodel.suggest.health import HealthBook
from agentmodel.suggest.instead import Instead, Substitutes
from agentmodel.suggest.plan import Plan
from agentmodel.suggest.review import DEFAULT_QUEUE, Reviews, check_terms
from agentmodel.suggest.savings import KnownAnswers, Lookup, Scope

if TYPE_CHECKING:
    from agentmodel.cache.client import Valkey

__all__ = ["Ask", "Blocked", "Decided", "Go", "Guard", "Instead", "Known", "Rule"]

_log = logging.getLogger(__name__)

Rule: TypeAlias = (
    Literal["marked", "policy", "never", "always"] | Collection[str] | Callable[[str, str, Any], str | None]
)
"""When a person is asked: for tools marked ``needs_review``, as `Reviews.needed` says, never, always, for tools of
these names, or as a function of agent id, tool id and arguments says by giving a reason."""

_REMEMBERED = 10_000  # calls that this process has noted
_NOTES_SECONDS = 86_400  # for which they are kept in Valkey, beside the time in which a question is answered
_GONE, _ASKED, _NOTHING = "let go", "asked", ""


@dataclass(frozen=True, slots=True)
class Go:
    """Make the call, then hand it and its result to `Guard.after`.

    Attributes:
        lookup: Where its answer goes, for a tool whose answers are kept.
    """

    lookup: Lookup | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """Do not make the call.

    Attributes:
        message: For the model: what fails, since when, what was seen, and what works instead.
        since: When the tool began to fail; None where it does not, or nobody knows.
        instead: What works in its place, best first.
    """

    message: str
    since: datetime | None = None
    instead: tuple[Instead, ...] = ()

    @property
    def status(self) -> Status:
        """What to record the call as."""
        return "blocked"


@dataclass(frozen=True, slots=True)
class Known:
    """The call was made before.

    Attributes:
        result: Its answer.
    """

    result: Any

    @property
    def status(self) -> Status:
        """What to record the call as."""
        return "cache_hit"


@dataclass(frozen=True, slots=True)
class Ask:
    """A person decides; the question is kept. `Guard.answer` gives what was decided.

    Attributes:
        review: The question, as it stands.
    """

    review: Review


Decided: TypeAlias = Go | Blocked | Known | Ask


@dataclass(slots=True)
class _Call:
    """A call that is about to be made.

    Its key is the caller's id of it with agent and tool: an answer holds for no other tool. ``named`` says that the
    name of the tool is known, ``catalogued`` that the catalogue was asked for its item, ``exact`` that its
    arguments are what JSON gives back, ``works`` that its health was looked at and is not open.
    """

    place: Place
    tool: str
    named: bool
    catalogued: bool
    arguments: Any
    exact: bool
    user_id: str
    session_id: str
    key: str | None
    process_id: str | None
    item: Tool | None
    agent: Agent | None = None
    works: bool = False


class Guard:
    """Decides before each call; made by `AgentModel.guard`.

    Args:
        repository: The catalogue.
        health: Knows which tools fail now.
        reviews: Asks people.
        known: Answers of read-only tools.
        adviser: Makes plans.
        valkey: Keeps which calls were let go; without it each process knows its own.
        review: When a person is asked.
        cache: Whom known answers hold for; False looks for none.
        block: Whether tools that fail now are blocked; or the names of those that are.
        queue: Where the people look who answer.
        allowed: What may be answered.
        answer_within: From when on a question counts as answered by ``on_expiry``.
        on_expiry: That answer.
        domain: Of the agents that are given by name.
        now: Gives the present time.

    Raises:
        ValidationError: An argument is not accepted.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        health: HealthBook,
        reviews: Reviews,
        known: KnownAnswers,
        adviser: Adviser,
        valkey: Valkey | None = None,
        review: Rule = "marked",
        cache: Scope | Literal[False] = "user",
        block: bool | Collection[str] = True,
        queue: str = DEFAULT_QUEUE,
        allowed: Sequence[Decision] = ("approve", "edit", "reject", "respond"),
        answer_within: timedelta = timedelta(hours=24),
        on_expiry: Decision = "reject",
        domain: str = "agents",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._scope: Scope | None = cache or None
        if isinstance(review, str) and review not in ("marked", "policy", "never", "always"):
            raise ValidationError("review", review, "marked, policy, never, always, names of tools, or a function")
        if cache is not False and cache not in get_args(Scope):
            raise ValidationError("cache", cache, "user, everybody or False")
        check_terms(allowed, on_expiry, answer_within)
        keys.REVIEW_QUEUE.build(queue)
        self._repository = repository
        self._health = health
        self._reviews = reviews
        self._known = known
        self._adviser = adviser
        self._valkey = valkey
        self._rule = review
        self._block = block
        self._asking: Mapping[str, Any] = {
            "queue": queue,
            "allowed": allowed,
            "answer_within": answer_within,
            "on_expiry": on_expiry,
        }
        self._seconds = _NOTES_SECONDS + max(0, int(answer_within.total_seconds()))
        self._domain = domain
        self._now = now
        self._substitutes = Substitutes(repository, health)
        self._notes: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def plan(
        self,
        user_id: str,
        *,
        request: str | None = None,
        category: str | None = None,
        domain_id: str | None = None,
    ) -> Plan | None:
        """What to do for a request, or None where that cannot be said; never raises.

        ``plan.as_prompt()`` goes into the model's context; the session that follows it carries ``plan.suggestion_id``.

        Args:
            user_id: Who asks, by id or name.
            request: What is asked, in the user's words.
            category: The kind of request.
            domain_id: The domain to choose an agent of.
        """
        try:
            who = keys.id_of("USR", user_id)
            return self._adviser.suggest(who, category=category, request=request, domain_id=domain_id)
        except NotFound as error:
            _log.debug("guard.no_plan: nothing was recorded of the domain yet: %s", error)
            return None
        except Exception as error:  # noqa: BLE001  # an agent works without a plan
            _log.warning("guard.no_plan: %s goes on without a plan: %s", user_id, error)
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
    ) -> Decided:
        """What to do about a call that is about to be made.

        Agent, tool, user and session may be given by name, as the recorders take them.

        Args:
            agent_id: The agent that calls.
            tool_id: The tool.
            user_id: Whom the session is for.
            session_id: The session.
            arguments: What the tool would be called with; JSON.
            tool: Its name; that of the catalogue when not given.
            call_id: Identity of the call in its session, such as the model's id of it: run again, it is the same call.
                Without one, every run is a call of its own.
            process_id: The step.
            plan: The plan that is followed; its alternatives are named where the tool fails.
            fresh: Make the call although its answer may be known.
        """
        place = keys.id_of("AGT", agent_id, self._domain), keys.id_of("TL", tool_id)
        item, catalogued = self._tool(place)
        plain, exact = _plain(arguments)
        call = _Call(
            place=place,
            tool=tool or (tool_id if item is None else item.name),
            named=tool is not None or item is not None,
            catalogued=catalogued,
            arguments=plain,
            exact=exact and not fresh,
            user_id=keys.id_of("USR", user_id),
            session_id=keys.id_of("SESS", session_id),
            key=None if call_id is None else canonical([*place, call_id]),
            process_id=process_id,
            item=item,
        )
        return self._decide(call, plan)

    def _decide(self, call: _Call, plan: Plan | None) -> Decided:
        """What was decided before, else health, review and known answers, in this order."""
        gone = False
        if self._rule != "never" and call.key is not None:
            noted = self._noted(call)
            gone = noted == _GONE
            try:
                asked = None if gone else self._asked(call)
            except AgentModelError as error:
                if noted != _NOTHING:
                    return self._unknown(call, error)
                asked = None  # Valkey knows of no question
            if asked is not None:
                return Ask(asked)
        blocked = self._blocked(call, plan)
        if blocked is not None:
            return blocked
        if self._rule != "never" and not gone:
            asked_now = self._ask(call)
            if asked_now is not None:
                return asked_now
        return self._look(call)

    def may_ask(self, tool: str) -> bool:
        """Whether a person may be asked about calls of a tool of this name; some frameworks must know before."""
        rule = self._rule
        if isinstance(rule, str):
            return rule != "never"
        return callable(rule) or tool in rule or keys.id_of("TL", tool) in rule

    def undecided(self, tool: str) -> Go | Blocked:
        """What to do about a call of a tool of this name when `before` raised: where a person may be asked, no call."""
        return _unasked(tool) if self.may_ask(tool) else Go()

    def after(self, step: Decided, result: Any) -> None:
        """Keep the answer of a call that was made, where it may be given again; never raises."""
        if isinstance(step, Go) and step.lookup is not None:
            try:
                self._known.keep(step.lookup, result)
            except Exception as error:  # noqa: BLE001  # the call was made; an odd result is asked for again
                _log.warning("guard: an answer was not kept: %s", error)

    def answer(self, review: Review) -> Answer | None:
        """What was decided about a call, or None while the question is open.

        Raises:
            NotFound: The question does not exist any more.
            TableUnavailable: The table does not answer.
        """
        found = answer_of(review, self._now())  # an answer does not change any more
        return found if found is not None else self._reviews.answer(review)

    # Review

    def _asked(self, call: _Call) -> Review | None:
        """The question that was asked about this call."""
        return self._reviews.about(call.user_id, call.session_id, str(call.key), arguments=call.arguments)

    def _ask(self, call: _Call) -> Ask | Blocked | None:
        try:
            reason = self._reason(call)
            if reason is None:
                self._note(call, _GONE)
                return None
            self._note(call, _ASKED)
            review = self._reviews.ask(
                call.user_id,
                call.session_id,
                f"May {call.place[0]} call {call.tool}?",
                agent_id=call.place[0],
                tool_id=call.place[1],
                process_id=call.process_id,
                arguments=call.arguments,
                reason=reason,
                call_id=call.key,
                **self._asking,
            )
        except Exception as error:  # noqa: BLE001  # a rule of the application, too: what it would have said is not known
            return self._unknown(call, error)
        return Ask(review)

    def _reason(self, call: _Call) -> str | None:
        rule = self._rule
        if rule == "marked":
            if not call.catalogued:
                raise TableUnavailable(f"whether {call.tool} needs a review is not known")
            marked = call.item is not None and call.item.needs_review
            return _agreed(call) if marked else None
        if rule == "policy":
            sound: Mapping[Place, Failing] | None = {} if call.works else None
            needed = self._reviews.needed(*call.place, tool=call.item, agent=self._agent(call), failing=sound)
            return "; ".join(needed) or None
        if rule == "always":
            return "every call is looked at"
        if callable(rule):
            return rule(*call.place, call.arguments)
        if call.tool in rule or call.place[1] in rule:
            return _agreed(call)
        if not call.named and not call.catalogued:
            raise TableUnavailable(f"the name of {call.tool} is not known")
        return None

    def _unknown(self, call: _Call, error: Exception) -> Blocked:
        _log.warning("guard.not_asked: %s of %s is blocked: %s", call.place[1], call.place[0], error)
        return _unasked(call.tool)

    def _note(self, call: _Call, what: str) -> None:
        """Keep that a call needed no question, or that it has one.

        The first must be known later, when others of its step may have been made: a question would run them again.
        The second is in the table, and is looked for here while that does not answer.
        """
        if call.key is None:
            return
        where, name = self._mark(call)
        with self._lock:
            self._notes[where, name] = what
            if len(self._notes) > _REMEMBERED:
                self._notes.popitem(last=False)
        if self._valkey is not None:
            try:
                self._valkey.call([("HSET", where, name, what), ("EXPIRE", where, self._seconds)])
            except CacheUnavailable as error:
                _log.warning("guard: only this process knows that %s is %s: %s", call.tool, what, error)

    def _noted(self, call: _Call) -> str | None:
        """What is kept of a call; None where that cannot be known."""
        where, name = self._mark(call)
        with self._lock:
            if (where, name) in self._notes:
                return self._notes[where, name]
        if self._valkey is None:
            return None
        try:
            held = self._valkey.one(("HGET", where, name))
        except CacheUnavailable:
            return None
        return _NOTHING if held is None else str(held.decode())

    def _mark(self, call: _Call) -> tuple[str, str]:
        prefix = "" if self._valkey is None else self._valkey.settings.valkey_prefix
        name = self._reviews.id_of(str(call.key), arguments=call.arguments)
        return f"{prefix}:guard:{call.user_id}:{call.session_id}", name[:16]

    # Health and known answers

    def _tool(self, place: Place) -> tuple[Tool | None, bool]:
        """The tool's item, if there is one, and whether the catalogue was asked."""
        try:
            return self._repository.tool(*place), True
        except AgentModelError as error:
            _log.warning("guard: %s of %s is not known at present: %s", place[1], place[0], error)
            return None, False

    def _agent(self, call: _Call) -> Agent | None:
        """The agent's item, read once for a call."""
        if call.agent is None:
            call.agent = self._repository.agent(call.place[0])
        return call.agent

    def _blocked(self, call: _Call, plan: Plan | None) -> Blocked | None:
        watched = self._block if isinstance(self._block, bool) else call.tool in self._block
        if not watched:
            return None
        try:
            tools = {} if call.item is None else {call.place: call.item}
            health = self._health.health([call.place], tools).get(call.place)
        except AgentModelError as error:
            _log.warning("guard: the health of %s of %s is not known: %s", call.place[1], call.place[0], error)
            return None
        if health is None or health.state(self._now()) != "open":
            call.works = True
            return None
        instead = self._substitutes.of(call.place, call.tool, call.item, plan)
        told = [f"{call.tool} was not called: it fails"]
        if health.since is not None:
            told.append(f" since {health.since:%Y-%m-%d %H:%M} UTC")
        told.append(f" ({health.note}).")
        if health.half_open_at is not None:
            told.append(f" It may be tried again at {health.half_open_at:%Y-%m-%d %H:%M} UTC.")
        if instead:
            told.append(f" Instead, use {' or '.join(each.told(call.place[0]) for each in instead)}.")
        else:
            told.append(" Nothing that works is known to do the same.")
        return Blocked("".join(told), health.since, instead)

    def _look(self, call: _Call) -> Go | Known:
        if self._scope is None or not call.exact or call.item is None or not call.item.read_only:
            return Go()
        try:
            agent = self._agent(call)
            found = self._known.look(
                *call.place, call.arguments, user_id=call.user_id, scope=self._scope, tool=call.item, agent=agent
            )
        except AgentModelError as error:
            _log.warning("guard: no answer of %s is known at present: %s", call.tool, error)
            return Go()
        return Known(found.result) if found.hit else Go(found)


def _unasked(tool: str) -> Blocked:
    return Blocked(
        f"{tool} was not called: a person may have to agree first, and nobody can be asked at present. "
        "Go on without it, or try again later."
    )


def _agreed(call: _Call) -> str:
    return f"{call.tool} is used only after a person agreed"


def _plain(arguments: Any) -> tuple[Any, bool]:
    """Arguments as a question keeps them, and whether that is exactly what they are."""
    try:
        canonical(arguments).encode()
    except (ValidationError, UnicodeEncodeError):
        return fitting(as_text(arguments)), False
    return arguments, True
