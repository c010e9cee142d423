"""What an experiment shows, and what it does not: one row for each claim."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hyperoracle_trainers.experiments.comparison import Comparison, Contest

_MARGIN = -0.10  # of a default's score
_MEMORIES_FOR_SAFETY = 50
_MEMORIES_FOR_HELP = 10
_WARM_RUNS = 16
_IMPROVEMENT = 0.8
_CHANCE = 0.5
_WORST = -0.03


@dataclass(frozen=True)
class Claim:
    """A number beside what it must exceed.

    Attributes:
        what: tasks, strategy, memory size and statistic.
        value: what was measured.
        unit: ``"score"`` or ``"probability"``.
        budget: what must be exceeded.
        ok: whether it is; None if too few memories were measured to say.
        memories: how many were.
    """

    what: str
    value: float
    unit: str
    budget: float
    ok: bool | None
    memories: int

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
            "memories": self.memories,
        }


def claims_of(comparisons: Sequence[Comparison]) -> list[Claim]:
    """Return what the comparisons with the default say of safety and, when warm, of help.

    Each bound holds on its own, at the one look for which the number of memories was chosen before:
    of twenty rows without anything behind them one is shown, and more where one looks until it is.

    Safety: the one-sided 95 % lower bound of the mean gain is above −0.10, at 50 or more memories.
    Help, after 16 or more earlier runs and where no default is tuned: the probability of
    improvement is above 0.8, and its one-sided lower bound above 0.5, at 10 or more memories.
    """
    claims = []
    for each in comparisons:
        if each.gain is None or each.improvement is None:
            continue
        where = _where(each.scope.name, each.strategy, each.earlier_runs)
        n = each.memories
        bound = float(each.gain.lower_bound)
        is_safe = bound > _MARGIN if n >= _MEMORIES_FOR_SAFETY else None
        claims.append(Claim(f"{where}: lower bound of gain", bound, "score", _MARGIN, is_safe, n))
        if (each.earlier_runs or 0) >= _WARM_RUNS and each.scope.may_help:
            for what, value, least in (
                ("probability of improvement", each.improvement.value, _IMPROVEMENT),
                ("lower bound of it", each.improvement.lower_bound, _CHANCE),
            ):
                number = float(value)
                helps = number > least if n >= _MEMORIES_FOR_HELP else None
                claims.append(Claim(f"{where}: {what}", number, "probability", least, helps, n))
    return claims


def claims_over_references(
    contests: Sequence[Contest], whole: str, with_memory: Collection[str]
) -> list[Claim]:
    """Return what the contests say of strategies with memory, over all tasks.

    Better: the one-sided 95 % lower bound of the probability of improvement is above 0.5; harmless:
    the worst task's mean gain, as measured and without any bound, is above −0.03. Both at 10 or
    more memories.

    Args:
        contests: of any scope.
        whole: name of the scope of all tasks.
        with_memory: names of strategies with memory.
    """
    claims = []
    for each in contests:
        if each.scope.name != whole or each.strategy not in with_memory:
            continue
        where = f"{_where(whole, each.strategy, each.earlier_runs)} over {each.reference}"
        bound, n = float(each.improvement.lower_bound), each.memories
        is_enough = n >= _MEMORIES_FOR_HELP
        for what, value, unit, least in (
            ("lower bound of probability of improvement", bound, "probability", _CHANCE),
            (f"worst task's measured gain ({each.worst_task})", each.worst_gain, "score", _WORST),
        ):
            ok = value > least if is_enough else None
            claims.append(Claim(f"{where}: {what}", value, unit, least, ok, n))
    return claims


def _where(scope: str, strategy: str, earlier_runs: int | None) -> str:
    after = "" if earlier_runs is None else f" after {earlier_runs} runs"
    return f"{scope}, {strategy}{after}"
