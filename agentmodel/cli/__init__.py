"""The command `agentmodel`: run the whole loop from a terminal, and look at what each store holds.

`main` is the console script ``agentmodel``. It exits with 0 when the command worked, 1 when it failed, 2 when it was
called with wrong arguments, and 130 when it was interrupted. An error is one line on stderr.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence

from agentmodel.exceptions import MissingExtraError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command and its options, without the program's name; ``sys.argv[1:]`` when not given.

    Returns:
        The exit code.

    >>> exit_code = main(["--version"])
    agentmodel ...
    >>> exit_code
    0
    """
    if arguments is None:  # it ends with the process, which would look through all that was loaded for what to free
        atexit.register(gc.freeze)
    try:
        from agentmodel.cli._app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write(f"error: {MissingExtraError('cli', 'the command line', error.name)}\n")
        return 1
    except KeyboardInterrupt:  # importing takes long enough for a Ctrl-C
        return 130
    return run(arguments)
