"""The record of administrative calls: one JSON line each, with the token's name."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from hyperoracle_server.telemetry.logs import redacted

log = logging.getLogger(__name__)


class _Appended(WatchedFileHandler):
    """A file that is opened anew once it has been moved away (logrotate)."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Leave the exception, which is being handled, to the caller."""
        error = sys.exception()
        assert error is not None, record
        raise error


class AuditLog:
    """Appends to a file, or writes to standard error.

    The record does not depend on the level of the program's own log. A line that cannot be written
    is told there and stops nothing: the call has been answered already.

    Args:
        path: of the file; None for standard error. It may be moved or emptied meanwhile.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._file = None if path is None else _Appended(path, encoding="utf-8")

    def record(self, **fields: Any) -> None:
        """Write one line with the time and these fields."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = redacted(json.dumps({"audit": at, **fields}))
        with self._lock, _told():
            if self._file is None:
                print(line, file=sys.stderr, flush=True)
            else:
                self._file.emit(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            with _told():
                self._file.close()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.error("the audit log cannot be written: %s", error)
