"""The one account of how a job ended and of what it counts for.

Choice, gain, regret, guards and diagnosis all go by it, so that nothing that fails is left out of
one and seen by another. `docs/explanation/what-a-job-counts-for.md` has the reasons.

A job's *score* is the mean return over its planned env steps. What it did not come to, and what was
no finite number, counts too, by how the job ended. The *floor* is the worst return that any job of
its task ever brought.

=============  ============================================  ===================================
end            what it is                                    what the missing part counts with
=============  ============================================  ===================================
`whole`        came to its planned end (9/10 of it)          nothing: it is scored by what it ran
`reached`      ended before, well: it was good enough        its last return (`good_enough`)
`interrupted`  stopped before                                its last return, and what others
                                                             gained from there to the end
`lapsed`       was not heard of any more                     the floor
`failed`       training broke down                           the floor, for the whole of it
`diverged`     its returns ended as no finite numbers        the floor, for the whole of it
=============  ============================================  ===================================

Env steps whose return was no finite number count with the floor in every case.

Pure: knows no clock, no store, no hyper-agent.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from hyperoracle_server.strategies.evidence.exposure import Exposure
from hyperoracle_server.strategies.evidence.learning_curve import LEVELS, LearningCurve

EndReason = Literal["completed", "reached", "interrupted", "failed", "lapsed"]
"""Why a job ended: as its client said, or `lapsed`: nothing was heard of it any more."""

EndKind = Literal["whole", "reached", "interrupted", "lapsed", "failed", "diverged"]

WHOLE_FROM = 0.9
"""This share of its planned env steps makes a job whole: training loops end at a phase's end."""

SHOWS_SOMETHING_FROM = 0.25
"""An interrupted job that ran less of its planned env steps has no score: it showed too little."""


class Ending(NamedTuple):
    """How a job ended, and what it counts for; greater is better. Its JSON is a list.

    Attributes:
        kind: see the table above.
        score: mean return over the planned env steps; None where nothing is known.
        final: mean return over the last tenth of them; None where nothing is known.
        floor: the worst return of the job's task when it ended; None where none was known.
        shown: the share of its plan that the job says something about, in [0, 1].
        last: what counts for the missing part of a job that was good enough; None of another.
    """

    kind: EndKind
    score: float | None
    final: float | None
    floor: float | None
    shown: float
    last: float | None = None

    @property
    def is_dead(self) -> bool:
        """Whether the job was lost: it broke down, diverged, or fell silent."""
        return self.kind in ("failed", "diverged", "lapsed")


def ending_of(
    curve: LearningCurve,
    reason: EndReason,
    env_step: int,
    floor: float | None,
    others: Sequence[LearningCurve] = (),
) -> Ending:
    """What a job counts for that ends now.

    Args:
        curve: its returns.
        reason: why it ended.
        env_step: env steps made, as far as the oracle was told.
        floor: the worst return of the job's task, its own included; None where there is none.
        others: curves of the task's other jobs that ended, for what is usual.

    Replacing a return by a lost one, or ending a job as `failed` or `lapsed`, never makes its score
    greater, the floor being what it is; ending it as `reached` at its greatest return never makes
    it less.
    """
    progress = max(env_step, curve.env_step) / curve.planned_env_steps
    kind = _kind(curve, reason, progress)
    if floor is None:
        floor = curve.least
    shown = min(1.0, progress) if kind == "interrupted" else 1.0
    if floor is None:  # no job of the task ever brought a return: nothing can be said
        return Ending(kind, None, None, None, shown)
    if kind in ("failed", "diverged"):
        return Ending(kind, floor, floor, floor, 1.0)
    if kind == "lapsed":
        score = curve.mean_return(floor, missing=floor)
        return Ending(kind, score, curve.final_return(floor, missing=floor), floor, 1.0)
    if not curve.is_known or (kind == "interrupted" and progress < SHOWS_SOMETHING_FROM):
        return Ending(kind, None, None, floor, 0.0 if kind != "interrupted" else shown)
    missing = None
    if kind == "reached":
        missing = curve.good_enough
    elif kind == "interrupted" and curve.newest is not None:
        missing = curve.newest + _usual_gain(len(curve.levels), others)
    score = curve.mean_return(floor, missing)
    final = curve.final_return(floor, missing)
    return Ending(kind, score, final, floor, shown, missing if kind == "reached" else None)


def _kind(curve: LearningCurve, reason: EndReason, progress: float) -> EndKind:
    if curve.ends_lost:
        return "diverged"
    if reason in ("failed", "lapsed"):
        # What goes wrong after the planned end (a plot, an upload) is not training's.
        return "whole" if progress >= 1.0 else reason
    if progress >= 1.0 or (progress >= WHOLE_FROM and reason != "reached"):
        return "whole"
    # Completed before its end, by whoever decides that: good enough.
    return "interrupted" if reason == "interrupted" else "reached"


def _usual_gain(place: int, others: Sequence[LearningCurve]) -> float:
    """By how much the mean return of the rest exceeds that at a place of the job, usually.

    Args:
        place: sixteenths of the planned env steps that the job came to.
        others: curves; those that came to the end without losing returns count.

    Returns:
        The median over them; 0 where there is none, or the place is the beginning.
    """
    whole = [c.levels for c in others if len(c.levels) == LEVELS and not c.lost_weight]
    if not whole or not 0 < place < LEVELS:
        return 0.0
    return statistics.median(statistics.fmean(each[place:]) - each[place - 1] for each in whole)


@dataclass
class JobAccount:
    """What is kept of a job for its account.

    Attributes:
        curve: its returns; None of a job that began under a release that kept none.
        exposure: for how long it had which values.
        ending: how it ended; None while it runs.
    """

    curve: LearningCurve | None
    exposure: Exposure = field(default_factory=Exposure)
    ending: Ending | None = None

    def end(
        self, reason: EndReason, env_step: int, floor: float | None, others: Sequence[LearningCurve]
    ) -> Ending:
        """Settle what the job counts for, see `ending_of`."""
        if self.curve is None:
            kinds: dict[EndReason, EndKind] = {"completed": "whole"}
            self.ending = Ending(kinds.get(reason, "interrupted"), None, None, None, 0.0)
        else:
            self.ending = ending_of(self.curve, reason, env_step, floor, others)
            if self.ending.is_dead and not self.exposure.decided:
                # Nothing was decided for it: it says nothing of any decision.
                return self.say_nothing()
        return self.ending

    def say_nothing(self) -> Ending:
        """Leave the job that ended out of whatever compares jobs; how it ended stays said."""
        assert self.ending is not None, "it ended"
        self.ending = self.ending._replace(score=None, final=None, shown=0.0)
        return self.ending

    def dump(self) -> str:
        """As JSON, for the job's row."""
        return json.dumps({
            "curve": None if self.curve is None else self.curve.dump(),
            "exposure": self.exposure.dump(),
            "ending": self.ending,
        })  # fmt: skip

    @classmethod
    def load(cls, planned_env_steps: int, dumped: str | None, sign: float) -> Self:
        """Take `dump`'s JSON back, or the sums of a job of schema 0007.

        Args:
            planned_env_steps: the job's planned length.
            dumped: the JSON; None of a job that began under a release that kept nothing.
            sign: −1 where less is better in the study.

        Raises:
            ValueError, TypeError, KeyError: it did not write this.
        """
        if dumped is None:
            return cls(None)
        if dumped.startswith("["):
            return cls(LearningCurve.load_first_form(planned_env_steps, dumped, sign))
        found = json.loads(dumped)
        curve, ending = found["curve"], found["ending"]
        return cls(
            None if curve is None else LearningCurve.load(planned_env_steps, curve),
            Exposure.load(found["exposure"]),
            None if ending is None else Ending(*ending),
        )
