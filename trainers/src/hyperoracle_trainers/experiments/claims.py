"""What an experiment shows, and what it does not: one row for each claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hyperoracle_trainers.experiments.comparison import Comparison

_MARGIN = -0.10  # of a default's score
_MEMORIES_FOR_SAFETY = 50
_MEMORIES_FOR_HELP = 10
_WARM_RUNS = 16
_IMPROVEMENT = 0.8
_CHANCE = 0.5


@dataclass(frozen=True)
class Claim:
    """A number beside what it must exceed.

    Attributes:
        what: task, strategy, memory size and statistic.
        value: what was measured.
        unit: ``"score"`` or ``"probability"``.
        budget: what must be exceeded.
        ok: whether it is; None if too few memories were measured to say.
    """

    what: str
    value: float
    unit: str
    budget: float
    ok: bool | None

    def row(self) -> dict[str, str | float | bool | None]:
        """Return the claim as a row of a benchmark."""
        return {
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "floor": None,
            "ratio": None,
            "budget": self.budget,
            "ok": self.ok,
        }


def claims_of(comparisons: Sequence[Comparison]) -> list[Claim]:
    """Return what the comparisons with the default say of safety and, when warm, of help.

    Safety: the one-sided 95 % lower bound of the mean gain is above −0.10, at 50 or more memories.
    Help, after 16 or more earlier runs: the probability of improvement is above 0.8, and its
    one-sided lower bound above 0.5, at 10 or more memories.
    """
    claims = []
    for each in comparisons:
        if each.gain is None or each.improvement is None:
            continue
        after = "" if each.earlier_runs is None else f" after {each.earlier_runs} runs"
        where = f"{each.task or 'all tasks'}, {each.strategy}{after}"
        bound = float(each.gain.lower_bound)
        is_safe = bound > _MARGIN if each.memories >= _MEMORIES_FOR_SAFETY else None
        claims.append(Claim(f"{where}: lower bound of gain", bound, "score", _MARGIN, is_safe))
        if each.earlier_runs is not None and each.earlier_runs >= _WARM_RUNS:
            for what, value, least in (
                ("probability of improvement", each.improvement.value, _IMPROVEMENT),
                ("lower bound of it", each.improvement.lower_bound, _CHANCE),
            ):
                number = float(value)
                helps = number > least if each.memories >= _MEMORIES_FOR_HELP else None
                claims.append(Claim(f"{where}: {what}", number, "probability", least, helps))
    return claims
