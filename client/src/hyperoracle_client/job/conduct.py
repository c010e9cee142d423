"""Whether a training loop gives its job what the study needs: what it lacks is noticed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from hyperoracle_client.job.delivery.spool import OutgoingReport
from hyperoracle_client.job.notices import Notices
from hyperoracle_protocol.studies import StudyDefinition

REPORTS_WITHOUT_RETURN = 10
"""So many reports may bring no return at first: episodes may be longer than environment phases."""
SHARE_WITHOUT_RETURN = 0.05
"""And so much of the run."""
PROPOSALS_WITHOUT_REPORT = 20
PROPOSALS_WITHOUT_SIGNAL = 3
"""So many proposals may lack the strategy's signal: before the first update there is none."""

_RANKS = (("RANK", "WORLD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"))
"""Environment variables of torchrun and of Open MPI."""


class Conduct:
    """Looks at what a job's loop does. Used under the job's lock.

    Args:
        notices: told what is amiss.
        definition: the study's.
        total_env_steps: the job's planned length.
    """

    def __init__(self, notices: Notices, definition: StudyDefinition, total_env_steps: int) -> None:
        self._notices = notices
        self._kind = definition.returns.kind
        self._strategy = definition.strategy.name
        self._signal = definition.strategy.wanted_signal
        self._patience = SHARE_WITHOUT_RETURN * total_env_steps
        self._proposals = 0
        self._without_signal = 0
        self._reports = 0
        self._has_return = False
        self._env_step: int | None = None

    def begins(self) -> None:
        """A job starts in this process."""
        if (found := rank_and_size()) is not None:
            rank, size = found
            self._notices.tell(
                "distributed_rank",
                f"this is rank {rank} of {size}, and each rank's job is given values of its own: "
                "let rank 0 alone start a job, and share what it proposes with the others before "
                "each update, e.g. by torch.distributed.broadcast_object_list",
            )

    def proposes(self, signals: Mapping[str, float]) -> None:
        """The loop asks for a proposal with these signals, finite ones."""
        self._proposals += 1
        if self._reports == 0 and self._proposals >= PROPOSALS_WITHOUT_REPORT:
            self._notices.tell(
                "no_return",
                f"{self._proposals} proposals, and not one report of what they led to: call "
                "job.report after each environment phase, or nothing is learned",
            )
        if self._signal is not None and self._signal not in signals:
            self._without_signal += 1
            if self._without_signal >= PROPOSALS_WITHOUT_SIGNAL:
                self._notices.tell(
                    "signal_missing",
                    f"the strategy {self._strategy} decides by the signal {self._signal!r}, which "
                    f"{self._without_signal} proposals lacked: without it the value stays as it "
                    f"is; call job.propose(signals={{{self._signal!r}: ...}}), or choose another "
                    "strategy",
                )

    def reports(self, report: OutgoingReport) -> None:
        """The loop reports."""
        self._reports += 1
        if self._env_step is not None and report.env_step <= self._env_step:
            self._notices.tell(
                "env_step_not_rising",
                f"expected an env_step above the last report's {self._env_step}, got "
                f"{report.env_step}: it is the number of environment steps since the start of the "
                "run, not those of the phase",
            )
        self._env_step = report.env_step
        self._has_return = self._has_return or brings_return(report, self._kind)
        if self._reports >= REPORTS_WITHOUT_RETURN and report.env_step >= self._patience:
            self._tell_without_return()

    def ends(self) -> None:
        """The job is finished."""
        if self._reports:
            self._tell_without_return()

    def _tell_without_return(self) -> None:
        if self._has_return:
            return
        given = {
            "phase_return": "give phase_return",
            "custom": "give custom_return",
        }.get(self._kind, "give the returns of the episodes that ended, and see that some end")
        self._notices.tell(
            "no_return",
            f"{self._reports} reports up to env step {self._env_step}, and none brought a return "
            f"of the study's kind, {self._kind!r}: nothing is learned; {given}, or define the "
            "study by another kind of return",
        )


def brings_return(report: OutgoingReport, kind: str) -> bool:
    """Whether a report has, or had before it was dropped, a number of a study's kind of return."""
    field = {"phase_return": "phase_return", "custom": "custom_return"}.get(kind, "episode_returns")
    return getattr(report, field) not in (None, []) or field in report.dropped_returns


def rank_and_size() -> tuple[int, int] | None:
    """This process's place in a distributed run of more than one; None where there is none."""
    distributed = sys.modules.get("torch.distributed")  # never imported for this
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        rank, size = distributed.get_rank(), distributed.get_world_size()
        return (rank, size) if size > 1 else None
    for rank_name, size_name in _RANKS:
        texts = os.environ.get(rank_name, ""), os.environ.get(size_name, "")
        if all(text.isdecimal() for text in texts) and int(texts[1]) > 1:
            return int(texts[0]), int(texts[1])
    return None
