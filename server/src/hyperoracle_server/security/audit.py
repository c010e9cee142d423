"""The record of administrative calls: one JSON line each, with the token's name."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class AuditLog:
    """Appends to a file, or writes to standard error.

    The record does not depend on the level of the program's own log. A line that cannot be written
    is told there and stops nothing: the call has been answered already.

    Args:
        path: of the file; None for standard error.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._file = None if path is None else path.open("a", encoding="utf-8")

    def record(self, **fields: Any) -> None:
        """Write one line with the time and these fields."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"audit": at, **fields}) + "\n"
        try:
            with self._lock:
                file = self._file or sys.stderr
                file.write(line)
                file.flush()
        except OSError as error:
            log.error("the audit log cannot be written: %s", error)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
