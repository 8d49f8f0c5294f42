"""The archive of the functions: every handler runs with it alone, and its size is bounded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from agentmodel import Settings
from scripts.lambda_package import BOUNDS, ROOT, SERVICES, archive, copy_package, needed, options, prune
from tests.integration.suggest_world import catalogue, opened, run
from tests.integration.test_aws_handlers import SCHEDULED, put_into_environment

if not (ROOT / "agentmodel").is_dir():
    pytest.skip("the source folder is out of the way, and the archive is built from it", allow_module_level=True)

RUN = """
import json, sys
site, event = sys.argv[1], json.loads(sys.argv[2])
sys.path.insert(0, site)
import agentmodel.aws.handlers as handlers
assert handlers.__file__.startswith(site), handlers.__file__
for name in ("watch", "drain", "watch", "sweep", "learn"):
    try:
        answer = getattr(handlers, name)(event, None)
    except Exception as error:
        answer = type(error).__name__
    print(json.dumps({name: answer}))
"""


def distributions(requirements: Iterable[str]) -> set[str]:
    """Names of what pip installs for requirements, by what this environment has installed for them."""
    found: set[str] = set()
    waiting = [Requirement(each) for each in requirements]
    while waiting:
        one = waiting.pop()
        extras = {"extra": ""} if not one.extras else {"extra": next(iter(one.extras))}
        if one.name in found or (one.marker is not None and not one.marker.evaluate(extras)):
            continue
        found.add(one.name)
        waiting += map(Requirement, metadata.requires(one.name) or ())
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the archive holds, of the versions and for the interpreter of the tests, which compiles what it imports."""
    folder = tmp_path_factory.mktemp("lambda")
    for name in distributions(needed()):
        for file in metadata.files(name) or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(str(file.locate())), target)
    copy_package(folder)
    prune(folder)
    return folder


def test_every_handler_runs_with_the_archive_alone(
    site: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing beside the archive, each does its work in a new interpreter; `learn` comes as far as the Data API, which is away."""
    with opened(settings) as model:
        catalogue(model)
        run(model)
    away = "redshift+data://agents/dev?region=eu-west-1&endpoint=http://127.0.0.1:1"
    put_into_environment(settings.model_copy(update={"warehouse_url": away}), monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    environment = {
        name: value for name, value in os.environ.items() if name.startswith(("AGENTMODEL_", "AWS_", "PATH"))
    }
    found = subprocess.run([sys.executable, "-I", "-S", "-c", RUN, str(site), json.dumps(SCHEDULED)],
                           capture_output=True, text=True, check=False, env=environment)  # fmt: skip
    assert 0 == found.returncode, found.stderr
    answers = [json.loads(line) for line in found.stdout.splitlines() if '"_aws"' not in line]
    waiting, drained, empty, swept, learned = (answer for each in answers for answer in each.values())

    assert 0 < waiting["JournalDepth"]
    assert 0 < drained["written"]
    assert 0 == empty["JournalDepth"]
    assert ["review"] == swept["queues"]
    assert "WarehouseUnavailable" == learned


def test_the_archive_is_bounded_and_holds_what_is_called(site: Path, tmp_path: Path) -> None:
    """Its size is below the bounds, which are below Lambda's limits; equal contents are an equal archive."""
    unzipped = sum(path.stat().st_size for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc") / 2**20
    for name in ("one.zip", "two.zip"):
        archive(site / "pynamodb", tmp_path / name)

    assert unzipped < BOUNDS["unzipped"]  # `make lambda` also compares the archive's own size
    assert BOUNDS["zipped"] < 50 < BOUNDS["unzipped"] < 250
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert set(SERVICES) == {path.name for path in (site / "botocore" / "data").iterdir() if path.is_dir()}


def test_everything_exists_for_the_other_processors(tmp_path: Path) -> None:
    """Each package has a wheel for the runtime on arm64: a pure one, or one that is compiled for it."""
    report = tmp_path / "report.json"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--dry-run",
        "--ignore-installed",
    ]
    subprocess.run([*pip, *options(tmp_path, "arm64"), "--report", str(report), *needed()], check=True)
    wheels = [each["download_info"]["url"].rsplit("/", 1)[-1] for each in json.loads(report.read_text())["install"]]

    assert len(needed()) <= len(wheels)
    assert [] == [name for name in wheels if not name.endswith(("-any.whl", "_aarch64.whl"))]
    assert [name for name in wheels if name.endswith("_aarch64.whl")]
