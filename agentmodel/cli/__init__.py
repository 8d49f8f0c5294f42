"""The command line: the loop, and a look at every station of it.

`main` is the console script ``agentmodel``. Exit codes: 0 it worked, 1 it failed, 2 wrong use, 130 interrupted; what
went wrong is one line on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from agentmodel.exceptions import MissingExtraError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What follows ``agentmodel``; the process's own arguments when not given.

    Returns:
        The exit code.
    """
    try:
        from agentmodel.cli._app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write(f"error: {MissingExtraError('cli', 'the command line', error.name)}\n")
        return 1
    except KeyboardInterrupt:  # loading takes a moment too
        return 130
    return run(arguments)
