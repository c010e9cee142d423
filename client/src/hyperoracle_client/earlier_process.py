"""What an earlier process of the same job left: reports on disk, or a state beside a checkpoint."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from hyperoracle_client.credits import CreditBook
from hyperoracle_client.spool import OutgoingReport, Spool
from hyperoracle_protocol.jobs import StartedJob

logger = logging.getLogger("hyperoracle_client")


class Heritage(NamedTuple):
    """With what a job that the oracle has taken begins.

    Attributes:
        book: goes on with the job's sequences.
        reports: that the earlier process could not deliver.
        previous: sequence of the last report that the oracle has, None if unknown.
        session: the state of the earlier process's session, None if there is none.
    """

    book: CreditBook
    reports: list[OutgoingReport]
    previous: int | None
    session: Mapping[str, Any] | None


class EarlierProcess:
    """What there may be of an earlier process of a job.

    Args:
        spool: where it may have left reports.
        state: what its `Job.state` gave, if this job resumes from there.
    """

    def __init__(self, spool: Spool, state: Mapping[str, Any] | None) -> None:
        self._spool = spool
        self._state = state
        self._spooled = None
        if state is None:
            self._spooled = spool.load()
        else:  # its reports are in the state, or are made again
            with contextlib.suppress(OSError):
                spool.clear()

    def left_to(self, started: StartedJob) -> Heritage:
        """What it left to the job that the oracle has taken; to a new one, a fresh beginning."""
        if self._state is None:
            reports = self._spooled_for(started.job_id)
        else:
            reports = [OutgoingReport.of(fields) for fields in self._state["reports"]]
            if self._state["session"] is not None:
                # It repeats what the earlier process asked after its checkpoint, with the same
                # sequences: the oracle gives the same answers and counts nothing twice.
                session = self._state["session"]
                book = CreditBook.restored(session["book"])
                return Heritage(book, reports, self._state["previous"], session)
        numbered = [r.credits.sequence for r in reports if r.credits is not None]
        last_sequence = max([started.last_sequence, *numbered])
        return Heritage(CreditBook(last_sequence), reports, None if last_sequence else 0, None)

    def _spooled_for(self, job_id: str) -> list[OutgoingReport]:
        if self._spooled is None:
            return []
        if self._spooled.job_id not in (None, job_id):
            logger.warning(
                "oracle reports in %s are of job %s, not of %s: dropped",
                self._spool.path, self._spooled.job_id, job_id,
            )  # fmt: skip
            return []
        return self._spooled.reports
