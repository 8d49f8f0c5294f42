"""Run the command line as ``python -m agentmodel``."""

from __future__ import annotations

import sys

from agentmodel.cli import main

if __name__ == "__main__":
    sys.exit(main())
