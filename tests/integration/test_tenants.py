"""Customers are kept apart as the page says: by table, by leading keys as far as they go, and by Valkey's rules."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import redis
from botocore.exceptions import ClientError

from agentmodel import Agent, AgentModel, Domain, Settings, Tool, User
from agentmodel.embedded import ValkeyServer
from agentmodel.exceptions import AgentModelError
from tests.integration.suggest_world import catalogue, learn, opened, run

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "tenants"
POLICIES = sorted(EXAMPLES.glob("*.json"))
ARN = re.compile(r"arn:aws:dynamodb:[a-z0-9-]+:[0-9]{12}:table/[A-Za-z0-9_.-]{3,255}(/index/GSI1)?")
BY_ITEM = {"TransactWriteItems", "TransactGetItems"}  # IAM asks for the actions of their parts


def statements(path: Path) -> list[dict[str, Any]]:
    """The statements of a policy."""
    return list(json.loads(path.read_text(encoding="utf-8"))["Statement"])


def listed(value: str | list[str]) -> list[str]:
    """One value or several."""
    return [value] if isinstance(value, str) else value


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_the_form_of_a_policy(path: Path) -> None:
    """A policy has the form that IAM reads: version, known actions of DynamoDB, ARNs of a table or its index."""
    policy = json.loads(path.read_text(encoding="utf-8"))
    known = botocore.session.get_session().get_service_model("dynamodb").operation_names

    assert {"Version", "Statement"} == policy.keys()
    assert "2012-10-17" == policy["Version"]
    for statement in statements(path):
        assert {"Sid", "Effect", "Action", "Resource"} <= statement.keys() <= {*statement, "Condition"}
        assert re.fullmatch(r"[A-Za-z0-9]+", statement["Sid"])
        assert "Allow" == statement["Effect"]
        assert {f"dynamodb:{name}" for name in known} >= set(listed(statement["Action"]))
        assert all(ARN.fullmatch(each) for each in listed(statement["Resource"]))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_a_condition_holds_for_every_request(path: Path) -> None:
    """Where leading keys are a condition, a request without any is not allowed, such as a scan or a statement."""
    for statement in statements(path):
        for operator, tests in statement.get("Condition", {}).items():
            assert operator in ("ForAllValues:StringLike", "Null")
            assert {"dynamodb:LeadingKeys"} == tests.keys()
        if "Condition" in statement:
            assert "false" == statement["Condition"]["Null"]["dynamodb:LeadingKeys"]
            assert {"dynamodb:Scan", "dynamodb:ExecuteStatement"}.isdisjoint(listed(statement["Action"]))


def asked_of(operation: str, request: Mapping[str, Any]) -> Iterator[tuple[str, bool, set[str]]]:
    """What IAM decides about for a request: actions, each with whether it asks the index, and its leading keys."""
    if operation in BY_ITEM:
        for part in request["TransactItems"]:
            for name, each in part.items():
                yield name if name == "ConditionCheck" else f"{name}Item", False, {_leading(each)}
    elif operation.startswith("Batch"):
        for asked in request["RequestItems"].values():
            parts = asked["Keys"] if operation == "BatchGetItem" else [each for part in asked for each in part.values()]
            yield operation, False, {_leading(part) for part in parts}
    elif operation == "Query":
        keys = {value["S"] for name, value in request["ExpressionAttributeValues"].items() if name == ":pk"}
        assert keys, "a query without a partition key"
        yield operation, "IndexName" in request, keys
    elif {"Key", "Item"} & request.keys():
        yield operation, False, {_leading(request)}
    else:
        yield operation, False, set()


def _leading(part: Mapping[str, Any]) -> str:
    item = part.get("Key") or part.get("Item") or part
    return str(item["PK"]["S"])


def allows(policy: list[dict[str, Any]], operation: str, request: Mapping[str, Any]) -> bool:
    """Whether a policy allows a request, as IAM decides by action, resource and leading keys."""
    return all(
        any(_matches(statement, action, index, leading) for statement in policy)
        for action, index, leading in asked_of(operation, request)
    )


def _matches(statement: dict[str, Any], action: str, index: bool, leading: set[str]) -> bool:
    resources = [each for each in listed(statement["Resource"]) if ("/index/" in each) is index]
    if f"dynamodb:{action}" not in listed(statement["Action"]) or not resources:
        return False
    if "Condition" not in statement:
        return True
    patterns = listed(statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"])
    return bool(leading) and all(any(fnmatchcase(key, each) for each in patterns) for key in leading)


def guarded(model: AgentModel, policy: list[dict[str, Any]]) -> list[str]:
    """Have a model's table refuse what a policy does not allow, as DynamoDB does; the list of what was refused."""
    refused: list[str] = []
    client = model.table.client
    call = client._make_api_call

    def checked(operation: str, request: Mapping[str, Any]) -> Any:
        if not allows(policy, operation, request):
            refused.append(operation)
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}, operation)
        return call(operation, request)

    client._make_api_call = checked
    return refused


@pytest.fixture
def bare(settings: Settings) -> Settings:
    """Settings without Valkey: every read and write asks the table."""
    return settings.model_copy(update={"valkey_url": None})


def two_tenants(model: AgentModel) -> None:
    """A domain with an agent, a tool and a user of each of two customers."""
    for name in ("acme", "beta"):
        domain_id, agent_id = f"DMN{name}:support", f"AGT{name}:finder"
        model.repository.put(
            Domain(domain_id=domain_id, name=f"{name}:support"),
            Agent(agent_id=agent_id, domain_id=domain_id, name="finder"),
            Tool(agent_id=agent_id, tool_id="TLsearch", domain_id=domain_id, name="search"),
            User(user_id=f"USR{name}:ada", name="ada"),
        )


def record(model: AgentModel, tenant: str) -> str:
    """Record a session with a call, and ask a person about it; its id."""
    with model.session(f"USR{tenant}:ada", "find a café", category="cafes") as session:
        with session.process("look") as process, process.call(f"AGT{tenant}:finder", "TLsearch") as call:
            call.result = "found"
        model.reviews.ask(session.user_id, session.session_id, "Was it right?", phase="post")
    model.settle()
    return session.session_id


def test_a_tenant_with_a_table_of_its_own_can_do_everything(settings: Settings) -> None:
    """The policy of a table of one's own allows the whole loop: record, drain, learn, publish, plan and review."""
    with opened(settings) as model:
        refused = guarded(model, statements(EXAMPLES / "own_table.json"))
        catalogue(model)
        for _ in range(3):
            run(model)
        learn(model)
        model.publish()
        plan = model.suggest("USR001", category="cafe search")
        review = model.reviews.ask("USR001", "SESS1", "Was it right?")
        model.reviews.decide(review, "approve", "kim")

    assert [] == refused
    assert "own mapping" == plan.source


def test_leading_keys_let_a_tenant_record_and_read_its_own(bare: Settings) -> None:
    """With ids that begin with its name, a customer records and reads its users, agents and tools in a shared table."""
    with opened(bare) as model:
        two_tenants(model)
        refused = guarded(model, statements(EXAMPLES / "shared_table.json"))
        session_id = record(model, "acme")
        repository = model.repository
        calls = repository.session_history("USRacme:ada", session_id).executions
        review = model.reviews.ask("USRacme:ada", session_id, "Shall it?")
        model.reviews.decide(review, "approve", "kim")
        read = [
            *repository.sessions("USRacme:ada"),
            *repository.agents_by_score("DMNacme:support"),
            *repository.domain_tools("DMNacme:support"),
            *repository.agent_tools("AGTacme:finder"),
        ]
        repository.delete(calls[0])

    assert ["found"] == [call.result for call in calls]
    assert 4 == len(read)
    assert [] == refused


def test_leading_keys_let_a_late_record_of_an_erased_user_be_taken_back(bare: Settings) -> None:
    """What a limited role records in a session that was open when its user was erased is deleted again."""
    with opened(bare) as operator, opened(bare) as model:
        two_tenants(operator)
        refused = guarded(model, statements(EXAMPLES / "shared_table.json"))
        with model.session("USRacme:ada", "where?", session_id="SESS1") as session:
            operator.erase_user("USRacme:ada")
            with session.process("look") as process, process.call("AGTacme:finder", "TLlook") as call:
                call.result = "found"
        model.settle()
        left = operator.repository.session_history("USRacme:ada", "SESS1")
        sessions = list(operator.repository.sessions("USRacme:ada"))

    assert [] == refused
    assert ([], []) == (list(left.executions), list(left.processes))
    assert [] == sessions


OF_ANOTHER: dict[str, Callable[[AgentModel], object]] = {
    "its sessions": lambda model: model.repository.sessions("USRbeta:ada"),
    "its history": lambda model: model.repository.session_history("USRbeta:ada", "SESS1"),
    "its agents": lambda model: model.repository.agents_by_score("DMNbeta:support"),
    "its tools": lambda model: model.repository.agent_tools("AGTbeta:finder"),
    "a user whose name begins likewise": lambda model: model.repository.user("USRacme-eu:ada"),
    "its records": lambda model: record(model, "beta"),
    "a change of the catalogue": lambda model: model.repository.put(Domain(domain_id="DMNacme:other", name="other")),
    "all": lambda model: list(model.table.scan()),
    "an erasure of its user": lambda model: model.erase_user("USRbeta:ada"),
}


@pytest.mark.parametrize("what", OF_ANOTHER)
def test_leading_keys_keep_a_tenant_from_another(bare: Settings, what: str) -> None:
    """With leading keys a customer reads and writes nothing of another, and scans nothing."""
    with opened(bare) as model:
        two_tenants(model)
        refused = guarded(model, statements(EXAMPLES / "shared_table.json"))
        with pytest.raises(AgentModelError, match="AccessDenied"):
            OF_ANOTHER[what](model)

    assert [] != refused


OF_ALL: dict[str, Callable[[AgentModel], object]] = {
    "domains": lambda model: model.repository.domains(),
    "mappings of all users": lambda model: model.repository.mappings(),
    "plans of a category": lambda model: model.suggest("USRacme:ada", category="cafes"),
    "the queue of reviews": lambda model: model.reviews.inbox(),
    "publish": lambda model: model.publish(),
}


@pytest.mark.parametrize("what", OF_ALL)
def test_what_leading_keys_cannot_divide(bare: Settings, what: str) -> None:
    """Domains, mappings, plans, review queues and publishing use partitions of all customers: they are not allowed."""
    with opened(bare) as model:
        two_tenants(model)
        model.refresh()
        guarded(model, statements(EXAMPLES / "shared_table.json"))
        with pytest.raises(AgentModelError, match="AccessDenied"):
            OF_ALL[what](model)


# Valkey


def client_of(url: str) -> Any:
    """A client of redis-py, which is not typed."""
    return redis.Redis.from_url(url.replace("valkey:", "redis:", 1))


@pytest.fixture
def acme(valkey_server: ValkeyServer, valkey_url: str) -> Iterator[str]:
    """The URL of Valkey for a user with the rules of the page; the server is empty but for a key of another tenant."""
    words = (EXAMPLES / "valkey.acl").read_text(encoding="utf-8").split()
    with closing(client_of(valkey_url)) as client:
        client.execute_command("ACL", "SETUSER", *words[1:])
        client.execute_command("ACL", "LOG", "RESET")
        client.set("beta:secret", "of beta")
        yield valkey_url.replace("valkey://", "valkey://acme:change-me@", 1)
        client.execute_command("ACL", "DELUSER", words[1])


def test_the_rules_of_valkey_allow_the_whole_loop(settings: Settings, acme: str) -> None:
    """A customer with a prefix and a user of its own records, drains, learns, publishes and plans; all keys are its."""
    mine = settings.model_copy(update={"valkey_url": acme, "valkey_prefix": "acme"})
    with opened(mine) as model:
        catalogue(model)
        tool = model.repository.tool("AGT001", "TL001")
        assert tool is not None
        tool.read_only = True
        model.repository.put(tool)
        for _ in range(3):
            run(model)
        learn(model)
        model.publish()
        model.repository.top_agents("DMN001")
        guard = model.guard(review="policy")
        told: dict[str, Any] = {"agent_id": "AGT001", "tool_id": "TL001", "user_id": "USR001", "session_id": "SESS1"}
        guard.after(model.guard(review="never").before(**told), "found")
        guard.before(**told, call_id="c1")
        plan = model.suggest("USR001", category="cafe search")
        stats = model.stats()
    with closing(client_of(str(settings.valkey_url))) as client:
        denied = [repr(entry) for entry in client.execute_command("ACL", "LOG")]
        keys = {key.decode() for key in client.scan_iter()}

    assert "own mapping" == plan.source
    assert stats is not None
    assert [] == [each for each in denied if "config|get" not in each]  # without it, the fsync policy is not known
    assert {"acme", "beta"} == {key.partition(":")[0] for key in keys}


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "beta:secret"),
        ("SET", "beta:secret", "mine"),
        ("DEL", "beta:secret"),
        ("EVAL", "return redis.call('GET', KEYS[1])", 1, "beta:secret"),
        ("EVAL", "return redis.call('GET', 'beta:secret')", 0),
        ("COPY", "beta:secret", "acme:mine"),
        ("SCAN", 0),
        ("KEYS", "*"),
        ("RANDOMKEY",),
        ("DBSIZE",),
        ("FLUSHALL",),
        ("SCRIPT", "FLUSH"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("ACL", "LIST"),
        ("PUBLISH", "beta", "x"),
        ("MONITOR",),
    ],
    ids=str,
)
def test_the_rules_of_valkey_keep_a_tenant_from_another(acme: str, command: tuple[Any, ...]) -> None:
    """A customer's user reads, writes, counts and names no key of another, by no command and no script."""
    refused = pytest.raises(redis.exceptions.ResponseError, match=r"(?i)no permission|NOPERM|can't access")
    with closing(client_of(acme)) as client, refused:
        client.execute_command(*command)


def test_a_tenant_with_the_prefix_of_another_keeps_its_records(settings: Settings, acme: str) -> None:
    """With a wrong prefix nothing goes into Valkey: records go straight to the table, and no key of another changes."""
    wrong = settings.model_copy(update={"valkey_url": acme, "valkey_prefix": "beta"})
    with opened(wrong) as model:
        catalogue(model)
        session_id = run(model)
        stored = model.repository.session_history("USR001", session_id).executions
    with closing(client_of(str(settings.valkey_url))) as client:
        keys = {key.decode() for key in client.scan_iter()}

    assert 3 == len(stored)
    assert {"beta:secret"} == keys
