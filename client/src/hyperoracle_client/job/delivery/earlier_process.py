"""What an earlier process of the same job left: reports on disk, or a state beside a checkpoint."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from hyperoracle_client.job.delivery.sequences import SequenceBook
from hyperoracle_client.job.delivery.spool import OutgoingReport, Spool
from hyperoracle_protocol.jobs import StartedJob

logger = logging.getLogger("hyperoracle_client")


class Heritage(NamedTuple):
    """With what a job that the oracle has taken begins.

    Attributes:
        book: goes on with the job's sequences.
        reports: that the earlier process could not deliver.
        previous: sequence of the last report that the oracle has, None if unknown: the next one is
            then applied whatever came before it.
        session: the state of the earlier process's session, None if there is none.
        dropped: reports that the earlier process could not deliver, and that nobody will.
    """

    book: SequenceBook
    reports: list[OutgoingReport]
    previous: int | None
    session: Mapping[str, Any] | None = None
    dropped: int = 0


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
            return self._from_spool(started)
        state = self._state
        reports = [OutgoingReport.of(fields) for fields in state["reports"]]
        if state["session"] is None:
            return _numbered_after(reports, started)
        # It repeats what the earlier process asked after its checkpoint, with the same
        # sequences: the oracle gives the same answers and counts nothing twice.
        session, book = state["session"], SequenceBook.restored(state["session"]["book"])
        is_known = state.get("job_id") in (None, started.job_id)
        if is_known and _has(started, state["previous"]):
            return Heritage(book, reports, state["previous"], _without_unknown(session, started))
        logger.warning(
            "the oracle does not know what job %s did before its checkpoint (it is another oracle, "
            "or its store was restored from a backup): the job goes on there from here",
            started.job_id,
        )
        book.leave_behind(started.last_sequence)
        _unchain(reports)
        return Heritage(book, reports, None, {**session, "decision": None})

    def _from_spool(self, started: StartedJob) -> Heritage:
        if self._spooled is None:
            return _numbered_after([], started)
        reports, lost = self._spooled.reports, self._spooled.unreadable
        if lost:
            logger.warning("%d oracle reports in %s are damaged: dropped", lost, self._spool.path)
        if self._spooled.job_id not in (None, started.job_id):
            # The job of this key is a new one there: who begins anew has not made these reports.
            where = self._spool.put_aside(".other-job")
            logger.warning(
                "%d oracle reports are of job %s, not of %s: dropped, and put aside in %s",
                len(reports), self._spooled.job_id, started.job_id, where,
            )  # fmt: skip
            return _numbered_after([], started)._replace(dropped=len(reports) + lost)
        if any(report.fixed and not _has(started, report.previous_report) for report in reports):
            logger.warning(
                "the oracle has lost reports of job %s (its store was restored from a backup): "
                "those that wait in %s follow without them", started.job_id, self._spool.path,
            )  # fmt: skip
            _unchain(reports)
        return _numbered_after(reports, started)._replace(dropped=lost)


def _numbered_after(reports: list[OutgoingReport], started: StartedJob) -> Heritage:
    """A beginning after every sequence that was used."""
    numbered = [r.credits.sequence for r in reports if r.credits is not None]
    last_sequence = max([started.last_sequence, *numbered])
    return Heritage(SequenceBook(last_sequence), reports, None if last_sequence else 0)


def _has(started: StartedJob, report: int | None) -> bool:
    """Whether the oracle has the report of this sequence; of None nothing is claimed."""
    newest = started.last_sequence if started.last_report is None else started.last_report
    return report is None or report <= newest


def _unchain(reports: list[OutgoingReport]) -> None:
    """Let the earliest follow what the oracle has, and each other the one before it."""
    for report in reports:
        report.previous_report, report.fixed = None, False


def _without_unknown(session: Mapping[str, Any], started: StartedJob) -> Mapping[str, Any]:
    """The session's state without a decision that the oracle has lost."""
    decision = session["decision"]
    if decision is None or decision["proposal"]["sequence"] <= started.last_sequence:
        return session
    logger.warning("the oracle has lost the decision that the job held: it is asked again")
    return {**session, "decision": None}
