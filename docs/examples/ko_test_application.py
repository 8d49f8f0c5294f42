"""애플리케이션의 테스트: 테스트마다 자기 테이블이 있다."""

from hypothesis import HealthCheck, given, settings

from agentmodel import Agent, AgentModel, Settings
from agentmodel.dynamo.table import Table
from agentmodel.testing import agents


def test_a_call_is_recorded(agentmodel_model: AgentModel) -> None:
    with agentmodel_model.session("USR001", "카페") as session:
        with session.process("찾기") as process, process.call("AGT001", "TL001") as call:
            call.result = ["카페 온다"]

    (recorded,) = agentmodel_model.repository.session_history("USR001", session.session_id).executions
    assert recorded.result == '["카페 온다"]'


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(agents(domain_id="DMN001", expires_at=None))
def test_every_agent_is_found_by_its_id(agentmodel_model: AgentModel, agent: Agent) -> None:
    agentmodel_model.repository.put(agent)
    assert agentmodel_model.repository.agent(agent.agent_id) == agent


def test_the_table_is_empty(agentmodel_table: Table) -> None:
    assert list(agentmodel_table.scan()) == []


def test_the_settings_can_be_changed(agentmodel_settings: Settings, agentmodel_endpoint: str) -> None:
    with AgentModel.from_settings(agentmodel_settings, ranking="evidence") as model:
        assert (model.settings.ranking, model.settings.endpoint) == ("evidence", agentmodel_endpoint)
