"""A bandit with clustered arms: which hyperparameter to touch, and then which value of it.

Source: Yuan et al., ULTHO: Ultra-Lightweight yet Efficient Hyperparameter Optimization in Deep
Reinforcement Learning, ICCV 2025, read beside its published code
(https://github.com/yuanmingqi/ULTHO). As there: a count is of all plays, not of those in a window;
the value of a cluster is the mean of a window of its own, whatever the arm, that of an arm the mean
of the arm's; the bonus of an arm takes t from its cluster alone; the coefficient multiplies the
bonus as it is. Otherwise than there:

- A return goes to the arm that was played before it was collected; there to the arm that is chosen
  after it.
- An option without a reward comes first. There it has the value 0 and a count of 1, which suits
  rewards clipped to a few units and value targets near 0; in the units of a return such as 200 the
  first arm played would stay the best for ever. The setting `untried` gives it back ("zero").
- Ties are broken by chance, there by order.
- The reward is the study's return; there it is the mean of the rollout's value targets.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from hyperoracle_server.strategies.base import HyperAgent
from hyperoracle_server.strategies.decisions import Decision
from hyperoracle_server.strategies.notes import check, check_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from hyperoracle_protocol.strategies import BanditStrategy, UntriedSetting
    from hyperoracle_server.strategies.base import Given
    from hyperoracle_server.strategies.decisions import MemoryEffect, Moment, Outcome
    from hyperoracle_server.strategies.evidence.exposure import Avoided
    from hyperoracle_server.strategies.grid import HyperActionGrid


MAX_OPEN = 1024
"""Decisions of one job that may wait for their reward; past it the earliest gets none."""


@dataclass
class Plays:
    """What is noted of a job. A cluster is a hyperparameter, an arm one of its bins.

    Attributes:
        bins: in force, one per hyperparameter; empty before the first decision.
        open: (sequence, cluster, arm) of decisions whose reward has not come, in order.
        rewards: per cluster and arm the newest rewards, oldest first, at most the window's length.
        counts: per cluster and arm how many rewards came.
        cluster_rewards: per cluster the newest rewards, whatever the arm, oldest first.
    """

    bins: list[int] = field(default_factory=list)
    open: list[tuple[int, int, int]] = field(default_factory=list)
    rewards: list[list[list[float]]] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)
    cluster_rewards: list[list[float]] = field(default_factory=list)


def upper_confidence_bounds(
    windows: Sequence[Sequence[float]],
    counts: Sequence[int],
    coefficient: float,
    untried: UntriedSetting = "first",
) -> list[float]:
    """Sliding-window UCB: mean of the window + c √(ln t / n), infinite where n = 0.

    Args:
        windows: per option its newest rewards.
        counts: per option n, how many rewards it ever got; their sum is t.
        coefficient: c ≥ 0.
        untried: with `zero` all n and t begin at 1, and the mean of an empty window is 0.
    """
    total = sum(counts)
    if untried == "zero":
        return [
            math.fsum(window) / max(len(window), 1)
            + coefficient * math.sqrt(math.log(total + 1) / (count + 1))
            for window, count in zip(windows, counts, strict=True)
        ]
    return [
        math.fsum(window) / len(window) + coefficient * math.sqrt(math.log(total) / count)
        if count
        else math.inf
        for window, count in zip(windows, counts, strict=True)
    ]


class BanditAgent(HyperAgent[Plays]):
    """At each decision the cluster of the greatest bound, and in it the arm of the greatest bound.

    The chosen hyperparameter takes the arm's value; the others keep what the job last had,
    at first the defaults. The reward is the return that followed the decision, as it is: the
    coefficient is in units of the return. Options without a reward come first (unless `untried`
    says otherwise), those with the fewest decisions under way before the others; ties are broken by
    chance.

    Each job is a bandit of its own, as in the source: the returns of one learning curve are
    compared with each other only, and nothing passes from job to job. A `control` job gets the
    default; every other role plays. Arms that jobs of the study died of are not played.

    Args:
        grid: the joint hyper-actions.
        strategy: the settings.
    """

    why_explored = "several arms were level, untried or with the same bound: chance chose"
    why_chosen = (
        "the arm of the greatest upper confidence bound, in the hyperparameter of the greatest"
    )

    def __init__(self, grid: HyperActionGrid, strategy: BanditStrategy) -> None:
        super().__init__(Plays)
        self._grid = grid
        self._strategy = strategy

    @classmethod
    def of(cls, given: Given) -> Self:
        """With the study's settings."""
        return cls(given.grid, given.strategy)

    def decide_seconds(self, job_id: int, signature: str) -> float:
        """Every reward that is kept is looked at, and written down."""
        del signature
        plays = self._jobs.get(job_id)
        return 0.0 if plays is None else 2e-6 * sum(map(len, plays.cluster_rewards))

    def learn_seconds(self, job_id: int, signature: str, outcomes: int) -> float:
        """As deciding."""
        del outcomes
        return self.decide_seconds(job_id, signature)

    def decide(self, moment: Moment, rng: np.random.Generator) -> Decision:
        """Play an arm, and remember which."""
        if moment.role == "control":
            return Decision(self._grid.default_joint_index)
        plays = self._jobs.of(moment.job_id)
        if not plays.bins:
            self._begin(plays)
        avoided = moment.avoided or None
        if avoided is not None:
            plays.bins = [
                default if off[chosen] else chosen
                for chosen, default, off in zip(
                    plays.bins, self._grid.default_bins, avoided.bins, strict=True
                )
            ]
        chances = self._chances(plays, avoided)
        cluster, arm = list(chances)[int(rng.choice(len(chances), p=list(chances.values())))]
        bins = _with_bin(plays.bins, cluster, arm)
        # Two arms may lead to the same hyper-action: of each cluster that whose value is in force.
        propensity = math.fsum(
            chance for (c, a), chance in chances.items() if _with_bin(plays.bins, c, a) == bins
        )
        plays.bins = bins
        plays.open.append((moment.sequence, cluster, arm))
        del plays.open[:-MAX_OPEN]
        return Decision(
            self._grid.joint_index(bins),
            explored=len(chances) > 1,
            propensity=min(1.0, propensity),
        )

    def _begin(self, plays: Plays) -> None:
        arms = self._grid.bins_per_hyperparameter
        plays.bins = list(self._grid.default_bins)
        plays.rewards = [[[] for _ in range(count)] for count in arms]
        plays.counts = [[0] * count for count in arms]
        plays.cluster_rewards = [[] for _ in arms]

    def _chances(self, plays: Plays, avoided: Avoided | None) -> dict[tuple[int, int], float]:
        """The probability of each (cluster, arm) that may be played now."""
        coefficient, untried = self._strategy.coefficient, self._strategy.untried
        under_way = Counter((cluster, arm) for _, cluster, arm in plays.open)
        clusters = _best(
            upper_confidence_bounds(
                plays.cluster_rewards,
                [sum(counts) for counts in plays.counts],
                coefficient,
                untried,
            ),
            [
                sum(under_way[cluster, arm] for arm in range(len(counts)))
                for cluster, counts in enumerate(plays.counts)
            ],
        )
        chances = {}
        for cluster in clusters:
            counts = plays.counts[cluster]
            open_arms = [
                arm
                for arm in range(len(counts))
                if avoided is None or not avoided.bins[cluster][arm]
            ]
            chosen = _best(
                upper_confidence_bounds(
                    [plays.rewards[cluster][arm] for arm in open_arms],
                    [counts[arm] for arm in open_arms],
                    coefficient,
                    untried,
                ),
                [under_way[cluster, arm] for arm in open_arms],
            )
            arms = [open_arms[position] for position in chosen]
            chances.update({(cluster, arm): 1.0 / len(clusters) / len(arms) for arm in arms})
        return chances

    def learn(self, outcome: Outcome) -> MemoryEffect | None:
        """Credit the arm that this decision played. Outcomes come in order of their sequences."""
        plays = self._jobs.of(outcome.job_id)
        window = self._strategy.window
        for sequence, cluster, arm in plays.open:
            if sequence == outcome.sequence:
                plays.counts[cluster][arm] += 1
                for rewards in (plays.rewards[cluster][arm], plays.cluster_rewards[cluster]):
                    rewards.append(outcome.hyper_return)
                    del rewards[:-window]
        # Earlier ones that are still open were not applied, or their return is not known.
        plays.open = [play for play in plays.open if play[0] > outcome.sequence]
        return None

    def check_note(self, note: Plays) -> None:
        """Plays of this study's arms, each reward with its count."""
        arms = self._grid.bins_per_hyperparameter
        if note.bins:
            check(len(note.bins) == len(arms), "its bins")
            check(all(b < count for b, count in zip(note.bins, arms, strict=True)), "its bins")
            check(len(note.cluster_rewards) == len(arms), "its clusters")
            check(bool(note.rewards) and bool(note.counts), "its arms")
        check_shape(note.rewards, self._grid)
        check_shape(note.counts, self._grid)
        for _, cluster, arm in note.open:
            check(cluster < len(arms) and arm < arms[cluster], "its open plays")
        for rewards, counts in zip(note.rewards, note.counts, strict=True):
            for window, count in zip(rewards, counts, strict=True):
                check(bool(window) == bool(count), "rewards without counts")
        for window, counts in zip(note.cluster_rewards, note.counts, strict=True):
            check(bool(window) == bool(sum(counts)), "rewards without counts")


def _with_bin(bins: Sequence[int], position: int, chosen: int) -> list[int]:
    return [*bins[:position], chosen, *bins[position + 1 :]]


def _best(bounds: Sequence[float], under_way: Sequence[int]) -> list[int]:
    """The options of the greatest bound; of those without a reward the least under way."""
    greatest = max(bounds)
    best = [option for option, bound in enumerate(bounds) if bound == greatest]
    if math.isinf(greatest):
        fewest = min(under_way[option] for option in best)
        best = [option for option in best if under_way[option] == fewest]
    return best
