"""Render the template for AWS: CloudFormation with the SAM transform, in YAML, made from the models and the settings.

The keys, the index and the TTL of the table are those that `Table.create` makes. The roles allow what the parts call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from agentmodel.aws._parts import (
    DATABASE_ROLE,
    DURABLE_URL,
    READER_ROLE,
    SERVERLESS_URL,
    WAREHOUSE_URL,
    alarms,
    functions,
    network,
    table,
    valkey,
    warehouse,
)
from agentmodel.aws._roles import att, condition, ref, sub
from agentmodel.aws._services import drainer, web

__all__ = ["drift", "rendered", "template"]

_HEAD: Final = "# Written by `agentmodel deploy template --to deploy`; change agentmodel/aws/, not this file.\n"
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*|[A-Za-z]+(?:::[A-Za-z0-9]+)+")
_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*")
_WORDS: Final = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # which YAML 1.1 does not read as texts


def template() -> dict[str, Any]:
    """Return the template as CloudFormation reads it.

    >>> template()["Resources"]["Table"]["Type"]
    'AWS::DynamoDB::Table'
    """
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": "agentmodel - table, Valkey, warehouse, learning, draining, sweeping, alarms",
        "Parameters": _parameters(),
        "Conditions": _conditions(),
        "Resources": table() | network() | valkey() | warehouse() | functions() | drainer() | web() | alarms(),
        "Outputs": _outputs(),
    }


def rendered() -> dict[str, str]:
    """Return the files of the folder ``deploy/``, by their names.

    >>> list(rendered())[:1]
    ['template.yaml']
    """
    return {"template.yaml": _HEAD + "\n".join(_lines(template())) + "\n"}


def drift(folder: Path) -> list[str]:
    """Return the names of files that are missing in a folder, superfluous or different from what is rendered.

    >>> drift(folder / "no-deploy")[:1]
    ['template.yaml']
    """
    files = rendered()
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    return sorted(name for name in {*files, *present} if files.get(name) != present.get(name))


def _parameters() -> dict[str, Any]:
    def choice(default: str, *others: str, meaning: str) -> dict[str, Any]:
        return {"Type": "String", "Default": default, "AllowedValues": [default, *others], "Description": meaning}

    def text(default: str | None, meaning: str, **more: Any) -> dict[str, Any]:
        return {"Type": "String", **({} if default is None else {"Default": default}), "Description": meaning, **more}

    return {
        "Name": text("agentmodel", "Begins the names of functions, log groups and the dashboard.",
                     AllowedPattern="^[a-z][a-z0-9-]{1,30}$"),
        "TableName": text("AgentTable", "AGENTMODEL_TABLE; zero-ETL takes at most 127 characters.",
                          AllowedPattern="^[A-Za-z0-9_.-]{3,127}$"),
        "CreateTable": choice("yes", "no", meaning="no: a table of this name exists."),
        "DeletionProtection": choice("true", "false", meaning="Whether the table is protected from deletion."),
        "Valkey": choice("durable", "serverless", "existing", "none",
                         meaning="durable: node-based, carries the journal. serverless: a cache alone."),
        "ValkeyUrl": text("", "With Valkey=existing, its AGENTMODEL_VALKEY_URL.", NoEcho=True),
        "ValkeyNodeType": text("cache.r7g.large", "Its families R6g, R7g, M6g, M7g and C7gn have durability."),
        "ValkeyShards": {"Type": "Number", "Default": 1, "MinValue": 1, "Description": "Shards of the cluster."},
        "ValkeyDurability": choice("sync", "async", meaning="async may lose ten seconds of acknowledged writes."),
        "Warehouse": choice("create", "existing", "none", meaning="existing: WorkgroupName and WorkgroupArn."),
        "WorkgroupName": text("agentmodel", "Of Redshift Serverless.", AllowedPattern="^[a-z0-9-]{3,64}$"),
        "WorkgroupArn": text("arn:aws:redshift-serverless:us-east-1:111122223333:workgroup/none",
                             "With Warehouse=existing, the ARN of the workgroup.",
                             AllowedPattern="^arn:[a-z-]+:redshift-serverless:.+:workgroup/.+$"),
        "BaseCapacity": {"Type": "Number", "Default": 8, "AllowedValues": [4, 8, 16, 24, 32, 64],
                         "Description": "RPUs of the workgroup."},
        "MaxCapacity": {"Type": "Number", "Default": 16, "Description": "RPUs that it may grow to."},
        "LandedDatabase": text("dbagent", "Database that is made from the integration.",
                               AllowedPattern="^[a-z][a-z0-9_]{0,62}$"),
        "Drainer": choice("service", "function", "none",
                          meaning="service: two tasks of Fargate. function: once a minute, cheap, a minute late."),
        "DrainerImage": text("111122223333.dkr.ecr.us-east-1.amazonaws.com/agentmodel:latest",
                             "With Drainer=service, Console or Mcp, an image that has the command agentmodel."),
        "Console": choice("no", "yes", meaning="yes: the console, as a task of Fargate with a load balancer."),
        "Mcp": choice("no", "yes", meaning="yes: the MCP server, likewise, at /mcp."),
        "WebName": text("agents.example.com", "With Console or Mcp, the host name of the certificate."),
        "WebCertificate": text("arn:aws:acm:us-east-1:111122223333:certificate/none",
                               "With Console or Mcp, the ARN of the certificate.",
                               AllowedPattern="^arn:[a-z-]+:acm:.+$"),
        "WebTokens": text("arn:aws:secretsmanager:us-east-1:111122223333:secret:none",
                          "With Console or Mcp, the ARN of a secret with the token file.",
                          AllowedPattern="^arn:[a-z-]+:secretsmanager:.+$"),
        "WebClients": text("10.0.0.0/8", "With Console or Mcp, the addresses that reach them."),
        "Reviews": choice("yes", "no", meaning="Whether overdue questions to people are swept."),
        "ReviewQueues": text('["review"]', "The queues that are swept, as a JSON list."),
        "Vpc": {"Type": "AWS::EC2::VPC::Id", "Description": "Where Valkey, the functions and the tasks are."},
        "Subnets": {"Type": "List<AWS::EC2::Subnet::Id>",
                    "Description": "Private ones, in two zones for Valkey and three for Redshift."},
        "CreateEndpoints": choice("no", "yes", meaning="yes: endpoints of the VPC, where it has no NAT gateway."),
        "RouteTables": {"Type": "CommaDelimitedList", "Default": "",
                        "Description": "With CreateEndpoints=yes, the route tables of the subnets."},
        "RefreshRate": text("rate(1 hour)", "How often the warehouse is refreshed and published."),
        "Architecture": choice("arm64", "x86_64", meaning="Of functions and tasks; the package is built for one."),
        "CodeBucket": text(None, "Bucket of the package for Lambda."),
        "CodeKey": text("agentmodel/lambda.zip", "Its key; a new one for each version."),
        "LogDays": {"Type": "Number", "Default": 30, "AllowedValues": [1, 3, 5, 7, 14, 30, 60, 90, 180, 365],
                    "Description": "Days that logs are kept."},
        "AlarmTopic": text("", "ARN of an SNS topic that alarms are sent to."),
    }  # fmt: skip


def _conditions() -> dict[str, Any]:
    def equal(name: str, value: str) -> dict[str, Any]:
        return {"Fn::Equals": [ref(name), value]}

    def both(one: str, other: dict[str, Any]) -> dict[str, Any]:
        return {"Fn::And": [{"Condition": one}, other]}

    return {
        "MakesTable": equal("CreateTable", "yes"),
        "DurableValkey": equal("Valkey", "durable"),
        "ServerlessValkey": equal("Valkey", "serverless"),
        "GivenValkey": equal("Valkey", "existing"),
        "MakesValkey": {"Fn::Or": [{"Condition": "DurableValkey"}, {"Condition": "ServerlessValkey"}]},
        "HasValkey": {"Fn::Not": [equal("Valkey", "none")]},
        "Journal": {"Fn::Or": [{"Condition": "DurableValkey"}, {"Condition": "GivenValkey"}]},
        "MakesWarehouse": equal("Warehouse", "create"),
        "HasWarehouse": {"Fn::Not": [equal("Warehouse", "none")]},
        "MakesIntegration": both("MakesWarehouse", {"Condition": "MakesTable"}),
        "DrainService": both("Journal", equal("Drainer", "service")),
        "DrainFunction": both("Journal", equal("Drainer", "function")),
        "HasConsole": equal("Console", "yes"),
        "HasMcp": equal("Mcp", "yes"),
        "HasWeb": {"Fn::Or": [{"Condition": "HasConsole"}, {"Condition": "HasMcp"}]},
        "Services": {"Fn::Or": [{"Condition": "DrainService"}, {"Condition": "HasWeb"}]},
        "Sweeps": equal("Reviews", "yes"),
        "MakesEndpoints": equal("CreateEndpoints", "yes"),
        "WebEndpoint": both("HasWeb", {"Condition": "MakesEndpoints"}),
        "Arm": equal("Architecture", "arm64"),
        "Tells": {"Fn::Not": [equal("AlarmTopic", "")]},
    }


def _outputs() -> dict[str, Any]:
    learner, reader = f'ROLE "{DATABASE_ROLE}"', f'ROLE "{READER_ROLE}"'
    integration = {"Fn::Select": [6, {"Fn::Split": [":", att("Integration", "IntegrationArn")]}]}
    made = "CREATE DATABASE ${LandedDatabase} FROM INTEGRATION '${Id}' SET REFRESH_INTERVAL 3600 HISTORY_MODE = TRUE"
    grants = (
        f'CREATE ROLE "{DATABASE_ROLE}"',
        f"GRANT CREATE ON DATABASE dev TO {learner}",
        f"GRANT CREATE, USAGE ON SCHEMA public TO {learner}",
        f"GRANT USAGE ON DATABASE ${{LandedDatabase}} TO {learner}",
        f'CREATE ROLE "{READER_ROLE}"',
        f"GRANT USAGE ON SCHEMA public TO {reader}",
        f"GRANT SELECT FOR TABLES IN SCHEMA public TO {reader}",  # those that the learner makes later, too
    )
    return {
        "ApplicationPolicy": {
            "Description": "Attach it to the role of the application.", "Value": ref("ApplicationPolicy"),
        },
        "SecurityGroup": {"Description": "Give it to the application too: it opens Valkey.", "Value": ref("Parts")},
        "ValkeyUrl": {
            "Condition": "MakesValkey", "Description": "AGENTMODEL_VALKEY_URL",
            "Value": condition("DurableValkey", sub(DURABLE_URL), sub(SERVERLESS_URL)),
        },
        "WebAddress": {
            "Condition": "HasWeb", "Description": "Let the host name WebName lead here.",
            "Value": att("LoadBalancer", "DNSName"),
        },
        "WarehouseUrl": {
            "Condition": "HasWarehouse", "Description": "AGENTMODEL_WAREHOUSE_URL", "Value": sub(WAREHOUSE_URL),
        },
        "LandedDatabaseSql": {
            "Condition": "MakesIntegration",
            "Description": "Run it once, as the administrator, when the integration is active.",
            "Value": {"Fn::Sub": [made, {"Id": integration}]},
        },
        "GrantsSql": {
            "Condition": "MakesIntegration",
            "Description": "Run them once, as the administrator, after LandedDatabaseSql; a list for --sqls.",
            "Value": sub(json.dumps(grants)),
        },
    }  # fmt: skip


# YAML without aliases and tags, which CloudFormation does not read or not everywhere


def _lines(value: Any) -> Iterator[str]:
    """Yield a mapping or a list as lines of YAML; texts are plain where nothing else could be read."""
    if isinstance(value, dict):
        for name, each in value.items():
            key = name if _KEY.fullmatch(name) and name.lower() not in _WORDS else json.dumps(name)
            if each and isinstance(each, dict | list | tuple):
                yield f"{key}:"
                yield from (f"  {line}" for line in _lines(each))
            else:
                yield f"{key}: {_scalar(each)}"
        return
    for each in value:
        if each and isinstance(each, dict | list | tuple):
            first, *rest = _lines(each)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
        else:
            yield f"- {_scalar(each)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
