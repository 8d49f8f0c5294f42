"""The resources of the template, part by part: table, Valkey, warehouse, functions, alarms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agentmodel._monitoring.metrics import METRICS
from agentmodel.aws._metrics import DIMENSION, NAMESPACE
from agentmodel.aws._roles import (
    NETWORK,
    TABLE,
    att,
    condition,
    policy,
    ref,
    role,
    sub,
    table_statements,
    warehouse_statements,
)
from agentmodel.dynamo.table import DEFINITION, RECOVERY, TIME_TO_LIVE

__all__ = [
    "DATABASE_ROLE", "JOURNAL_URL", "LOGS", "READER_ROLE", "SOME_VALKEY_URL", "VALKEY_URL", "WAREHOUSE_URL",
    "Resources", "alarms", "functions", "network", "settings", "table", "valkey", "warehouse", "writes_logs",
]  # fmt: skip

Resources = dict[str, dict[str, Any]]
_KEPT: Final = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
LOGS: Final = {"DeletionPolicy": "Delete", "UpdateReplacePolicy": "Delete"}
DURABLE_URL: Final = "valkeys+cluster://${Valkeys.ConfigurationEndPoint.Address}:6379"
SERVERLESS_URL: Final = "valkeys+cluster://${ServerlessCache.Endpoint.Address}:6379"
SOME_VALKEY_URL: Final = condition(
    "DurableValkey", sub(DURABLE_URL), condition("ServerlessValkey", sub(SERVERLESS_URL), ref("ValkeyUrl"))
)
VALKEY_URL: Final = condition("HasValkey", SOME_VALKEY_URL)
JOURNAL_URL: Final = condition("DurableValkey", sub(DURABLE_URL), ref("ValkeyUrl"))  # what may carry the journal
DATABASE_ROLE: Final = "agentmodel_learner"  # of the learning function's user in the warehouse
READER_ROLE: Final = "agentmodel_reader"  # of those who only read there, such as the console
WAREHOUSE_URL: Final = "redshift+data://${WorkgroupName}/dev?region=${AWS::Region}"


def table() -> Resources:
    """Return the table, with the policy that lets zero-ETL export it."""
    where = {
        "StringEquals": {"aws:SourceAccount": ref("AWS::AccountId")},
        "ArnLike": {
            "aws:SourceArn": sub("arn:${AWS::Partition}:redshift:${AWS::Region}:${AWS::AccountId}:integration:*")
        },
    }
    exports = [
        {"Sid": sid, "Effect": "Allow", "Principal": {"Service": "redshift.amazonaws.com"}, "Action": actions,
         "Resource": sub(resource), "Condition": where}
        for sid, actions, resource in (
            ("ZeroEtlExports", ["dynamodb:ExportTableToPointInTime", "dynamodb:DescribeTable"], TABLE),
            ("ZeroEtlFollowsExports", ["dynamodb:DescribeExport"], f"{TABLE}/export/*"),
        )
    ]  # fmt: skip
    return {
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Condition": "MakesTable",
            **_KEPT,
            "Properties": {
                "TableName": ref("TableName"),
                **DEFINITION,
                "TimeToLiveSpecification": TIME_TO_LIVE,
                "PointInTimeRecoverySpecification": RECOVERY,
                "DeletionProtectionEnabled": ref("DeletionProtection"),
                "ResourcePolicy": condition("MakesWarehouse", {"PolicyDocument": policy(exports)}),
            },
        },
        "ApplicationPolicy": {
            "Type": "AWS::IAM::ManagedPolicy",
            "Metadata": {"agentmodel": {"part": "application"}},
            "Properties": {
                "Description": "What an application that records, asks for plans and reviews calls.",
                "PolicyDocument": policy(table_statements("application")),
            },
        },
    }


def network() -> Resources:
    """Return the security group of all parts, and the endpoints by which they reach AWS without a NAT gateway."""
    found: Resources = {
        "Parts": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {"GroupDescription": "agentmodel - its parts and Valkey", "VpcId": ref("Vpc")},
        },
    }
    for name, port in (("PartsToValkey", 6379), ("PartsToEndpoints", 443)):
        found[name] = {
            "Type": "AWS::EC2::SecurityGroupIngress",
            "Properties": {
                "GroupId": ref("Parts"), "SourceSecurityGroupId": ref("Parts"), "IpProtocol": "tcp",
                "FromPort": port, "ToPort": port + (1 if port == 6379 else 0), "Description": "among the parts",
            },
        }  # fmt: skip
    for service in ("dynamodb", "s3"):  # the layers of an image are in S3
        found[f"{service.capitalize()}Endpoint"] = {
            "Type": "AWS::EC2::VPCEndpoint",
            "Condition": "MakesEndpoints",
            "Properties": {
                "ServiceName": sub(f"com.amazonaws.${{AWS::Region}}.{service}"), "VpcId": ref("Vpc"),
                "VpcEndpointType": "Gateway", "RouteTableIds": ref("RouteTables"),
            },
        }  # fmt: skip
    for service in ("redshift-data", "ecr.api", "ecr.dkr", "logs", "secretsmanager"):
        found["".join(word.capitalize() for word in service.replace(".", "-").split("-")) + "Endpoint"] = {
            "Type": "AWS::EC2::VPCEndpoint",
            "Condition": "WebEndpoint" if service == "secretsmanager" else "MakesEndpoints",
            "Properties": {
                "ServiceName": sub(f"com.amazonaws.${{AWS::Region}}.{service}"), "VpcId": ref("Vpc"),
                "VpcEndpointType": "Interface", "PrivateDnsEnabled": True, "SubnetIds": ref("Subnets"),
                "SecurityGroupIds": [ref("Parts")],
            },
        }  # fmt: skip
    return found


def valkey() -> Resources:
    """Return Valkey: node-based with durability, which carries the journal, or serverless, which is a cache alone."""
    return {
        "ValkeySubnets": {
            "Type": "AWS::ElastiCache::SubnetGroup",
            "Condition": "DurableValkey",
            "Properties": {"Description": "agentmodel", "SubnetIds": ref("Subnets")},
        },
        "ValkeyParameters": {
            "Type": "AWS::ElastiCache::ParameterGroup",
            "Condition": "DurableValkey",
            "Properties": {
                "CacheParameterGroupFamily": "valkey9",
                "Description": "agentmodel - the journal is never evicted",
                "Properties": {"cluster-enabled": "yes", "maxmemory-policy": "volatile-lru"},
            },
        },
        "Valkeys": {
            "Type": "AWS::ElastiCache::ReplicationGroup",
            "Condition": "DurableValkey",
            "DeletionPolicy": "Snapshot",
            "UpdateReplacePolicy": "Snapshot",
            "Properties": {
                "ReplicationGroupDescription": "agentmodel - journal and cache",
                "Engine": "valkey",
                "EngineVersion": "9.0",
                "CacheNodeType": ref("ValkeyNodeType"),
                "NumNodeGroups": ref("ValkeyShards"),
                "ReplicasPerNodeGroup": 1,
                "MultiAZEnabled": True,
                "AutomaticFailoverEnabled": True,
                "ClusterMode": "enabled",
                "Durability": ref("ValkeyDurability"),
                "TransitEncryptionEnabled": True,
                "AtRestEncryptionEnabled": True,
                "SnapshotRetentionLimit": 1,
                "CacheParameterGroupName": ref("ValkeyParameters"),
                "CacheSubnetGroupName": ref("ValkeySubnets"),
                "SecurityGroupIds": [ref("Parts")],
            },
        },
        "ServerlessCache": {
            "Type": "AWS::ElastiCache::ServerlessCache",
            "Condition": "ServerlessValkey",
            "Properties": {
                "ServerlessCacheName": sub("${Name}-cache"),
                "Engine": "valkey",
                "MajorEngineVersion": "9",
                "SecurityGroupIds": [ref("Parts")],
                "SubnetIds": ref("Subnets"),
            },
        },
    }


def warehouse() -> Resources:
    """Return Redshift Serverless and the zero-ETL integration."""
    statements = [
        {
            "Sid": "ZeroEtlComesIn",
            "Effect": "Allow",
            "Principal": {"Service": "redshift.amazonaws.com"},
            "Action": "redshift:AuthorizeInboundIntegration",
            "Condition": {"StringEquals": {"aws:SourceArn": sub(TABLE)}},
        },
        {
            "Sid": "AccountMakesIntegrations",
            "Effect": "Allow",
            "Principal": {"AWS": sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")},
            "Action": "redshift:CreateInboundIntegration",
        },
    ]
    parameters = {"enable_case_sensitive_identifier": "true", "require_ssl": "true"}
    return {
        "Namespace": {
            "Type": "AWS::RedshiftServerless::Namespace",
            "Condition": "MakesWarehouse",
            **_KEPT,
            "Properties": {
                "NamespaceName": ref("WorkgroupName"),
                "DbName": "dev",
                "AdminUsername": "agentmodel_admin",
                "ManageAdminPassword": True,
                "LogExports": ["userlog", "connectionlog", "useractivitylog"],
                "NamespaceResourcePolicy": policy(statements),
            },
        },
        "Workgroup": {
            "Type": "AWS::RedshiftServerless::Workgroup",
            "Condition": "MakesWarehouse",
            "Properties": {
                "WorkgroupName": ref("WorkgroupName"),
                "NamespaceName": ref("Namespace"),
                "BaseCapacity": ref("BaseCapacity"),
                "MaxCapacity": ref("MaxCapacity"),
                "PubliclyAccessible": False,
                "SubnetIds": ref("Subnets"),
                "SecurityGroupIds": [ref("Parts")],
                "ConfigParameters": [
                    {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
                ],
            },
        },
        "Integration": {
            "Type": "AWS::Redshift::Integration",
            "Condition": "MakesIntegration",
            "DependsOn": "Workgroup",
            "Properties": {
                "IntegrationName": sub("${Name}-history"),
                "SourceArn": att("Table", "Arn"),
                "TargetArn": att("Namespace", "Namespace.NamespaceArn"),
            },
        },
    }


def functions() -> Resources:
    """Return the functions, each with its role, its log group and its schedule."""
    found: Resources = {
        "Failed": {
            "Type": "AWS::SQS::Queue",
            "Condition": "HasWarehouse",
            "Properties": {"MessageRetentionPeriod": 1_209_600, "SqsManagedSseEnabled": True},
        },
        "ScheduleRole": role(
            "schedule",
            ["scheduler.amazonaws.com"],
            [{
                "Sid": "Functions", "Effect": "Allow", "Action": ["lambda:InvokeFunction"],
                "Resource": [
                    sub(f"arn:${{AWS::Partition}}:lambda:${{AWS::Region}}:${{AWS::AccountId}}:function:${{Name}}-{part}")
                    for part in ("learn", "drain", "sweep", "watch")
                ],
            }],
        ),
    }  # fmt: skip
    failed = {"Sid": "Failed", "Effect": "Allow", "Action": ["sqs:SendMessage"], "Resource": att("Failed", "Arn")}
    found |= _function(
        "learn", "HasWarehouse", ref("RefreshRate"), seconds=900, memory=1024,
        statements=[*table_statements("learn"), *warehouse_statements(), failed],
        valkey_url=VALKEY_URL,
        oldest=3600,
        environment={
            "AGENTMODEL_WAREHOUSE_URL": sub(WAREHOUSE_URL),
            "AGENTMODEL_LANDED_TABLE": sub('${LandedDatabase}.public."${TableName}"'),
        },
        tags=[{"Key": "RedshiftDbRoles", "Value": DATABASE_ROLE}],
        DeadLetterQueue={"Type": "SQS", "TargetArn": att("Failed", "Arn")},
    )  # fmt: skip
    found |= _function(
        "drain", "DrainFunction", "rate(1 minute)", seconds=180, memory=512,
        statements=table_statements("drain"), valkey_url=JOURNAL_URL,
    )  # fmt: skip
    found |= _function(
        "sweep", "Sweeps", "rate(5 minutes)", seconds=180, memory=512,
        statements=table_statements("sweep"), valkey_url=VALKEY_URL,
        given=sub('{"queues": ${ReviewQueues}}'),
    )  # fmt: skip
    found |= _function(
        "watch", "Journal", "rate(1 minute)", seconds=30, memory=512, statements=[], valkey_url=JOURNAL_URL,
    )  # fmt: skip
    return found


def _function(
    part: str,
    exists: str,
    rate: Any,
    *,
    seconds: int,
    memory: int,
    statements: list[dict[str, Any]],
    valkey_url: Any,
    oldest: int = 60,
    environment: Mapping[str, Any] | None = None,
    given: Any = None,
    tags: Sequence[Mapping[str, str]] = (),
    **more: Any,
) -> Resources:
    """Return a function that runs on a schedule, one call at a time; what a call leaves is the next one's."""
    name = part.capitalize()
    writes = writes_logs(f"{name}Logs")
    vpc = {"SubnetIds": ref("Subnets"), "SecurityGroupIds": [ref("Parts")]}
    schedule = {
        "ScheduleExpression": rate,
        "RetryPolicy": {"MaximumRetryAttempts": 0},
        "RoleArn": att("ScheduleRole", "Arn"),
        **({} if given is None else {"Input": given}),
    }
    return {
        f"{name}Logs": {
            "Type": "AWS::Logs::LogGroup",
            "Condition": exists,
            **LOGS,
            "Properties": {"LogGroupName": sub(f"/aws/lambda/${{Name}}-{part}"), "RetentionInDays": ref("LogDays")},
        },
        f"{name}Role": role(part, ["lambda.amazonaws.com"], [*statements, writes, NETWORK], exists=exists, tags=tags),
        name: {
            "Type": "AWS::Serverless::Function",
            "Condition": exists,
            "Properties": {
                "FunctionName": sub(f"${{Name}}-{part}"),
                "Handler": f"agentmodel.aws.handlers.{part}",
                "Runtime": "python3.13",
                "Architectures": [ref("Architecture")],
                "CodeUri": {"Bucket": ref("CodeBucket"), "Key": ref("CodeKey")},
                "Role": att(f"{name}Role", "Arn"),
                "MemorySize": memory,
                "Timeout": seconds,
                "ReservedConcurrentExecutions": 1,
                "EventInvokeConfig": {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": oldest},
                "LoggingConfig": {"LogFormat": "JSON", "LogGroup": ref(f"{name}Logs")},
                "VpcConfig": vpc if valkey_url is JOURNAL_URL else condition("HasValkey", vpc),
                "Environment": {"Variables": {**settings(valkey_url), **(environment or {})}},
                "Events": {"Schedule": {"Type": "ScheduleV2", "Properties": schedule}},
                **more,
            },
        },
    }


def writes_logs(group: str) -> dict[str, Any]:
    """Return the statement that lets a part write its own log group."""
    actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
    return {"Sid": "Logs", "Effect": "Allow", "Action": actions, "Resource": att(group, "Arn")}


def settings(valkey_url: Any) -> dict[str, Any]:
    """Return the settings of all parts. They can wait for a store, as nobody waits for them."""
    return {
        "AGENTMODEL_TABLE": ref("TableName"),
        "AGENTMODEL_REGION": ref("AWS::Region"),
        "AGENTMODEL_DYNAMODB_TIMEOUT": "10",
        "AGENTMODEL_VALKEY_URL": valkey_url,
        "AGENTMODEL_VALKEY_TIMEOUT": "2",
        "AGENTMODEL_VALKEY_CONNECT_TIMEOUT": "2",
    }


def alarms() -> Resources:
    """Return the alarms and the dashboard."""
    found: Resources = {}
    for name, exists, (namespace, metric, dimensions), limit in _aws_alarms():
        found[name] = _alarm(exists, (namespace, metric, dimensions), **limit)
    for own in METRICS.values():
        alarm = own.alarm
        if alarm is None or not own.handler:
            continue
        exists = {"sweep": "Sweeps", "watch": "Journal"}[own.handler]
        found[alarm.name] = _alarm(
            exists, (NAMESPACE, own.name, {DIMENSION: ref("TableName")}), Statistic="Maximum", Period=60,
            EvaluationPeriods=alarm.minutes, Threshold=alarm.above, AlarmDescription=alarm.meaning,
            **({"TreatMissingData": "breaching"} if alarm.silent else {}),
        )  # fmt: skip
    found["Dashboard"] = {
        "Type": "AWS::CloudWatch::Dashboard",
        "Properties": {"DashboardName": ref("Name"), "DashboardBody": sub(_dashboard())},
    }
    return found


_Metric = tuple[str, str, dict[str, Any]]


def _aws_alarms() -> Iterator[tuple[str, str | None, _Metric, dict[str, Any]]]:
    """Yield the alarms on AWS's own metrics."""
    learn = {"FunctionName": ref("Learn")}
    yield "LearnFails", "HasWarehouse", ("AWS/Lambda", "Errors", learn), {
        "AlarmDescription": "A refresh or publish failed: read the log of the function learn.",
        "Statistic": "Sum", "Period": 3600, "EvaluationPeriods": 1, "Threshold": 0,
    }  # fmt: skip
    yield "LearnSilent", "HasWarehouse", ("AWS/Lambda", "Invocations", learn), {
        "AlarmDescription": "No refresh was begun for a day: see the schedule.",
        "Statistic": "Sum", "Period": 86_400, "EvaluationPeriods": 1, "Threshold": 1,
        "ComparisonOperator": "LessThanThreshold", "TreatMissingData": "breaching",
    }  # fmt: skip
    yield "LearnLost", "HasWarehouse", (
        "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": att("Failed", "QueueName")},
    ), {
        "AlarmDescription": "A call of the function learn is in the dead-letter queue.",
        "Statistic": "Maximum", "Period": 300, "EvaluationPeriods": 1, "Threshold": 0,
    }  # fmt: skip
    yield "TableThrottles", None, ("AWS/DynamoDB", "WriteThrottleEvents", {"TableName": ref("TableName")}), {
        "AlarmDescription": "DynamoDB throttles writes: see the page on hot partitions.",
        "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 5, "Threshold": 10,
    }  # fmt: skip


def _alarm(exists: str | None, metric: _Metric, **limit: Any) -> dict[str, Any]:
    namespace, name, dimensions = metric
    return {
        "Type": "AWS::CloudWatch::Alarm",
        **({} if exists is None else {"Condition": exists}),
        "Properties": {
            "Namespace": namespace,
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
            **limit,
            "AlarmActions": condition("Tells", [ref("AlarmTopic")]),
        },
    }


def _dashboard() -> str:
    """Return the body of the dashboard: a widget for each metric of the handlers, and the table's throttles."""
    metrics = [(NAMESPACE, name, DIMENSION) for name, metric in METRICS.items() if metric.handler]
    metrics += [
        ("AWS/DynamoDB", "WriteThrottleEvents", "TableName"),
        ("AWS/DynamoDB", "ReadThrottleEvents", "TableName"),
    ]
    widgets = [
        {
            "type": "metric", "x": number % 3 * 8, "y": number // 3 * 6, "width": 8, "height": 6,
            "properties": {
                "title": name, "region": "${AWS::Region}", "stat": "Maximum", "period": 60,
                "metrics": [[namespace, name, dimension, "${TableName}"]],
            },
        }
        for number, (namespace, name, dimension) in enumerate(metrics)
    ]  # fmt: skip
    return json.dumps({"widgets": widgets})
