"""All benchmarks of the entity layer: `python -m benchmarks`, or one of them as `benchmarks/entities.py` says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from entities import main
from servers import DYNOXIDE

engine = "dynoxide" if DYNOXIDE in os.environ else "moto"
for arguments in (["cpu"], ["gets", engine], ["server", engine]):
    main(arguments)
    print()
