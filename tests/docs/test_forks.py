"""A program in a fork, as `tests.forks` runs the examples, prints and ends as one that is started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import forking

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")

PROGRAMS = {
    "place": "import os, sys; print(os.getcwd(), sys.argv, sys.path[0], __name__, __file__, sorted(os.environ))",
    "names": "import sys; print(sorted(globals()), sorted(vars(sys.modules['__main__'])))",
    "input": "print(input())",
    "streams": "import sys; [print(each.encoding, each.errors, each.line_buffering, each.seekable(), each.fileno(), "
    "each.reconfigure(errors='backslashreplace')) for each in (sys.stdin, sys.stdout, sys.stderr)]",
    "exit": "raise SystemExit(3)",
    "exit with words": "import sys; sys.exit('the end')",
    "exception": "print('before')\nraise ValueError('the end')",
    "warning": "import warnings; warnings.warn('old')",
    "syntax": "print(",
    "signal": "import os; os.kill(os.getpid(), 9)",
    "exit at once": "import os; print('lost'); os._exit(5)",
    "atexit": "import atexit, sys; atexit.register(print, 'at last'); atexit.register(sys.stderr.write, 'told')",
    "thread": "import threading, time; threading.Timer(0.1, print, ['in a thread']).start(); print('main')",
    "child": "import os; print('both'); os.fork() or os._exit(0)",
    "unclosed": "open(__file__)",
}


@pytest.fixture(scope="module")
def fork() -> Iterator[list[str]]:
    """The command that runs a file in a fork."""
    with forking("decimal") as command:
        yield command


def ended(command: list[str], file: Path) -> tuple[int, str, str]:
    """Exit code, output, and the last line of the other output."""
    run = subprocess.run(
        [*command, str(file), "one", "two"],
        cwd=file.parent,
        input="a line\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return run.returncode, run.stdout, (run.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_prints_and_ends_as_one_that_is_started(fork: list[str], tmp_path: Path, name: str) -> None:
    """Outputs and exit code are the same, also of a program that fails or is killed."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAMS[name], encoding="utf-8")

    assert ended([sys.executable, "-W", "error"], file) == ended(fork, file)


def test_nothing_is_left_to_the_next(fork: list[str], tmp_path: Path) -> None:
    """A module, a variable or a setting of one program is not there in the next; what all import is."""
    tell = "print(*(name in sys.modules for name in ('agentmodel', 'colorsys', 'decimal')), os.environ.get('LEFT'))"
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text(f"import os, sys, agentmodel, colorsys; os.environ['LEFT'] = 'yes'; {tell}", encoding="utf-8")
    other.write_text(f"import os, sys; {tell}", encoding="utf-8")

    assert [(0, "True True True yes\n", ""), (0, "False False True None\n", "")] == [
        ended(fork, one),
        ended(fork, other),
    ]


def test_it_is_killed_with_the_one_who_asked(fork: list[str], tmp_path: Path) -> None:
    """A program that is given up after its time does not run on."""
    file = tmp_path / "program.py"
    file.write_text("import time; print('runs', flush=True); time.sleep(600)", encoding="utf-8")
    with subprocess.Popen([*fork, str(file)], stdout=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        assert b"runs\n" == asking.stdout.readline()
        asking.kill()

        assert b"" == asking.stdout.read()  # nobody has it open any more
