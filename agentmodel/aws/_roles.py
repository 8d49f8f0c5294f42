"""What each part of an installation may call on AWS. A test compares it with the calls that the parts make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = [
    "ACTIONS",
    "NETWORK",
    "att",
    "condition",
    "policy",
    "ref",
    "role",
    "sub",
    "table_statements",
    "warehouse_statements",
]

_DATA_API: Final[dict[str, tuple[str, ...]]] = {
    "workgroup": ("redshift-data:ExecuteStatement", "redshift-serverless:GetCredentials"),
    "statement": (
        "redshift-data:CancelStatement", "redshift-data:DescribeStatement", "redshift-data:GetStatementResult",
    ),
}  # fmt: skip

ACTIONS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "application": {
        "table": (
            "dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:GetItem",
            "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem",
        ),
        "index": ("dynamodb:Query",),
    },
    "console": {
        "table": (
            "dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem",
        ),
        "index": ("dynamodb:Query",),
        **_DATA_API,
    },
    "drain": {
        "table": (
            "dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query",
        ),
    },
    "learn": {
        "table": (
            "dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query",
            "dynamodb:UpdateItem",
        ),
        "index": ("dynamodb:Query",),
        **_DATA_API,
    },
    "mcp": {
        "table": (
            "dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query",
        ),
        "index": ("dynamodb:Query",),
        **_DATA_API,
    },
    "sweep": {
        "table": ("dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem"),
        "index": ("dynamodb:Query",),
    },
    "watch": {},
}  # fmt: skip
"""The actions of each part, by the kind of resource that IAM checks them against."""

NETWORK: Final[dict[str, Any]] = {
    "Sid": "Network",
    "Effect": "Allow",
    "Action": [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ],
    "Resource": "*",  # what Lambda needs of a function in a VPC; most of these take no resource
}


def ref(name: str) -> dict[str, str]:
    """Return a reference to a parameter or resource."""
    return {"Ref": name}


def sub(text: str) -> dict[str, str]:
    """Return a text with references in ``${…}``."""
    return {"Fn::Sub": text}


def att(resource: str, attribute: str) -> dict[str, list[str]]:
    """Return an attribute of a resource."""
    return {"Fn::GetAtt": [resource, attribute]}


def condition(name: str, then: Any, otherwise: Any = None) -> dict[str, list[Any]]:
    """Return the one value or the other; without another one, none."""
    return {"Fn::If": [name, then, ref("AWS::NoValue") if otherwise is None else otherwise]}


TABLE: Final = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${TableName}"


def table_statements(part: str) -> list[dict[str, Any]]:
    """Return the statements of a part's policy that are about the table and its index."""
    resources = {"table": sub(TABLE), "index": sub(f"{TABLE}/index/GSI1")}
    return [
        _allow(kind.capitalize(), ACTIONS[part][kind], resource)
        for kind, resource in resources.items()
        if kind in ACTIONS[part]
    ]


def warehouse_statements() -> list[dict[str, Any]]:
    """Return the statements of a part's policy that are about the warehouse."""
    own = _allow("OwnStatements", _DATA_API["statement"], "*")  # the id of a statement is no ARN
    own["Condition"] = {"StringEquals": {"redshift-data:statement-owner-iam-userid": "${aws:userid}"}}
    workgroup = condition("MakesWarehouse", att("Workgroup", "Workgroup.WorkgroupArn"), ref("WorkgroupArn"))
    return [_allow("Workgroup", _DATA_API["workgroup"], workgroup), own]


def _allow(sid: str, actions: tuple[str, ...], resource: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}


def policy(statements: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a policy document."""
    return {"Version": "2012-10-17", "Statement": statements}


def role(
    part: str,
    services: list[str],
    statements: list[dict[str, Any]],
    *,
    exists: str = "",
    tags: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """Return the role of a part, which these services may assume."""
    trust = {"Effect": "Allow", "Principal": {"Service": services}, "Action": "sts:AssumeRole"}
    return {
        "Type": "AWS::IAM::Role",
        "Metadata": {"agentmodel": {"part": part}},
        **({"Condition": exists} if exists else {}),
        "Properties": {
            "AssumeRolePolicyDocument": policy([trust]),
            "Policies": [{"PolicyName": part, "PolicyDocument": policy(statements)}],
            **({"Tags": list(tags)} if tags else {}),
        },
    }
