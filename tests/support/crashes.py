"""An oracle in this process that can be killed at a known point, as if its process had died."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.snapshots.examination import findings
from support.handles import oracle_of
from support.wire_client import Wire


class MortalOracle:
    """An embedded oracle whose unsynced writes wait until something must be durable.

    A writer lets proposals wait for company up to 50 ms; here they wait without bound, so that
    what a crash loses is known: all that came after the last durable write.

    Args:
        folder: for its stores.

    Attributes:
        wire: calls it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lives = 0
        self._open(folder / "0.db")

    def _open(self, store: Path) -> None:
        self._store = store
        self._transport = EmbeddedTransport(str(store))
        self.wire = Wire(transport=self._transport)
        self.writer = oracle_of(self).ledger.writer
        self._kept: list[tuple[Any, ...]] = []
        self._submit = self.writer.submit
        self._submit_durably = self.writer.submit_durably
        self._run = self.writer.run
        self.writer.submit = lambda *arguments: self._kept.append(arguments)
        self.writer.submit_durably = lambda *arguments: self._after_kept(
            self._submit_durably, *arguments
        )
        self.writer.run = lambda *arguments: self._after_kept(self._run, *arguments)

    def _after_kept(self, call: Any, *arguments: Any) -> Any:
        kept, self._kept = self._kept, []
        for earlier in kept:
            self._submit(*earlier)
        return call(*arguments)

    def wrong(self) -> list[str]:
        """What the store breaks of the laws of a store; and remembered hyper-states that are gone,
        without which no new encoder could take its memory over."""
        with oracle_of(self).ledger.reading() as connection:
            gone = connection.exec_driver_sql(
                "SELECT count(*) FROM memory_entries e WHERE NOT evicted AND NOT EXISTS "
                "(SELECT 1 FROM hyper_states h WHERE h.proposal_id = e.proposal_id)"
            ).scalar_one()
            found = findings(connection)
        return [*found, f"{gone} remembered hyper-states are gone"] if gone else found

    def crash(self) -> None:
        """Lose what is in mind, and go on from the files as they lie there."""
        self._lives += 1
        copy = self._folder / f"{self._lives}.db"
        with closing(sqlite3.connect(self._store)) as reader:
            reader.execute("BEGIN")  # who reads keeps the log from being begun anew
            reader.execute("SELECT count(*) FROM studies").fetchone()
            for ending in ("", "-wal"):
                shutil.copy(f"{self._store}{ending}", f"{copy}{ending}")
        self._kept.clear()
        self._transport.close()
        self._open(copy)

    def reopen(self) -> None:
        """Close it in order and open it again."""
        self.close()
        self._open(self._store)

    def close(self) -> None:
        """Close it in order."""
        self.writer.flush()
        self._transport.close()
