"""테이블 하나를 AWS 샘플의 쿼리와 agentmodel로 읽는다: 둘 다 같은 아이템을 찾는다."""

from typing import Any

import boto3
from boto3.dynamodb.conditions import Key

from agentmodel import AgentModel

ITEMS: list[dict[str, str]] = [  # 샘플의 create_agent_table.py가 쓰는 그대로
    {"PK": "DMN001", "SK": "METADATA", "EntityType": "Domain", "GSI1_PK": "Domain", "GSI1_SK": "매장검색서비스",
     "DomainNM": "매장검색서비스"},
    {"PK": "AGT001", "SK": "METADATA", "EntityType": "Agent", "GSI1_PK": "DMN001", "GSI1_SK": "AGTSCORE#60",
     "AgentNM": "매장 검색 에이전트", "Score": "60"},
    {"PK": "AGT001", "SK": "TL001", "EntityType": "Tool", "GSI1_PK": "DMN001", "GSI1_SK": "TL#FIND_LOC",
     "ToolNM": "FIND_LOC"},
    {"PK": "USR001", "SK": "SESS20250614001", "EntityType": "UserSession", "GSI1_PK": "USR001",
     "GSI1_SK": "잠실종합운동장 맛집 검색 세션", "UserSessionNM": "잠실종합운동장 맛집 검색 세션"},
    {"PK": "USR001#SESS20250614001", "SK": "PRC001", "EntityType": "UserSessionProcess", "ProcNM": "위치확인"},
    {"PK": "USR001#SESS20250614001", "SK": "PRC001#AGT001#TL001", "EntityType": "UserSessPrcToolMappHist",
     "ToolNM": "FIND_LOC", "TransactDT": "20250614140605", "SuccYN": "Y", "ResultMsg": "잠실종합운동장 위치"},
    {"PK": "USR001", "SK": "UserPrcToolMapp#매장검색", "EntityType": "UserPrcToolMapp", "GSI1_PK": "UserPrcToolMapp",
     "GSI1_SK": "매장검색", "Proclist": '{"PRC001": "위치확인"}', "AgentList": '{"AGT001": "매장 검색 에이전트"}',
     "Toollist": '{"PRC001#AGT001#TL001": "FIND_LOC"}'},
]  # fmt: skip

with AgentModel.local() as model:  # 실제로는 AgentModel.from_settings(table="AgentTable", region="ap-northeast-2")
    settings, repository = model.settings, model.repository
    dynamodb: Any = boto3.resource(
        "dynamodb", endpoint_url=settings.endpoint, region_name=settings.region,
        aws_access_key_id="local", aws_secret_access_key="local",  # noqa: S106 # nobody checks it
    )  # fmt: skip
    table = dynamodb.Table(settings.table)
    for item in ITEMS:
        table.put_item(Item=item)

    # --8<-- [start:domains]
    theirs = table.query(IndexName="GSI1", KeyConditionExpression=Key("GSI1_PK").eq("Domain"))["Items"]
    print([item["DomainNM"] for item in theirs])

    ours = repository.domains()
    print([domain.name for domain in ours])
    # --8<-- [end:domains]
    # --8<-- [start:top_agents]
    theirs = table.query(
        IndexName="GSI1",
        KeyConditionExpression=Key("GSI1_PK").eq("DMN001") & Key("GSI1_SK").begins_with("AGTSCORE"),
        ScanIndexForward=False,
        Limit=5,
    )["Items"]
    print([(item["AgentNM"], item["Score"]) for item in theirs])

    agents = repository.top_agents("DMN001", limit=5)
    print([(agent.name, agent.score) for agent in agents])
    # --8<-- [end:top_agents]
    # --8<-- [start:domain_tools]
    condition = Key("GSI1_PK").eq("DMN001") & Key("GSI1_SK").begins_with("TL")
    theirs = table.query(IndexName="GSI1", KeyConditionExpression=condition)["Items"]
    print([item["ToolNM"] for item in theirs])

    print([tool.name for tool in repository.domain_tools("DMN001")])
    # --8<-- [end:domain_tools]
    # --8<-- [start:agent_tools]
    theirs = table.query(KeyConditionExpression=Key("PK").eq("AGT001") & Key("SK").begins_with("TL"))["Items"]
    print([item["SK"] for item in theirs])

    print([tool.tool_id for tool in repository.agent_tools("AGT001")])
    # --8<-- [end:agent_tools]
    # --8<-- [start:sessions]
    condition = Key("PK").eq("USR001") & Key("SK").begins_with("SESS")
    theirs = table.query(KeyConditionExpression=condition, ScanIndexForward=False, Limit=10)["Items"]
    print([item["SK"] for item in theirs])

    print([session.session_id for session in repository.sessions("USR001", limit=10)])
    # --8<-- [end:sessions]
    # --8<-- [start:session_history]
    condition = Key("PK").eq("USR001#SESS20250614001") & Key("SK").begins_with("PRC")
    theirs = table.query(KeyConditionExpression=condition)["Items"]
    print([item.get("ProcNM") or (item["ToolNM"], item["SuccYN"]) for item in theirs])

    history = repository.session_history("USR001", "SESS20250614001")
    print([step.name for step in history.processes], [(call.tool_name, call.succeeded) for call in history.executions])
    # --8<-- [end:session_history]
    # --8<-- [start:user_mappings]
    condition = Key("PK").eq("USR001") & Key("SK").begins_with("UserPrcToolMapp")
    theirs = table.query(KeyConditionExpression=condition)["Items"]
    print([item["Toollist"] for item in theirs])

    print([mapping.tools for mapping in repository.user_mappings("USR001")])
    # --8<-- [end:user_mappings]
    # --8<-- [start:mappings]
    theirs = table.query(IndexName="GSI1", KeyConditionExpression=Key("GSI1_PK").eq("UserPrcToolMapp"))["Items"]
    print([item["GSI1_SK"] for item in theirs])

    print([mapping.category for mapping in repository.mappings()])
    # --8<-- [end:mappings]

    # --8<-- [start:goes_on]
    with model.session("USR001", session_id="SESS20250614001") as session:  # 샘플의 세션을 이어 간다
        with session.process("매장검색") as process:
            with process.call("AGT001", "TL001", values={"near": "잠실"}) as call:
                call.result = "카페 리스트"
    model.drain()
    theirs = table.query(KeyConditionExpression=Key("PK").eq("USR001#SESS20250614001"))["Items"]
    print([item["SK"] for item in theirs])  # 샘플의 쿼리가 agentmodel이 쓴 것을 찾는다
    # --8<-- [end:goes_on]
