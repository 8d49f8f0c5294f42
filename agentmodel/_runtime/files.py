"""Write a file for the user, whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["write_file"]


def write_file(path: Path, text: str) -> None:
    """Write a text into a file, which is as before until all of it is on the disk.

    Raises:
        OSError: It cannot be written; the error names the file.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():  # such as /dev/stdout, whose place nothing can take
        target.write_text(text, encoding="utf-8")
        return
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            draft.write_text(text, encoding="utf-8")
            if target.exists():
                shutil.copymode(target, draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
