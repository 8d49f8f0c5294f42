"""Eight processes with mixed settings go on with one session, while others drain and all of them are paused at times.

    python mixed_processes.py SEED

``AGENTMODEL_*`` says where the engines are. The last line is a JSON object: what was acknowledged, and what the table
has in the end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from time import sleep
from typing import Any

from agentmodel import AgentModel, Settings, ToolExecution, UserSessionProcess
from agentmodel.access.recorder import Receipt
from agentmodel.exceptions import Unavailable

USER, SESSION = "USR001", "SESSmixed"
PREFIXES = ("am", "other")
NOWHERE = "valkey://127.0.0.1:1"
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"valkey_timeout": 0.02},  # a pause of its own looks like an outage of Valkey
    {"valkey_prefix": PREFIXES[1]},
    {"durability": "dynamodb"},
    {"durability": "dynamodb", "valkey_prefix": PREFIXES[1]},
    {"valkey_url": None},
    {"valkey_url": NOWHERE},
)
STEPS = 3


def records(settings: Settings, name: str, acknowledged: Path) -> None:
    """Go on with the session, and note what each receipt says: the call or process, and what it holds.

    Calls of a function are written in the background, between and beside the others; they are noted when they are kept.
    """
    with AgentModel.from_settings(settings) as model, acknowledged.open("w") as file:

        @model.tool(agent="finder")
        def look(what: str) -> str:
            return what

        def noted(entities: Sequence[Any], versions: Sequence[int]) -> Any:
            kept = write(entities, versions)
            for receipt in kept:
                one = receipt.entity if isinstance(receipt, Receipt) else None
                if isinstance(one, UserSessionProcess):
                    note(file, one.call_id, one.prompt)
                elif isinstance(one, ToolExecution):
                    note(file, one.call_id, one.result)
            return kept

        write = model.recorder.record_each
        for late in model.recorder._late:
            late._record_each = noted
        for step in range(STEPS):
            with model.session(USER, session_id=SESSION) as session:
                process = session.process(f"{name}-{step}", prompt=f"{name}-{step}")
                with process:
                    note(file, process.entity.call_id, process.entity.prompt)
                    for number in range(2):
                        call = process.call("AGT001", "TL001", tool_name="find", values={})
                        with call:
                            call.result = f"{name}-{step}-{number}"
                        assert call.receipt is not None
                        note(file, call.receipt.entity.call_id, call.receipt.entity.result)
                        look(f"{name}-{step}-{number}-later")
                look(f"{name}-{step}-last")
            assert 0 == model.recorder.waiting  # the end of the session's block waits for them
        assert 0 == model.functions.errors


def note(file: Any, call_id: str | None, content: str | None) -> None:
    """Note one receipt."""
    file.write(json.dumps([call_id, content]) + "\n")
    file.flush()


def drains(settings: Settings) -> None:
    """Drain until SIGTERM, taking over at once what another drainer has read, and may be about to write."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with AgentModel.from_settings(settings) as model:
        drainer = model.drainer
        drainer._group._idle_ms = 0
        drainer.run(stop, every=0.005)


def forked(work: Callable[[], None]) -> int:
    """Do the work in a child, whose status says whether it was done."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - a child must never go on with what its parent does
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def trial(settings: Settings, seed: int, folder: Path) -> dict[str, Any]:
    """Run all processes once, and return what was acknowledged and what is stored."""
    choose = random.Random(seed)  # noqa: S311 - a trial that can be repeated
    files = [folder / str(number) for number in range(len(SETTINGS))]
    writers = [
        forked(lambda n=n, each=each: records(settings.model_copy(update=each), f"p{n}", files[n]))  # type: ignore[misc]  # defaults keep the values
        for n, each in enumerate(SETTINGS)
    ]
    drainers = [
        forked(lambda each=each: drains(settings.model_copy(update={"valkey_prefix": each})))  # type: ignore[misc]  # likewise
        for each in (*PREFIXES, PREFIXES[0])
    ]
    running, failed = set(writers), 0
    while running:
        paused = choose.choice([*sorted(running), *drainers])
        os.kill(paused, signal.SIGSTOP)
        sleep(choose.choice([0.005, 0.02, 0.1]))  # a pause is what is tried here
        os.kill(paused, signal.SIGCONT)
        for pid in sorted(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                running.discard(pid)
                failed += os.waitstatus_to_exitcode(status) != 0
    for pid in drainers:
        os.kill(pid, signal.SIGTERM)
        failed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
    for prefix in PREFIXES:
        with AgentModel.from_settings(settings.model_copy(update={"valkey_prefix": prefix})) as model:
            model.drainer._group._idle_ms = 0
            while model.drain().left:
                pass
    with AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as model:
        history = model.repository.session_history(USER, SESSION)
    stored = [[call.call_id, call.result] for call in history.executions]
    stored += [[process.call_id, process.prompt] for process in history.processes]
    acknowledged = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return {"failed": failed, "acknowledged": sorted(acknowledged), "stored": sorted(stored)}


def main() -> None:
    """Run one trial."""
    settings = Settings.load()
    with tempfile.TemporaryDirectory() as folder:
        try:
            sys.stdout.write(json.dumps(trial(settings, int(sys.argv[1]), Path(folder))) + "\n")
        except Unavailable as error:
            sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
