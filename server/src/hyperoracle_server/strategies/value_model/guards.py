"""When to go back to the defaults: a job whose return falls, a study whose advice does harm."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from hyperoracle_server.strategies.value_model.advantages import MAD_TO_DEVIATION
from hyperoracle_server.strategies.value_model.course import Course, EndedJob

FALL = 4.0
"""Scaled median absolute deviations below the usual change that count as a fall."""

CHANGES_NEEDED = 12
"""So many usual changes must be known before any change counts as a fall."""

FIRST_PAUSE = 8
"""Jobs that end before exploiting jobs may leave the defaults again; doubled each time."""

FallsBehind = Callable[[np.ndarray, np.ndarray], bool]
"""Whether scores of exploiting jobs (first) lie below those of controls, whenever one looks."""


def has_fallen(course: Course, others: Iterable[Course]) -> bool:
    """Whether the job's newest level lies unusually far below the one before it.

    A level is the return at a sixteenth of the job. The change is compared with those of other
    jobs at the same place and at the places beside it: it is a fall below their median less 4
    scaled MAD (1.4826 MAD).

    Args:
        course: the job's.
        others: of the study; the job's own is passed over.
    """
    place = len(course.levels) - 1
    if place < 1:
        return False
    usual = [
        other.levels[near] - other.levels[near - 1]
        for other in others
        if other is not course and other.task == course.task
        for near in (place - 1, place, place + 1)
        if 1 <= near < len(other.levels)
    ]
    if len(usual) < CHANGES_NEEDED:
        return False
    median = float(np.median(usual))
    spread = MAD_TO_DEVIATION * float(np.median(np.abs(np.array(usual) - median)))
    return spread > 0.0 and course.levels[-1] - course.levels[-2] < median - FALL * spread


class StudyGuard:
    """Watches whether exploiting jobs fall behind the controls.

    When they do, exploiting jobs stay on the defaults until `FIRST_PAUSE` further jobs have ended
    (twice as many after the second time, and so on); then both groups are compared afresh, and
    what was seen before no longer counts. Jobs are compared with those of their own task. It is
    told of the jobs in the order in which they ended, so that its state follows from their notes.

    Args:
        falls_behind: the test; it must hold whenever one looks.

    Attributes:
        trips: how often exploiting jobs fell behind.
        pause: how many jobs must still end before exploiting jobs may leave the defaults.
    """

    def __init__(self, falls_behind: FallsBehind) -> None:
        self._falls_behind = falls_behind
        self._exploit: defaultdict[str, list[float]] = defaultdict(list)  # by task
        self._control: defaultdict[str, list[float]] = defaultdict(list)
        self.trips = 0
        self.pause = 0

    @classmethod
    def told_of(cls, falls_behind: FallsBehind, jobs: Iterable[EndedJob]) -> StudyGuard:
        """A guard that was told of these jobs, in the order in which they ended."""
        guard = cls(falls_behind)
        for job in jobs:
            guard.job_ended(job)
        return guard

    def job_ended(self, job: EndedJob) -> None:
        """Take in a job that ended."""
        if self.pause:
            self.pause -= 1
            return
        if job.score is None or job.role not in ("exploit", "control"):
            return
        exploit, control = self._exploit[job.task], self._control[job.task]
        if job.role == "control":
            control.append(job.score)
        elif job.is_free:
            exploit.append(job.score)
        if self._falls_behind(np.array(exploit), np.array(control)):
            self.pause = FIRST_PAUSE * 2**self.trips
            self.trips += 1
            self._exploit.clear()
            self._control.clear()
