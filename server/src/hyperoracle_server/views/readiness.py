"""Whether calls can be taken now: what `/readyz` answers."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import TimeoutError as NoAnswer

from hyperoracle_protocol.inspection import Health
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.telemetry.logs import about

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""A finding holds so long: `/readyz` takes no token, and must not make work without end."""

ANSWER_SECONDS = 2.0
"""How long the store's writer may take to answer."""


class Readiness:
    """Looks at what every call needs. Thread-safe.

    Args:
        oracle: whose studies and store to look at.
        headroom_bytes: free space below which the store counts as full.
    """

    def __init__(self, oracle: Oracle, headroom_bytes: int) -> None:
        self._oracle = oracle
        self._headroom = headroom_bytes
        self._lock = threading.Lock()
        self._found: Health | None = None
        self._looked_at = 0.0

    def check(self) -> Health:
        """What was found now, or less than a second ago."""
        with self._lock:
            now = self._oracle.clock.monotonic()
            if self._found is None or now - self._looked_at >= LOOK_SECONDS:
                before = "ok" if self._found is None else self._found.status
                self._found = self._look()
                self._looked_at = now
                if before != self._found.status:
                    fields = about(status=self._found.status, **self._found.checks)
                    log.warning("readiness changed", extra=fields)
            return self._found

    def _look(self) -> Health:
        checks = {
            "recovery": self._recovery(),
            "store": self._store(),
            "disk": self._disk(),
        }
        status = "ok" if all(found == "ok" for found in checks.values()) else "failing"
        return Health(status=status, checks=checks)

    def _recovery(self) -> str:
        """Every study is in mind, loaded again after a failed transaction if need be."""
        try:
            self._oracle.studies()
        except Exception as error:  # whatever keeps studies from loading, calls would meet it too
            log.exception("studies cannot be loaded")
            return f"studies cannot be loaded ({type(error).__name__}); see the log"
        return "ok"

    def _store(self) -> str:
        """The writer answers, and the store's file system takes a write."""
        writer = self._oracle.ledger.writer
        try:
            writer.submit_durably((), writer.epoch).result(ANSWER_SECONDS)
            self._oracle.ledger.check_writable()
        except NoAnswer:
            return f"the store's writer did not answer within {ANSWER_SECONDS:.0f} s"
        except RequestRefused as error:
            return error.detail
        except OSError as error:
            return f"the store cannot be written: {error.strerror}"
        return "ok"

    def _disk(self) -> str:
        try:
            free = self._oracle.ledger.free_bytes()
        except OSError as error:
            return f"free space is not known: {error.strerror}"
        if free < self._headroom:
            return f"expected at least {self._headroom} bytes free, got {free}; free some"
        return "ok"
