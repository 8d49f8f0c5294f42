"""The services of the template that run all the time, on Fargate: the drainer, and console and MCP server with TLS."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from agentmodel.aws._parts import (
    JOURNAL_URL,
    LOGS,
    READER_ROLE,
    SOME_VALKEY_URL,
    WAREHOUSE_URL,
    Resources,
    settings,
    writes_logs,
)
from agentmodel.aws._roles import att, condition, ref, role, sub, table_statements, warehouse_statements

__all__ = ["drainer", "web"]

_PROBE_PORT: Final = 9464  # of /healthz and /metrics of the drainer, for its own machine
_TASKS: Final = ["ecs-tasks.amazonaws.com"]
_WEB: Final = {
    "console": (8321, ""),
    "mcp": (8000, ' --transport http --stateless --allow-host "$WEB_NAME"'),
}
"""The servers that people and agents reach, with their ports and what else their commands need."""


def drainer() -> Resources:
    """Return the drainer: two tasks, which are restarted when they hang."""
    return {
        "Cluster": {"Type": "AWS::ECS::Cluster", "Condition": "Services"},
        "DrainServiceRole": role("drain", _TASKS, table_statements("drain"), exists="DrainService"),
        **_service(
            "Drain", "DrainService", ["agentmodel", "drain", "--keep-on", "--port", str(_PROBE_PORT)],
            valkey_url=JOURNAL_URL, port=_PROBE_PORT, count=2, more={"ReadonlyRootFilesystem": True},
        ),
    }  # fmt: skip


def web() -> Resources:
    """Return console and MCP server, and the load balancer inside the VPC that has their certificate."""
    found: Resources = {
        "Web": {
            "Type": "AWS::EC2::SecurityGroup",
            "Condition": "HasWeb",
            "Properties": {
                "GroupDescription": "agentmodel - load balancer of console and MCP server", "VpcId": ref("Vpc"),
                "SecurityGroupIngress": [{
                    "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": ref("WebClients"),
                    "Description": "people and agents",
                }],
            },
        },
        "LoadBalancer": {
            "Type": "AWS::ElasticLoadBalancingV2::LoadBalancer",
            "Condition": "HasWeb",
            "Properties": {
                "Scheme": "internal", "Type": "application", "Subnets": ref("Subnets"),
                "SecurityGroups": [ref("Web")],
                "LoadBalancerAttributes": [{"Key": "routing.http.drop_invalid_header_fields.enabled", "Value": "true"}],
            },
        },
        "WebListener": {
            "Type": "AWS::ElasticLoadBalancingV2::Listener",
            "Condition": "HasWeb",
            "Properties": {
                "LoadBalancerArn": ref("LoadBalancer"), "Port": 443, "Protocol": "HTTPS",
                "SslPolicy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
                "Certificates": [{"CertificateArn": ref("WebCertificate")}],
                "DefaultActions": [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
            },
        },
    }  # fmt: skip
    for priority, (part, paths) in enumerate({"mcp": ["/mcp", "/mcp/*"], "console": ["/*"]}.items(), start=1):
        found |= _web_server(part, paths, priority)
    return found


def _web_server(part: str, paths: list[str], priority: int) -> Resources:
    """Return a server, its role, and the rule by which the load balancer reaches it."""
    name, (port, options) = part.capitalize(), _WEB[part]
    exists = f"Has{name}"
    serve = f"exec agentmodel {part} --host 0.0.0.0 --port {port} --tokens /tmp/tokens.json{options}"
    return {
        f"{name}Targets": {
            "Type": "AWS::ElasticLoadBalancingV2::TargetGroup",
            "Condition": exists,
            "Properties": {
                "TargetType": "ip", "Protocol": "HTTP", "Port": port, "VpcId": ref("Vpc"),
                "HealthCheckPath": "/healthz",
                "TargetGroupAttributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "30"}],
            },
        },
        f"{name}Rule": {
            "Type": "AWS::ElasticLoadBalancingV2::ListenerRule",
            "Condition": exists,
            "Properties": {
                "ListenerArn": ref("WebListener"), "Priority": priority,
                "Conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": paths}}],
                "Actions": [{"Type": "forward", "TargetGroupArn": ref(f"{name}Targets")}],
            },
        },
        f"WebTo{name}": {
            "Type": "AWS::EC2::SecurityGroupIngress",
            "Condition": exists,
            "Properties": {
                "GroupId": ref("Parts"), "SourceSecurityGroupId": ref("Web"), "IpProtocol": "tcp", "FromPort": port,
                "ToPort": port, "Description": "from the load balancer",
            },
        },
        f"{name}ServiceRole": role(
            part, _TASKS,
            [*table_statements(part), *(condition("HasWarehouse", each) for each in warehouse_statements())],
            exists=exists, tags=[{"Key": "RedshiftDbRoles", "Value": READER_ROLE}],
        ),
        **_service(
            name, exists, ["sh", "-c", f'umask 077; printf %s "$TOKENS" > /tmp/tokens.json; {serve}'],
            valkey_url=SOME_VALKEY_URL, port=port, count=1,
            needs={"AGENTMODEL_VALKEY_URL": "HasValkey", "AGENTMODEL_WAREHOUSE_URL": "HasWarehouse"}, environment={
                "WEB_NAME": ref("WebName"), "AGENTMODEL_WAREHOUSE_URL": sub(WAREHOUSE_URL),
            }, tokens="WebTokens",
            more={"PortMappings": [{"ContainerPort": port}],
                  "Secrets": [{"Name": "TOKENS", "ValueFrom": ref("WebTokens")}]},
            service={"HealthCheckGracePeriodSeconds": 60, "LoadBalancers": [
                {"ContainerName": part, "ContainerPort": port, "TargetGroupArn": ref(f"{name}Targets")},
            ]},
            after=f"{name}Rule",
        ),
    }  # fmt: skip


def _service(
    name: str,
    exists: str,
    command: list[str],
    *,
    valkey_url: Any,
    port: int,
    count: int,
    environment: dict[str, Any] | None = None,
    needs: Mapping[str, str] = MappingProxyType({}),
    tokens: str | None = None,
    more: dict[str, Any],
    service: dict[str, Any] | None = None,
    after: str | None = None,
) -> Resources:
    """Return a service whose tasks run a command, its log group, and the role that starts the tasks.

    Args:
        name: Begins the names of the resources.
        exists: The condition under which there is one.
        command: What a task runs.
        valkey_url: Its Valkey.
        port: Where it answers ``/healthz``.
        count: How many tasks there are.
        environment: Variables beside the settings of all parts.
        needs: The conditions under which variables are there.
        tokens: The parameter with the secret that a task gets.
        more: Further properties of the container.
        service: Further properties of the service.
        after: The resource that must be there first.
    """
    part, logs = name.lower(), f"{name}ServiceLogs"
    healthy = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/healthz', timeout=5)"
    starts = [
        writes_logs(logs),
        {
            "Sid": "Image", "Effect": "Allow",
            "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            "Resource": sub("arn:${AWS::Partition}:ecr:${AWS::Region}:${AWS::AccountId}:repository/*"),
        },
        {"Sid": "Registry", "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken"], "Resource": "*"},
    ]  # fmt: skip
    if tokens is not None:
        read = {"Action": ["secretsmanager:GetSecretValue"], "Resource": ref(tokens)}
        starts.append({"Sid": "Secret", "Effect": "Allow", **read})
    variables = settings(valkey_url) | (environment or {})
    return {
        logs: {
            "Type": "AWS::Logs::LogGroup",
            "Condition": exists,
            **LOGS,
            "Properties": {"LogGroupName": sub(f"/ecs/${{Name}}-{part}"), "RetentionInDays": ref("LogDays")},
        },
        f"{name}StartRole": role("start", _TASKS, starts, exists=exists),
        f"{name}Task": {
            "Type": "AWS::ECS::TaskDefinition",
            "Condition": exists,
            "Properties": {
                "RequiresCompatibilities": ["FARGATE"],
                "NetworkMode": "awsvpc",
                "Cpu": "256",
                "Memory": "512",
                "RuntimePlatform": {
                    "CpuArchitecture": condition("Arm", "ARM64", "X86_64"), "OperatingSystemFamily": "LINUX",
                },
                "TaskRoleArn": att(f"{name}ServiceRole", "Arn"),
                "ExecutionRoleArn": att(f"{name}StartRole", "Arn"),
                "ContainerDefinitions": [{
                    "Name": part,
                    "Image": ref("DrainerImage"),
                    "Command": command,
                    "HealthCheck": {
                        "Command": ["CMD", "python", "-c", healthy], "Interval": 30, "Timeout": 10, "Retries": 3,
                        "StartPeriod": 60,
                    },
                    "Essential": True,
                    "StopTimeout": 60,
                    "Environment": [
                        condition(needs[each], variable) if each in needs else variable
                        for each, value in variables.items()
                        for variable in [{"Name": each, "Value": value}]
                    ],
                    "LogConfiguration": {
                        "LogDriver": "awslogs",
                        "Options": {
                            "awslogs-group": ref(logs),
                            "awslogs-region": ref("AWS::Region"),
                            "awslogs-stream-prefix": part,
                        },
                    },
                    **more,
                }],
            },
        },
        f"{name}Service": {
            "Type": "AWS::ECS::Service",
            "Condition": exists,
            **({} if after is None else {"DependsOn": after}),
            "Properties": {
                "Cluster": ref("Cluster"),
                "LaunchType": "FARGATE",
                "DesiredCount": count,
                "TaskDefinition": ref(f"{name}Task"),
                "PropagateTags": "SERVICE",
                "DeploymentConfiguration": {
                    "MinimumHealthyPercent": 50, "MaximumPercent": 200,
                    "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
                },
                "NetworkConfiguration": {"AwsvpcConfiguration": {
                    "Subnets": ref("Subnets"), "SecurityGroups": [ref("Parts")], "AssignPublicIp": "DISABLED",
                }},
                **(service or {}),
            },
        },
    }  # fmt: skip
