"""Compare entities with PynamoDB, pydynox and a bare boto3 client in one run, as ratios of times.

    python benchmarks/entities.py cpu                     # construct, encode, decode: no server
    python benchmarks/entities.py server moto             # write, query, get against a server in another process
    DYNOXIDE=/path/to/dynoxide python benchmarks/entities.py server dynoxide
    DYNOXIDE=/path/to/dynoxide python benchmarks/entities.py gets dynoxide

pydynox, boto3, aiopynamodb, pydynantic and dynamoxy are optional; a library that is not installed is left out, and a
line on stderr names it.

cpu: thread CPU time, the minimum of many rounds; the libraries run in turn within each round. server: each turn runs
every library once, in a new process on a new table, in rotated order; the minimum of the turns counts, since other work
on the machine only adds to a time. gets: all libraries run in turn in one process, because a get waits more than it
computes, and the waiting time differs from minute to minute.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from peers import CASES, GETS, LIBRARIES, OTHERS, codecs, workload
from servers import serving

NUMBER = 200  # calls in one timed round


def cpu(rounds: int) -> str:
    """Return the table of CPU times: microseconds per call, and how many times our time each peer takes."""
    lines = []
    for case in CASES:
        found = codecs(case)
        best = {name: [float("inf")] * 3 for name in found}
        for turn in range(rounds):
            for name in sorted(found, key=lambda name, turn=turn: hash((name, turn))):
                for place, action in enumerate(found[name].actions()):
                    best[name][place] = min(best[name][place], _timed(action))
        lines += _cpu_rows(case, best)
    head = ["| entity | library | construct | encode | decode |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines])


def _timed(action: Callable[[], Any]) -> float:
    start = time.thread_time_ns()
    for _ in range(NUMBER):
        action()
    return (time.thread_time_ns() - start) / NUMBER / 1000


def _cpu_rows(case: str, best: dict[str, list[float]]) -> Iterator[str]:
    ours = best["agentmodel"]
    for name, times in best.items():
        cells = [
            f"{t:.2f} µs" + ("" if name == "agentmodel" else f" ({t / o:.1f}×)")
            for t, o in zip(times, ours, strict=True)
        ]
        yield f"| {case} | {name} | {' | '.join(cells)} |"


def server(engine: str, turns: int, libraries: Sequence[str]) -> str:
    """Return the table of times against a server: seconds, and the ratio to the bare boto3 client."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in libraries}
    with serving(engine) as endpoint:
        for turn in range(turns):
            start = turn % len(libraries)
            for name in (*libraries[start:], *libraries[:start]):
                results[name].append(_in_process(name, endpoint))
    lines = [
        f"| {engine} | write 5,000 | query 5,000 | get 1,000 | CPU of the client: write | query | get |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in libraries:
        cells = [_against(results, name, f"{what}{of}") for of in ("", " cpu") for what in ("write", "query", "get")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _against(results: dict[str, list[dict[str, float]]], name: str, what: str) -> str:
    best = {library: min(turn[what] for turn in results[library]) for library in (name, "boto3")}
    return f"{best[name]:.2f} s ({best[name] / best['boto3']:.2f})"


def gets(engine: str, turns: int, libraries: Sequence[str]) -> str:
    """Return the table of single gets: microseconds each, and the ratio to the bare boto3 client."""
    best = {name: [float("inf")] * 2 for name in libraries}
    with serving(engine) as endpoint:
        works = {name: dict(workload(name, endpoint)) for name in libraries}
        works["boto3"]["write"]()
        for _ in range(turns):
            for name in libraries:
                wall, used = time.perf_counter(), time.process_time()
                works[name]["get"]()
                spent = time.perf_counter() - wall, time.process_time() - used
                best[name] = [min(pair) for pair in zip(best[name], spent, strict=True)]
    lines = [f"| {engine} | one get | CPU of the client |", "|---|---|---|"]
    for name, times in best.items():
        pairs = zip(times, best["boto3"], strict=True)
        lines.append(f"| {name} | {' | '.join(f'{t / GETS * 1e6:.0f} µs ({t / b:.2f})' for t, b in pairs)} |")
    return "\n".join(lines)


def _in_process(name: str, endpoint: str) -> dict[str, float]:
    command = [sys.executable, __file__, "one", name, endpoint]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)  # runs this file
    times: dict[str, float] = json.loads(done.stdout)
    return times


def _one(name: str, endpoint: str) -> dict[str, float]:
    """Run the workload of one library in this process; return the seconds of each part.

    Python's garbage collector is off: a full pass takes 90 ms, and falls into one part or another by chance.
    """
    gc.disable()
    times = {}
    for what, action in workload(name, endpoint):
        wall, used = time.perf_counter(), time.process_time()
        action()
        times[what], times[f"{what} cpu"] = time.perf_counter() - wall, time.process_time() - used
    return times


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    in_cpu = kinds.add_parser("cpu")
    in_cpu.add_argument("--rounds", type=int, default=300)
    for name in ("server", "gets"):
        on_server = kinds.add_parser(name)
        on_server.add_argument("engine", choices=("moto", "dynoxide"))
        on_server.add_argument("--turns", type=int, default=5)
    one = kinds.add_parser("one")
    one.add_argument("library")
    one.add_argument("endpoint")
    given = parser.parse_args(arguments)
    missing = [name for name, present in (LIBRARIES | OTHERS).items() if not present]
    if given.what == "one":
        print(json.dumps(_one(given.library, given.endpoint)))
        return
    if missing:
        print(f"left out, since they are not installed: {', '.join(missing)}\n", file=sys.stderr)
    present = [name for name in LIBRARIES if LIBRARIES[name]]
    if given.what == "cpu":
        print(cpu(given.rounds))
    elif given.what == "server":
        print(server(given.engine, given.turns, present))
    else:  # of one table: pydynantic reads no item that another library wrote
        print(gets(given.engine, given.turns, [name for name in present if name != "pydynantic"]))


if __name__ == "__main__":
    main()
