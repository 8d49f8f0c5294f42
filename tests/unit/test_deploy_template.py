"""The template for AWS: the file is what the code says, AWS's own tools accept it, and what it names exists."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentmodel import Settings
from agentmodel._monitoring.metrics import METRICS
from agentmodel.aws import handlers
from agentmodel.aws.template import drift, rendered, template
from agentmodel.cli import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "deploy.md"
PLACES = {"Vpc": "vpc-12345678", "Subnets": "subnet-12345678,subnet-12345679", "CodeBucket": "packages"}
LINT = [sys.executable, "-c", "import sys; from cfnlint.runner import main; sys.exit(main())"]

in_sources = pytest.mark.skipif(not (ROOT / "deploy").is_dir(), reason="the source folder is out of the way")


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """The properties of the template's resources of a type."""
    return {name: each["Properties"] for name, each in template()["Resources"].items() if each["Type"] == kind}


@in_sources
def test_the_file_is_what_the_code_renders() -> None:
    """deploy/template.yaml has not drifted from the models."""
    assert [] == drift(ROOT / "deploy")


def test_the_text_is_yaml_that_cloudformation_reads() -> None:
    """A parser of YAML 1.1 reads the template from the text; it has no alias and no tag, which CloudFormation refuses."""
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with cfn-lint")
    (text,) = rendered().values()
    tokens = {type(token).__name__ for token in yaml.scan(text)}

    assert json.loads(json.dumps(template())) == yaml.safe_load(text)
    assert set() == tokens & {"AliasToken", "AnchorToken", "TagToken"}


def translated() -> dict[str, Any]:
    """The template as AWS's SAM translator writes it out."""
    boto3 = pytest.importorskip("boto3")
    parser = pytest.importorskip("samtranslator.parser.parser", reason="aws-sam-translator expands the transform")
    from samtranslator.translator.translator import Translator

    session = boto3.Session(region_name="us-east-1")
    translator = Translator(managed_policy_map={}, sam_parser=parser.Parser(), boto_session=session)
    written: dict[str, Any] = json.loads(json.dumps(template()))
    return dict(translator.translate(written, parameter_values=PLACES))


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    """cfn-lint has neither an error nor a warning, on the template as written and on what SAM makes of it."""
    pytest.importorskip("cfnlint", reason="cfn-lint checks the template")
    (text,) = rendered().values()
    written, expanded = tmp_path / "template.yaml", tmp_path / "expanded.json"
    written.write_text(text, encoding="utf-8")
    expanded.write_text(json.dumps(translated()), encoding="utf-8")
    found = subprocess.run([*LINT, str(written), str(expanded)], capture_output=True, text=True,
                           check=False, env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"})  # fmt: skip

    assert ("", "", 0) == (found.stdout, found.stderr, found.returncode)


def test_cfn_lint_finds_a_planted_mistake(tmp_path: Path) -> None:
    """The same call fails for a property that AWS does not have, so that its silence means something."""
    pytest.importorskip("cfnlint", reason="cfn-lint checks the template")
    small = {"Resources": {"Table": {"Type": "AWS::DynamoDB::Table", "Properties": {"KeySchemas": []}}}}
    planted = tmp_path / "planted.json"
    planted.write_text(json.dumps(small), encoding="utf-8")
    found = subprocess.run([*LINT, str(planted)], capture_output=True, text=True, check=False)

    assert 0 != found.returncode
    assert "KeySchema" in found.stdout


def test_every_handler_exists_and_is_deployed() -> None:
    """The functions are the handlers of the package, each once, and the handlers take the event of their schedule."""
    functions = resources("AWS::Serverless::Function")
    named = sorted(properties["Handler"] for properties in functions.values())
    queues = template()["Parameters"]["ReviewQueues"]["Default"]
    event = json.loads(
        functions["Sweep"]["Events"]["Schedule"]["Properties"]["Input"]["Fn::Sub"].replace("${ReviewQueues}", queues)
    )

    assert sorted(f"agentmodel.aws.handlers.{name}" for name in handlers.__all__) == named
    assert all(callable(getattr(handlers, name)) for name in handlers.__all__)
    assert {"queues": ["review"]} == event


def test_every_variable_is_a_setting() -> None:
    """Functions and tasks get settings that exist, so none refuses to start; each has the table and the region."""
    environments = [set(each["Environment"]["Variables"]) for each in resources("AWS::Serverless::Function").values()]
    for task in resources("AWS::ECS::TaskDefinition").values():
        entries = [each.get("Fn::If", ["", each])[1] for each in task["ContainerDefinitions"][0]["Environment"]]
        names = {each["Name"] for each in entries}
        environments.append(names - {"WEB_NAME"})  # which the command reads
    known = {f"AGENTMODEL_{name.upper()}" for name in Settings.model_fields}

    for names in environments:
        assert {"AGENTMODEL_TABLE", "AGENTMODEL_REGION", "AGENTMODEL_VALKEY_URL"} <= names <= known


def test_the_grants_are_a_list_that_the_cli_takes() -> None:
    """The output is a JSON list of statements without a semicolon, as ``batch-execute-statement --sqls`` reads it."""
    grants = json.loads(template()["Outputs"]["GrantsSql"]["Value"]["Fn::Sub"])

    for role in ("agentmodel_learner", "agentmodel_reader"):
        own = [each for each in grants if role in each]
        assert f'CREATE ROLE "{role}"' == own[0]
        assert all(each.startswith("GRANT ") and each.endswith(f' TO ROLE "{role}"') for each in own[1:])
        assert {f'"{role}"'} == {tag["Value"].join('""') for each in resources("AWS::IAM::Role").values()
                                 for tag in each.get("Tags", ()) if tag["Value"] == role}  # fmt: skip
    assert ";" not in "".join(grants)


def test_every_condition_and_parameter_is_used() -> None:
    """What nobody refers to would be asked of the reader for nothing."""
    whole = template()
    text = json.dumps({name: each for name, each in whole.items() if name != "Parameters"})
    conditions = json.dumps([whole["Resources"], whole["Outputs"], whole["Conditions"]])

    assert [] == [name for name in whole["Parameters"] if f'"Ref": "{name}"' not in text and f"${{{name}}}" not in text]
    assert [] == [name for name in whole["Conditions"]
                  if f'"Condition": "{name}"' not in conditions and f'"Fn::If": ["{name}"' not in conditions]  # fmt: skip


@in_sources
def test_every_alarm_is_explained() -> None:
    """The page has a row for each alarm, with its metric and the limit that the template has."""
    page = PAGE.read_text(encoding="utf-8")
    for name, alarm in resources("AWS::CloudWatch::Alarm").items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]

        assert f"`{alarm['MetricName']}`" in row
        assert f" {alarm['Threshold']:,.0f} " in row.replace("|", " ")


@in_sources
def test_every_metric_is_explained() -> None:
    """The page has a row for each metric, with both of its names, its unit and its meaning, and none of another one."""
    page = PAGE.read_text(encoding="utf-8")
    table = page[page.index("| metric | unit |") :].split("\n\n")[0].splitlines()[2:]
    rows = [
        f"| `{metric.name}` | {metric.unit.lower()} | {metric.meaning} "
        f"| {f'`{metric.handler}`' if metric.handler else ''} "
        f"| {f'`{metric.page_name}`' if metric.parts else ''} |".replace("  ", " ")
        for metric in METRICS.values()
    ]

    assert rows == table


def test_every_metric_has_somebody_who_writes_it() -> None:
    """A handler, a page, or both."""
    assert [] == [metric.name for metric in METRICS.values() if not metric.handler and not metric.parts]
    assert {"learn", "drain", "sweep", "watch", ""} == {metric.handler for metric in METRICS.values()}


@in_sources
def test_every_parameter_and_output_is_explained() -> None:
    """The page names every parameter and every output."""
    page = PAGE.read_text(encoding="utf-8")

    assert [] == [name for name in [*template()["Parameters"], *template()["Outputs"]] if f"`{name}" not in page]


def test_the_command_prints_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints YAML or JSON, writes the file, finds it up to date, and exits with 1 when it is changed."""
    assert 0 == main(["deploy", "template"])
    (text,) = rendered().values()
    assert text == capsys.readouterr().out
    assert 0 == main(["deploy", "template", "--json"])
    assert json.loads(json.dumps(template())) == json.loads(capsys.readouterr().out)
    assert 0 == main(["deploy", "template", "--to", str(tmp_path)])
    assert 0 == main(["deploy", "template", "--check", "--to", str(tmp_path)])
    (tmp_path / "template.yaml").write_text(text + "\n", encoding="utf-8")
    assert 1 == main(["deploy", "template", "--check", "--to", str(tmp_path)])
    assert "run `agentmodel deploy template --to" in capsys.readouterr().err
