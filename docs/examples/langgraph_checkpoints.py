"""One session: a searching agent's state in Valkey, a paying agent's in DynamoDB, and the history of both."""

import contextlib
from typing import Any

import boto3
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langgraph.types import Command
from langgraph_checkpoint_aws import DynamoDBSaver, ValkeySaver

from agentmodel import AgentModel
from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware, Tracker

THREAD = {"configurable": {"thread_id": "t1"}, "metadata": {"user_id": "kim", "category": "booking"}}


def search(near: str) -> str:
    """Find cafés."""
    return f"a café near the {near}"


def pay(amount: int) -> str:
    """Pay a deposit."""
    return f"paid {amount}"


def agent(name: str, tools: list[Any], says: list[AIMessage], tracker: Tracker, saver: Any) -> tuple[Any, Any]:
    """An agent that a person must ask before it pays, and the config of its thread."""
    scripted = type("Scripted", (FakeMessagesListChatModel,), {"bind_tools": lambda self, _tools, **_told: self})
    guard = tracker.model.guard(review={"pay"}, domain="cafes")
    made = create_agent(
        scripted(responses=[*says]),  # stands for your model
        tools,
        name=name,
        middleware=[AgentModelMiddleware(tracker, guard)],
        checkpointer=saver,
    )
    return made, {**THREAD, "callbacks": [AgentModelCallback(tracker)]}


def asks(tool: str, call_id: str, **arguments: Any) -> AIMessage:
    """What the model says to have a tool called."""
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": call_id}])


def dynamodb_saver(model: AgentModel) -> DynamoDBSaver:
    """LangGraph's state in a table of its own, in the DynamoDB of the model."""
    secret = model.settings.secret_access_key
    session = boto3.Session(
        aws_access_key_id=model.settings.access_key_id,
        aws_secret_access_key=None if secret is None else secret.get_secret_value(),
        region_name=model.settings.region,
    )
    client = session.client("dynamodb", endpoint_url=model.settings.endpoint)
    with contextlib.suppress(client.exceptions.ResourceInUseException):  # it is there
        client.create_table(
            TableName="Checkpoints",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
        )
    return DynamoDBSaver("Checkpoints", session=session, endpoint_url=model.settings.endpoint)


def first_process(model: AgentModel) -> None:
    """Find a café, then ask a person before paying; the process may end here."""
    with Tracker(model, domain="cafes") as tracker:
        with ValkeySaver.from_conn_string(str(model.settings.valkey_url), ttl_seconds=3600) as saver:
            finder, config = agent("finder", [search], [asks("search", "c1", near="park"), AIMessage("Found.")],
                                   tracker, saver)  # fmt: skip
            finder.invoke({"messages": [("user", "book a café near the park")]}, config)
            print("Valkey:", len(finder.get_state(config).values["messages"]), "messages of the finder")
        payer, config = agent("payer", [pay], [asks("pay", "c2", amount=7)], tracker, dynamodb_saver(model))
        (waits,) = payer.invoke({"messages": [("user", "pay the deposit")]}, config)["__interrupt__"]
        print("DynamoDB: the payer waits,", waits.value["question"].split(" call ")[1], waits.value["arguments"])


def reviewer(model: AgentModel) -> None:
    """A person, elsewhere: by `agentmodel reviews`, an MCP client, or like this."""
    (review,) = model.reviews.inbox().items
    model.reviews.decide(review, "edit", "lee", arguments={"amount": 5}, reason="five is enough")


def later_process(model: AgentModel) -> None:
    """Go on where the payer waits, with what was decided."""
    with Tracker(model, domain="cafes") as tracker:
        payer, config = agent("payer", [pay], [AIMessage("Booked.")], tracker, dynamodb_saver(model))
        state = payer.invoke(Command(resume=True), config)
        print("Resumed:", state["messages"][-2].text)


if __name__ == "__main__":
    with AgentModel.local() as here:
        first_process(here)
        for step in (reviewer, later_process):
            with AgentModel(here.settings) as elsewhere:
                step(elsewhere)
        (session,) = here.repository.sessions("USRkim")
        for call in here.repository.session_history("USRkim", session.session_id).executions:
            print("History:", session.category, "|", call.tool_name, call.values, call.status)
