"""Programs that run in forks of a process which has imported the libraries that they all use.

Most of what a short program takes is the import of pandas, moto and SQLAlchemy. A fork has them, and nothing of another
program: no module of agentmodel, no setting, no folder. It is an interpreter whose ``__main__`` is the file, and it ends
as one: an exception is printed, threads are waited for, and what is registered with `atexit` is called. Tests of how a
process starts or ends start real ones.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import CodeType
from typing import Final, NoReturn

ROOT: Final = Path(__file__).parents[1]
LIBRARIES: Final = (
    "botocore.session",
    "duckdb",
    "moto.dynamodb.responses",
    "pandas",
    "pyarrow",
    "pydantic_settings",
    "rapidfuzz",
    "redis",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.orm",
)
"""What the embedded engines load. Frameworks are not among them: a program loads its own and finds no other."""

_FORKED: Final = """
from tests.forks import _next_program
exec(_next_program())
"""


@contextmanager
def forking(*libraries: str, warns: str = "error") -> Iterator[list[str]]:
    """Start a process that imports libraries; give what stands for ``python -W error`` before a file or ``-m``."""
    python = [sys.executable, "-W", warns]
    if not hasattr(os, "pidfd_open"):  # only Linux has it
        yield python
        return
    folder = tempfile.mkdtemp()  # short: the name of a socket has no more than 107 characters
    with socket.socket(socket.AF_UNIX) as asked:
        asked.bind(f"{folder}/asked")
        asked.listen()
        process = subprocess.Popen(
            [*python, "-c", _FORKED, str(asked.fileno()), *libraries],
            cwd=ROOT,
            stdin=subprocess.PIPE,  # its end is that of the process
            stdout=subprocess.PIPE,  # as programs have mostly: Python remembers that it cannot be rewound
            stderr=subprocess.PIPE,
            pass_fds=[asked.fileno()],
        )
    try:
        yield [sys.executable, "-I", "-S", str(ROOT / "tests" / "in_a_fork.py"), f"{folder}/asked"]
    finally:
        _, errors = process.communicate()
        shutil.rmtree(folder)
        assert 0 == process.returncode, errors.decode()


def _next_program() -> CodeType:
    """Fork for each program that is asked for, as long as there is an input; return in the fork, with its program."""
    listening, *libraries = sys.argv[1:]
    for name in libraries:
        importlib.import_module(name)
    assert "agentmodel" not in sys.modules
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(listening)) as asked:
        while True:
            if sys.stdin in select.select([asked, sys.stdin], [], [])[0]:
                os._exit(0)
            connection, _ = asked.accept()
            if _fork() == 0:
                break
            connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    with connection:
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        with connection.makefile() as lines:
            arguments, folder, environment = json.loads(lines.readline())
        program = _fork()
        if program != 0:
            _wait(program, connection)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    main = vars(sys.modules["__main__"])
    del main["_next_program"], sys.modules[__name__]
    if arguments[0] == "-m":
        sys.argv[:], sys.path[0] = arguments[1:], folder
        return compile(
            f"import runpy; runpy.run_module({arguments[1]!r}, run_name='__main__', alter_sys=True)", "", "exec"
        )
    sys.argv[:], sys.path[0] = arguments, str(Path(arguments[0]).parent)
    main |= {"__file__": arguments[0], "__cached__": None}
    return compile(Path(arguments[0]).read_bytes(), arguments[0], "exec", dont_inherit=True)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from 3.12 on Python warns of Arrow's thread, which expects forks
        return os.fork()


def _wait(program: int, connection: socket.socket) -> NoReturn:
    """Tell how a program ends, or kill it when nobody listens any more; end this process."""
    ended = os.pidfd_open(program)
    if ended not in select.select([connection.fileno(), ended], [], [])[0]:
        os.kill(program, signal.SIGKILL)
    _, status = os.waitpid(program, 0)
    with suppress(OSError):
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)
