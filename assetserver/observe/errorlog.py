"""Warnings and errors as JSON, a line each."""

from __future__ import annotations

import logging
from typing import Any, TextIO

import msgspec

from .formats import format_moment


class JsonLines(logging.Formatter):
    """Writes a record of ``logging`` as one JSON object, with the names of the access log; ``exc`` is a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        row: dict[str, Any] = {
            "ts": format_moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            row["exc"] = self.formatException(record.exc_info)
        return msgspec.json.encode(row).decode()


def log_as_json(stream: TextIO | None = None) -> logging.Handler:
    """Write what anybody logs to ``stream``, or standard error, as JSON; return what does it. May be repeated."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    return handler
