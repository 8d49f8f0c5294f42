"""Run a program in a fork: ``python -I -S in_a_fork.py SOCKET FILE …`` or ``… SOCKET -m MODULE …``.

It loads next to nothing. The program has this one's folder, environment, input and outputs, and this one ends as the
program has ended. See `tests.forks`, whose process waits at the socket.
"""

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as asking:
    asking.connect(sys.argv[1])
    socket.send_fds(asking, [b" "], [0, 1, 2])
    asking.sendall(json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode() + b"\n")  # noqa: PTH109  # pathlib takes as long to load as all else here
    status = int(asking.recv(10) or 1)
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
