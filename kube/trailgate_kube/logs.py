"""Logs of both processes: one JSON object a line on stderr.

A line of ours names the decision's id, the object and the codes. It never names a user,
a group or free text of a request: whoever supports a user has the id from the
denial, and the ledger has the person. Foreign loggers (the HTTP server's) pass
through the same form.
"""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

LEVELS = ("debug", "info", "warning", "error")
"""What ``configure`` takes."""

_LOGGER = logging.getLogger("trailgate.process")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if fields:
            line |= fields
        if record.exc_info and "error" not in line:
            line |= _where(record.exc_info[1])
        return orjson.dumps(line, default=str).decode()


def configure(level: str) -> None:
    """Send all logging to stderr as JSON lines, our own from ``level`` on (one of ``LEVELS``)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(level.upper())


def enabled(level: int) -> bool:
    """Whether a line of this level would be written (asked before building one)."""
    return _LOGGER.isEnabledFor(level)


def write(level: int, event: str, **fields: object) -> None:
    """Write one line."""
    _LOGGER.log(level, event, extra={"fields": fields})


def failure(event: str, error: BaseException, **fields: object) -> None:
    """Write an unexpected error: its type and where it happened.

    Its text may quote what a user sent, so that is written at level debug only.
    """
    if enabled(logging.DEBUG):
        fields["text"] = str(error)
    _LOGGER.error(event, extra={"fields": fields | _where(error)})


def _where(error: BaseException | None) -> dict[str, object]:
    frames = traceback.extract_tb(error.__traceback__) if error else []
    return {
        "error": type(error).__name__,
        "at": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
    }
