"""All benchmarks: `python -m benchmarks`, or some of them: `python -m benchmarks entities integrations`.

With the path of another DynamoDB server in DYNOXIDE that server is asked, else moto's, which hides much of the client.
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
}


def main(asked: list[str]) -> int:
    """Run the benchmarks that are asked for, all when none is; the exit code of the first that fails."""
    unknown = sorted(set(asked) - set(PROGRAMS))
    if unknown:
        sys.stderr.write(f"error: no benchmark {', '.join(unknown)}: there are {', '.join(PROGRAMS)}\n")
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
