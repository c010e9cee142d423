"""Decisions that are held: until when, durable before they are answered, and missed where lost.

A proposal of one update is advice, which may be lost with the process. A decision that is held
rules what many reports bring. Were it lost after its answer, the job would go on with it, and what
it achieves would be taken for what the defaults achieve.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from hyperoracle_server.strategies.decisions import end_of_segment
from hyperoracle_server.telemetry.logs import about

if TYPE_CHECKING:
    from hyperoracle_protocol.jobs import ProposeMetadata, Report
    from hyperoracle_protocol.studies import HoldSetting
    from hyperoracle_server.ledger.statements import Change
    from hyperoracle_server.oracle.job import JobState
    from hyperoracle_server.oracle.services import Services
    from hyperoracle_server.strategies.decisions import Decision

log = logging.getLogger(__name__)


class Held(NamedTuple):
    """A decision in force: the proposal that made it and until when it holds."""

    sequence: int
    hyper_action: int
    explored: bool
    epsilon: float
    propensity: float
    until_update_step: int
    until_env_step: int | None

    def holds(self, update_step: int, env_step: int) -> bool:
        """Whether it is in force at this update."""
        if self.until_env_step is not None:
            return env_step < self.until_env_step
        return update_step < self.until_update_step


class HeldDurably(NamedTuple):
    """The writing of a job's newest decision that is held.

    Attributes:
        hyper_action: that was decided.
        future: resolves once it is on disk.
    """

    hyper_action: int
    future: Future[Any]

    @property
    def is_on_disk(self) -> bool:
        """Whether it is on disk by now."""
        return self.future.done() and self.future.exception() is None


def held(
    setting: HoldSetting, job: JobState, request: ProposeMetadata, decision: Decision
) -> Held | None:
    """A decision with the time for which it is held; None if for this update only.

    Args:
        setting: the study's.
        job: that asked.
        request: what it asked.
        decision: what was chosen, maybe with a time of its own.
    """
    until_env_step = None
    if decision.hold_until_env_step is not None:
        until_env_step = decision.hold_until_env_step
    elif setting.decisions_per_job is not None:
        until_env_step = end_of_segment(
            request.env_step, job.total_env_steps, setting.decisions_per_job
        )
    elif setting.updates == 1:
        return None
    return Held(
        request.sequence, decision.hyper_action, decision.explored, decision.epsilon,
        decision.propensity, request.update_step + setting.updates, until_env_step,
    )  # fmt: skip


def write(
    services: Services,
    epoch: int,
    job: JobState,
    decision: Decision,
    changes: list[Change],
    *,
    is_new: bool,
) -> Future[Any] | None:
    """Write a proposal down; returns what its answer has to wait for, None if for nothing.

    A decision that is to be held is synced, once; nor does an answer that only repeats it overtake
    that. All else is written soon.

    Args:
        services: with the writer.
        epoch: in which the study was loaded.
        job: that asked; `job.held` is what is in force now.
        decision: what is answered.
        changes: to write.
        is_new: whether the decision was made for this request.
    """
    if job.held is None or not is_new:
        services.writer.submit(changes, epoch)
        return None if job.held is None or job.held_durably is None else job.held_durably.future
    future = services.writer.submit_durably(changes, epoch)
    former, job.held_durably = job.held_durably, HeldDurably(decision.hyper_action, future)
    decides_itself = decision.hold_until_env_step is not None
    if decides_itself and former is not None and former.is_on_disk:
        # The job asks again because that answer came too late, on a slow disk. Were it to wait
        # each time it would never get one; and the ledger has what it is given.
        return None if former.hyper_action == decision.hyper_action else future
    return future


def note_lost(services: Services, study: str, job: JobState, report: Report) -> None:
    """Note in a job's credit book that it was ruled by a decision that is not known here.

    No kill leads there; a store that was brought back from a backup does, while jobs went on. What
    the job achieves then counts for nothing (`Endings.settle`).

    Args:
        services: with the ledger's answers.
        study: its name, for the log.
        job: that reports.
        report: not yet taken in; only one that says from where on it credits can tell.
    """
    through, after = report.credits_through, report.credits_after
    if after is None or through <= after or through in report.not_applied:
        return
    if through in job.answers or services.stored_answer(job.id, through) is not None:
        return
    if not job.credit.lost_decisions:
        fields = about(study=study, job=job.public_id, sequence=through)
        log.warning("a job used a decision that is not known here; it is left out", extra=fields)
    job.credit.lost_decisions += 1
