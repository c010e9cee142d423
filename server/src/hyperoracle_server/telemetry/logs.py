"""The program's own log: one event a line, as JSON for machines or readable on a terminal.

An event is a short text with fields beside it: `log.info("job started", extra=about(job=...))`.
What is logged while a request is answered carries the request's id, and its trace's id where there
is one. Fields name studies, jobs and numbers; never a token, a header or a feature.

Logs, the audit record, traces and refusals are read by more people, and kept longer, than a token
may be known: `redacted` and `shown_path` leave it out of all of them, whichever place it came in.
"""

from __future__ import annotations

import json
import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LONGEST_PATH = 256
"""Characters of a path that are written down."""

_AFTER_TOKENS = re.compile(r"(?<=/tokens/).+", re.IGNORECASE | re.DOTALL)
_TOKEN = re.compile(r"(ho_[0-9a-f]{12})_[A-Za-z0-9_-]{20,}")


def redacted(text: str) -> str:
    """The text without the secrets of this project's tokens; their ids stay."""
    return _TOKEN.sub(r"\1_...", text) if "ho_" in text else text


def shown_path(path: str) -> str:
    """A request's path as it is written down.

    Which token a call is about may have been said by the token itself, or by a secret that no
    pattern knows (an administrator's of the environment): it is left out.
    """
    shown = redacted(_AFTER_TOKENS.sub("...", path))
    return shown if len(shown) <= LONGEST_PATH else shown[:LONGEST_PATH] + "..."


LogLevel = Literal["debug", "info", "warning", "error"]

LogFormat = Literal["auto", "json", "human"]
"""`auto` is `human` on a terminal and `json` elsewhere."""

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered here, None outside of requests."""

trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
"""The id of the trace that the request belongs to, 32 hexadecimal digits; None without tracing."""


def about(**fields: Any) -> dict[str, Any]:
    """What an event is about, as the `extra` of a logging call."""
    return {"about": fields}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, event, then what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redacted(json.dumps(line, default=str))


class HumanLines(logging.Formatter):
    """Time, level and event; fields as name=value. An exception follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created).astimezone()
        fields = "".join(f"  {name}={_shown(value)}" for name, value in _fields(record).items())
        text = f"{at:%H:%M:%S} {record.levelname:<7} {_one_line(record.getMessage())}{fields}"
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return redacted(text)


def configure(level: LogLevel, kind: LogFormat, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to a stream.

    Args:
        level: debug, info, warning or error.
        kind: how lines look.
        stream: where they go; standard error if None.
    """
    handler = logging.StreamHandler(stream)  # which takes standard error for None
    is_human = kind == "human" or (kind == "auto" and handler.stream.isatty())
    handler.setFormatter(HumanLines() if is_human else JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = dict(getattr(record, "about", {}))
    for name, known in (("request_id", request_id.get()), ("trace_id", trace_id.get())):
        if known is not None:
            fields.setdefault(name, known)
    return fields


def _shown(value: Any) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)


def _one_line(text: str) -> str:
    """What callers have a say in begins no line of its own."""
    return text if text.isprintable() else json.dumps(text)
