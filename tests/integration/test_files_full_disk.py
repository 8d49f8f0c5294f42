"""A file that a command writes is whole or as it was before: a full disk is named with the file, in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentmodel import AgentModel
from agentmodel._runtime.files import write_file
from agentmodel.cli import main


@pytest.fixture
def full_disk(small_disk: Path) -> Path:
    """A disk that takes no more, with a folder."""
    (small_disk / "out").mkdir()
    free = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(b"x" * (free.f_bavail * free.f_frsize))
    return small_disk / "out"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["sql", "--to"], "01_"),
        (["deploy", "template", "--to"], ""),
        (["table", "model", "--to"], "agentmodel_workbench.json"),
    ],
)
def test_of_a_command(full_disk: Path, capsys: pytest.CaptureFixture[str], command: list[str], name: str) -> None:
    """The line names the file, and nothing is left of it."""
    assert 1 == main([*command, str(full_disk)])
    (line,) = capsys.readouterr().err.splitlines()

    assert line.startswith(f"error: {full_disk}/{name}")
    assert line.endswith(": No space left on device")
    assert [] == list(full_disk.iterdir())


def test_of_a_report(full_disk: Path) -> None:
    """The page of yesterday is still there."""
    (page := full_disk / "report.html").touch()
    with AgentModel.local() as model:
        model.refresh()
        with pytest.raises(OSError, match=r"No space left on device: '.*/out/report.html'"):
            model.report(page)

    assert [page] == list(full_disk.iterdir())
    assert "" == page.read_text()


def test_where_there_is_room(tmp_path: Path) -> None:
    """A link, the mode of the file and a device stay what they are."""
    (tmp_path / "file").write_text("before")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    write_file(tmp_path / "link", "after\n")
    write_file(Path("/dev/null"), "nothing")

    assert (tmp_path / "link").is_symlink()
    assert ("after\n", 0o100640) == ((tmp_path / "file").read_text(), (tmp_path / "file").stat().st_mode)
    assert not Path("/dev/null").is_file()
    with pytest.raises(FileNotFoundError, match="missing/file"):
        write_file(tmp_path / "missing" / "file", "")
    assert {"file", "link"} == {each.name for each in tmp_path.iterdir()}
