"""Run all benchmarks (`python -m benchmarks`) or some of them (`python -m benchmarks entities integrations`).

The DynamoDB server is the program that the environment variable DYNOXIDE names, else moto's, which is so slow that it
hides most of the client's own time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENGINE = "dynoxide" if os.environ.get("DYNOXIDE") else "moto"
PROGRAMS = {
    "entities": (("entities.py", "cpu"), ("entities.py", "gets", ENGINE), ("entities.py", "server", ENGINE)),
    "cache": (("cache.py", "--table", ENGINE),),
    "warehouse": (("warehouse.py",),),
    "integrations": (("integrations.py",),),
    "redaction": (("redaction.py",),),
    "suggest": (("suggest.py", "--table", ENGINE),),
    "publish": (("publish.py", "--table", ENGINE),),
    "routing": (("routing.py",),),
    "impact": (("impact.py",),),
    "console": (("console.py",),),
}


def main(asked: list[str]) -> int:
    """Run the benchmarks that are named, or all; return the exit code of the first that fails."""
    unknown = sorted(set(asked) - set(PROGRAMS))
    if unknown:
        sys.stderr.write(f"error: unknown benchmark {', '.join(unknown)}; give one of {', '.join(PROGRAMS)}\n")
        return 2
    for name in asked or PROGRAMS:
        for program, *arguments in PROGRAMS[name]:
            print(f"\n$ python benchmarks/{' '.join((program, *arguments))}", flush=True)
            path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
            environment = os.environ | {"PYTHONPATH": path}
            run = subprocess.run([sys.executable, HERE / program, *arguments], env=environment, check=False)
            if run.returncode:
                return run.returncode
    return 0


sys.exit(main(sys.argv[1:]))
