"""An export reads back row for row, has what changed and nothing that was erased, in a folder and in S3."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="an export is written by pyarrow")

from botocore.session import Session
from pyarrow import dataset, parquet
from sqlalchemy import update

from agentmodel import AgentModel
from agentmodel.cli import main
from agentmodel.exceptions import ConfigurationError, LeaseHeld, Unavailable, ValidationError
from agentmodel.privacy import PatternRedactor, Redactor
from agentmodel.redshift import _export_target, export
from agentmodel.redshift.export import COLUMNS
from agentmodel.redshift.models import UserSessionRow
from agentmodel.redshift.reports import agent_ranking
from tests.integration.suggest_world import catalogue, learn, run

OLD = datetime(2025, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def model() -> Iterator[AgentModel]:
    """Two users, sessions of two months, an outcome, and texts with a secret; learned."""
    with AgentModel.local() as made:
        catalogue(made)
        run(made, request="write to mina@example.com")
        run(made, "USR002", failing=[2], succeeded=False)
        with made.session("USR001", "a year ago", started_at=OLD, session_id="SESSold") as session:
            session.succeed()
        made.outcome("SESSold", user_id="USR001", score=0.25, source="evaluator", by="judge", reason="too slow")
        learn(made)
        yield made


def rows(folder: Any, table: str, files: Any = None) -> list[dict[str, Any]]:
    """The rows of a table as another program reads them, by key; the month of a folder must be that of its rows."""
    columns = list(COLUMNS[table])
    found = dataset.dataset(f"{folder}/{table}", filesystem=files, format="parquet").to_table()
    assert columns == found.column_names
    assert list(COLUMNS[table].values()) == [str(each) for each in found.schema.types]
    return sorted(found.to_pylist(), key=lambda row: [str(row[name]) for name in columns])


def everything(folder: Any) -> dict[str, list[dict[str, Any]]]:
    return {table: rows(folder, table) for table in COLUMNS if (Path(folder) / table).exists()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_it_reads_back_row_for_row(model: AgentModel, tmp_path: Path) -> None:
    """Sessions, steps, calls and outcomes are those of the table; scores and patterns those of the reports."""
    report = model.export(tmp_path)
    found = everything(tmp_path)
    sessions = [*model.repository.sessions("USR001"), *model.repository.sessions("USR002")]
    histories = [model.repository.session_history(each.user_id, each.session_id) for each in sessions]
    calls = [call for history in histories for call in history.executions]
    steps = [step for history in histories for step in history.processes]

    assert report.rows == {table: len(found.get(table, ())) for table in COLUMNS} == report.written
    for table, entities in (("sessions", sessions), ("steps", steps), ("calls", calls)):
        names = [name for name in COLUMNS[table] if name != "attempt"]
        expected = [{name: getattr(entity, name) for name in names} for entity in entities]
        read = [{name: row[name] for name in names} for row in found[table]]
        assert sorted(expected, key=str) == sorted(read, key=str)
    (outcome,) = found["outcomes"]
    assert ("SESSold", "evaluator", False, 0.25, "judge", "too slow") == tuple(
        outcome[name] for name in ("session_id", "source", "succeeded", "score", "by", "reason")
    )
    ranked = agent_ranking(model.warehouse, as_of=datetime.now(UTC))
    assert {row.agent_id: row.executions for row in ranked if row.executions} == {
        row["agent_id"]: row["executions"] for row in found["agent_scores"]
    }
    assert {"USR001", "USR002"} == {row["user_id"] for row in found["patterns"]}
    assert {"AGT001", "AGT002"} == {row["agent_id"] for row in found["agents"]}


def test_months_are_folders_that_engines_know(model: AgentModel, tmp_path: Path) -> None:
    """Each row is in the folder of its month, which DuckDB and pyarrow read as a column."""
    model.export(tmp_path)
    read = dataset.dataset(tmp_path / "sessions", partitioning="hive").to_table().to_pylist()
    with model.warehouse.begin() as connection:
        text = f"SELECT month, count(*) FROM read_parquet('{tmp_path}/calls/*/*.parquet', hive_partitioning = true) GROUP BY 1"
        counted = connection.exec_driver_sql(text).all()

    assert {"2025-01", f"{datetime.now(UTC):%Y-%m}"} >= {row["month"] for row in read} >= {"2025-01"}
    assert all(row["month"] == f"{row['started_at']:%Y-%m}" for row in read)
    assert 6 == sum(count for _, count in counted)


def test_only_what_changed_is_written(model: AgentModel, tmp_path: Path) -> None:
    """A second export writes no row; after new history it writes the months of it, and no other file changes."""
    model.export(tmp_path)
    first = contents(tmp_path)
    second = model.export(tmp_path)

    assert first == contents(tmp_path)
    assert {0} == {*second.written.values()}

    run(model, "USR002")
    learn(model)
    third = model.export(tmp_path)
    after = contents(tmp_path)

    assert (3, 3) == (third.rows["calls"] - second.rows["calls"], third.written["calls"] - second.rows["calls"])
    assert third.written["sessions"] == third.rows["sessions"] - 1
    assert third.written["agents"] == 0
    assert first["sessions/month=2025-01/part-0000.parquet"] == after["sessions/month=2025-01/part-0000.parquet"]
    assert everything(tmp_path) == everything(anew(model, tmp_path))


def anew(model: AgentModel, beside: Path) -> Path:
    """An export of the same state into a new folder."""
    folder = beside.with_name(f"{beside.name}-anew")
    shutil.rmtree(folder, ignore_errors=True)
    model.export(folder)
    return folder


def test_what_is_erased_goes(model: AgentModel, tmp_path: Path) -> None:
    """After an erasure the next export has nothing of the user in any file, whatever was in it before."""
    run(model, "USRgone", request="gone 7731", category="gone 7731")
    learn(model)
    before = model.export(tmp_path)
    assert any(row["user_id"] == "USRgone" for row in rows(tmp_path, "sessions"))
    model.erase_user("USRgone")
    after = model.export(tmp_path)

    assert (1, 3) == (before.rows["sessions"] - after.rows["sessions"], before.rows["calls"] - after.rows["calls"])
    assert [] == [name for name, each in everything(tmp_path).items() if "gone" in str(each)]
    assert "gone" not in (tmp_path / "manifest.json").read_text(encoding="utf-8")
    assert everything(tmp_path) == everything(anew(model, tmp_path))


def test_what_is_deleted_goes(model: AgentModel, tmp_path: Path) -> None:
    """The only session of a month that a person deleted takes the file of the month with it."""
    with model.session("USR002", "once", started_at=datetime(2024, 2, 1, tzinfo=UTC), session_id="SESSonce"):
        pass
    learn(model)
    model.export(tmp_path)
    month = tmp_path / "sessions" / "month=2024-02"
    assert month.is_dir()
    stored = model.repository.session("USR002", "SESSonce")
    assert stored is not None
    model.repository.delete(stored)
    learn(model)
    report = model.export(tmp_path)

    assert 1 <= report.removed
    assert not month.exists()


def test_redaction_holds(model: AgentModel, tmp_path: Path) -> None:
    """A model that redacts masks what was recorded before it did, and writes anew what was exported before."""
    model.export(tmp_path)
    assert "mina@example.com" in str(everything(tmp_path))
    with AgentModel(model.settings, redact=True) as redacting:
        redacting.__dict__["_opened_warehouse"] = model.warehouse  # one process opens a DuckDB file once
        redacting.export(tmp_path)
        again = redacting.export(tmp_path)
    found = everything(tmp_path)

    assert "mina@example.com" not in str(found)
    assert "write to [email]" in {row["request"] for row in found["sessions"]}
    assert {0} == {*again.written.values()}


def _without_numbers(text: str) -> str:
    return re.sub(r"[0-9]", "#", text)


def _without_letters(text: str) -> str:
    return re.sub(r"[a-z]", "#", text)


class _Changing:
    """A redactor that says which rules it has."""

    def __init__(self, word: str) -> None:
        self.rules = self.word = word

    def __call__(self, text: str) -> str:
        return text.replace(self.word, "***")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PatternRedactor(), PatternRedactor(kinds={"email": "keep"})),
        (PatternRedactor(), PatternRedactor(fields={"q": "drop"})),
        (PatternRedactor(action="token", key="a" * 16), PatternRedactor(action="token", key="b" * 16)),
        (_without_numbers, _without_letters),
        (_Changing("mina"), _Changing("example")),
    ],
    ids=["kinds", "fields", "key", "functions", "rules"],
)
def test_changed_rules_write_everything_anew(model: AgentModel, tmp_path: Path, one: Redactor, other: Redactor) -> None:
    """After a change of what is redacted no file has a text as it was under the rules before; the same rules write nothing."""
    for redactor in (one, other):
        with AgentModel(model.settings, redact=redactor) as redacting:
            redacting.__dict__["_opened_warehouse"] = model.warehouse  # one process opens a DuckDB file once
            report = redacting.export(tmp_path)
            again = redacting.export(tmp_path)
            fresh = redacting.export(tmp_path / "fresh", full=True)

        assert report.rows == report.written == fresh.written
        assert {0} == {*again.written.values()}
        assert everything(tmp_path) == everything(tmp_path / "fresh")


def test_files_have_bounds(model: AgentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large month is several files, read in groups; fewer rows later leave no file too many."""
    monkeypatch.setattr(export, "_PART_ROWS", 4)
    monkeypatch.setattr(export, "_GROUP_ROWS", 2)
    monkeypatch.setattr(export, "_FETCHED", 1)
    model.export(tmp_path)
    parts = sorted(tmp_path.glob("calls/*/*.parquet"))

    assert 2 <= len(parts)
    assert all(parquet.read_metadata(part).num_rows <= 4 for part in parts)

    monkeypatch.undo()
    report = model.export(tmp_path, full=True)

    assert len(parts) - 1 <= report.removed
    assert everything(tmp_path) == everything(anew(model, tmp_path))


def test_an_export_that_is_stopped_is_finished(
    model: AgentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever an export is stopped, while history changes, the next one has the rows of the warehouse."""
    expected = everything(anew(model, tmp_path))
    write = _export_target._Folder.write
    for stopped in range(0, len(contents(tmp_path.with_name(f"{tmp_path.name}-anew"))), 3):
        left = [stopped]

        def stops(target: Any, name: str, source: Path, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(target, name, source)

        folder = tmp_path / str(stopped)
        with monkeypatch.context() as patch:
            patch.setattr(_export_target._Folder, "write", stops)
            with pytest.raises(KeyboardInterrupt):
                model.export(folder)
        model.export(folder)
        assert expected == everything(folder)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of moto's S3, which every client of this process reaches meanwhile, and a bucket."""
    pytest.importorskip("flask", reason="moto's server of S3 needs it")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in (
            ("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ):
            monkeypatch.setenv(name, value)
        client = Session().create_client("s3", region_name="us-east-1")
        if "exports" not in str(client.list_buckets()["Buckets"]):
            client.create_bucket(Bucket="exports")
        yield client
    finally:
        server.stop()


def test_s3_has_the_same_rows(model: AgentModel, s3: Any, tmp_path: Path) -> None:
    """A bucket gets the files of a folder, is updated like one, and nothing else in it is touched."""
    s3.put_object(Bucket="exports", Key="elsewhere/file", Body=b"stays")
    model.export("s3://exports/history/agents")
    first = everything(anew(model, tmp_path))
    again = model.export("s3://exports/history/agents/")
    run(model, "USR003", request="soon gone")
    learn(model)
    model.export("s3://exports/history/agents")
    model.erase_user("USR003")
    model.export("s3://exports/history/agents")
    for each in s3.list_objects_v2(Bucket="exports", Prefix="history/agents/")["Contents"]:
        file = tmp_path / each["Key"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(s3.get_object(Bucket="exports", Key=each["Key"])["Body"].read())
    found = everything(tmp_path / "history" / "agents")

    assert {0} == {*again.written.values()}
    assert "soon gone" not in str(found)
    assert first["calls"] == found["calls"]
    assert everything(anew(model, tmp_path)) == found
    assert b"stays" == s3.get_object(Bucket="exports", Key="elsewhere/file")["Body"].read()


def test_s3_that_does_not_take_it(model: AgentModel, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is missing is an error that says what to look at; one that cannot be reached says to try again."""
    with pytest.raises(ConfigurationError, match=r"s3://nowhere/x/ \(NoSuchBucket.*s3:PutObject"):
        model.export("s3://nowhere/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Unavailable, match="try again"):
        model.export("s3://exports/x")


@pytest.mark.parametrize("to", ["", "gs://bucket/x", "s3://", "s3:bucket", "s3://bucket/x?y"])
def test_a_target_that_is_none(model: AgentModel, to: str) -> None:
    """What is neither folder nor bucket is refused with an example."""
    with pytest.raises(ValidationError, match=r"to \(.*\) must be a folder, or a URL such as s3://bucket/prefix"):
        model.export(to)


def test_a_place_that_has_something_else(model: AgentModel, tmp_path: Path) -> None:
    """A manifest of another program, an export of a newer version and a file are refused, and stay as they are."""
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}', encoding="utf-8")
    with pytest.raises(ValidationError, match="empty place or an export"):
        model.export(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 999}', encoding="utf-8")
    with pytest.raises(ValidationError, match="has 999, of a newer agentmodel"):
        model.export(tmp_path)
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="cannot use the folder"):
        model.export(file)

    assert {"manifest.json", "file"} == set(contents(tmp_path))


@pytest.mark.parametrize("manifest", ['{"format": "1"}', '{"format": null}', '{"format": 1, "files": []}', "[1]"])
def test_a_manifest_of_another_kind(model: AgentModel, tmp_path: Path, manifest: str) -> None:
    """A manifest that no export wrote is refused in words, whatever its members are."""
    (tmp_path / "manifest.json").write_text(manifest, encoding="utf-8")
    with pytest.raises(ValidationError, match="empty place or an export"):
        model.export(tmp_path)


def test_other_files_stay(model: AgentModel, tmp_path: Path) -> None:
    """In a folder with folders of the same names, as projects of agents have, only files of exports are removed."""
    others = ("agents/planner.py", "tools/search.py", "users/part-0000.csv", "calls/month=2024-01/part-00000-a.parquet")
    left = ("calls/month=2024-01/part-0000.parquet", "calls/month=2024-01/.part-0001.parquet.unfinished")
    for name in (*others, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    report = model.export(tmp_path)
    found = contents(tmp_path)

    assert {name: name.encode() for name in others} == {name: found.get(name) for name in others}
    assert len(left) == report.removed
    assert found.keys().isdisjoint(left)


def test_a_file_that_is_missing_is_written_again(model: AgentModel, tmp_path: Path) -> None:
    """What somebody deleted from an export comes back, though its rows have not changed."""
    model.export(tmp_path)
    expected = everything(tmp_path)
    next(tmp_path.glob("calls/*/part-0000.parquet")).unlink()
    report = model.export(tmp_path)

    assert {"calls"} == {table for table, count in report.written.items() if count}
    assert expected == everything(tmp_path)


def test_changes_are_seen_where_nothing_says_when(tmp_path: Path) -> None:
    """Without history mode no row says when it was loaded: one that changes is written anew all the same."""
    with AgentModel.local() as other:
        catalogue(other)
        run(other, request="one")
        learn(other)
        with other.warehouse.begin() as connection:
            connection.execute(update(UserSessionRow).values(loaded_at=None))
        first, again = other.export(tmp_path), other.export(tmp_path)
        with other.warehouse.begin() as connection:
            connection.execute(update(UserSessionRow).values(summary="다른 말"))
        changed = other.export(tmp_path)

    assert (1, 0, 1) == tuple(each.written["sessions"] for each in (first, again, changed))
    assert "다른 말" == rows(tmp_path, "sessions")[0]["summary"]


def test_two_exports_do_not_mix(model: AgentModel, tmp_path: Path) -> None:
    """While one export writes, another one waits, or says who works."""
    with model.table.lease("export", doing="export", wait=0), pytest.raises(LeaseHeld, match="export"):
        model.export(tmp_path, wait=0)


def test_the_command(
    model: AgentModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows the rows of each table, as text and as JSON."""
    monkeypatch.setattr("agentmodel.cli._export.open_model", lambda _folder: _Open(model))
    assert 0 == main(["export", "--to", str(tmp_path), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert 0 == main(["export", "--to", str(tmp_path)])
    text = capsys.readouterr().out

    assert told["rows"] == told["written"]
    assert "calls" in text
    assert "Files removed: 0." in text


class _Open:
    def __init__(self, model: AgentModel) -> None:
        self._model = model

    def __enter__(self) -> AgentModel:
        return self._model

    def __exit__(self, *_: object) -> None:
        """Leave it open."""
