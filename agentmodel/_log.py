"""The loggers of the package: what they log is redacted first, while a model redacts."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["REWRITERS", "logger"]

REWRITERS: list[Callable[[str], str]] = []
"""Called with the text of every log line, one after the other; see `agentmodel._redaction`."""

_format = logging.Formatter()


def logger(name: str) -> logging.Logger:
    """Return the logger of a module."""
    log = logging.getLogger(name)
    log.addFilter(_rewrite)
    return log


def _rewrite(record: logging.LogRecord) -> bool:
    """Rewrite the message and the traceback of a record, before any handler sees it."""
    if not REWRITERS:
        return True
    try:
        message = _rewritten(plain := record.getMessage())
    except Exception as error:  # noqa: BLE001  # an argument may raise anything when it is put into text
        record.msg, record.args = f"a line that cannot be put into text: {type(error).__name__}", ()
        return True
    if message != plain:
        record.msg, record.args = message, ()
    if record.exc_info and record.exc_info[0] is not None:
        trace = _rewritten(plain := _format.formatException(record.exc_info))
        if trace != plain:
            record.exc_info, record.exc_text = None, trace  # handlers print the text; the exception has the secret
    return True


def _rewritten(text: str) -> str:
    for rewrite in tuple(REWRITERS):
        text = rewrite(text)
    return text
