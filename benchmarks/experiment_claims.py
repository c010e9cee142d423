"""How often an experiment's claims are false, and its intervals hold: "safe" and "better".

    python benchmarks/experiment_claims.py [--studies 2000] [--json]

Safe is claimed where the one-sided 95 % lower bound of the mean gain is above −0.10; here the true
mean gain is −0.10. Better is claimed where that bound of the probability of improvement is above ½;
here both samples are of one distribution, or of two with the same median. Beside it stands the
percentile bootstrap of earlier releases. Several tasks are of one kind each. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from hyperoracle_trainers.experiments.statistics import improvement, mean_of_bounded

MARGIN = -0.10
RESAMPLES = 500
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def disasters(share: float, loss: float) -> Draw:
    """Gains near one value, but for a share of runs that lose much; their mean is the margin."""
    return lambda rng, shape: (
        MARGIN + share * loss - loss * (rng.random(shape) < share) + rng.normal(0.0, 0.05, shape)
    )


GAINS: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(MARGIN, 0.3, shape),
    "t, 2 degrees": lambda rng, shape: MARGIN + 0.2 * rng.standard_t(2, shape),
    "skewed upwards": lambda rng, shape: MARGIN + 0.2 * (rng.lognormal(size=shape) - np.exp(0.5)),
    "skewed downwards": lambda rng, shape: MARGIN - 0.2 * (rng.lognormal(size=shape) - np.exp(0.5)),
    "5 % lose 1": disasters(0.05, 1.0),
    "10 % lose 1": disasters(0.10, 1.0),
    "20 % lose 0.5": disasters(0.20, 0.5),
}
SCORES: dict[str, tuple[Draw, Draw]] = {
    "normal": (lambda rng, shape: rng.normal(size=shape),) * 2,
    "log-normal": (lambda rng, shape: rng.lognormal(size=shape),) * 2,
    "success, 30 %": (lambda rng, shape: (rng.random(shape) < 0.3).astype(float),) * 2,
    "deviation 3 : 1": (
        lambda rng, shape: rng.normal(0.0, 3.0, shape),
        lambda rng, shape: rng.normal(size=shape),
    ),
    "deviation 1 : 3": (
        lambda rng, shape: rng.normal(size=shape),
        lambda rng, shape: rng.normal(0.0, 3.0, shape),
    ),
}


@lru_cache(maxsize=64)
def weights(count: int, which: int) -> np.ndarray:
    """Of each replicate in each resample: float64 [resamples, replicates]."""
    rng = np.random.default_rng((count, which))
    return rng.multinomial(count, np.full(count, 1.0 / count), RESAMPLES) / count


def of_gain(draw: Draw, memories: int, tasks: int, studies: int) -> dict[str, float]:
    """Shares of false claims, now and before, and of intervals that contain the margin."""
    rng = np.random.default_rng(1)
    claims, before, covered = 0, 0, 0
    for _ in range(studies):
        gains = draw(rng, (tasks, memories))
        found = mean_of_bounded(list(gains), -1.0, 1.0, rng, RESAMPLES)
        claims += float(found.lower_bound) > MARGIN
        covered += float(found.low) <= MARGIN <= float(found.high)
        over = np.mean([weights(memories, k) @ each for k, each in enumerate(gains)], axis=0)
        before += np.quantile(over, 0.05) > MARGIN
    return {"before": before / studies, "now": claims / studies, "covered": covered / studies}


def of_improvement(
    draws: tuple[Draw, Draw], memories: tuple[int, int], tasks: int, studies: int
) -> dict[str, float]:
    """The same of the probability of improvement, which is ½."""
    rng = np.random.default_rng(2)
    claims, before, covered = 0, 0, 0
    for _ in range(studies):
        ours, theirs = (
            draw(rng, (tasks, count)) for draw, count in zip(draws, memories, strict=True)
        )
        found = improvement(list(zip(ours, theirs, strict=True)))
        claims += float(found.lower_bound) > 0.5
        covered += float(found.low) <= 0.5 <= float(found.high)
        wins = (np.sign(ours[:, :, None] - theirs[:, None, :]) + 1.0) / 2.0
        over = np.mean(
            [
                ((weights(memories[0], 2 * k) @ its) * weights(memories[1], 2 * k + 1)).sum(axis=1)
                for k, its in enumerate(wins)
            ],
            axis=0,
        )
        before += np.quantile(over, 0.05) > 0.5
    return {"before": before / studies, "now": claims / studies, "covered": covered / studies}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=2000, help="simulated in each cell")
    parser.add_argument("--json", action="store_true", help="print JSON rather than tables")
    args = parser.parse_args()
    gain = {
        f"{name}; {tasks} task{'s' * (tasks > 1)}, {memories} memories": of_gain(
            draw, memories, tasks, args.studies
        )
        for tasks, memories in ((1, 10), (1, 50), (3, 50))
        for name, draw in GAINS.items()
    }
    better = {
        f"{name}; {tasks} task{'s' * (tasks > 1)}, {n} v {m} memories": of_improvement(
            draws, (n, m), tasks, args.studies
        )
        for tasks, n, m in ((1, 10, 10), (1, 10, 20), (1, 50, 50), (3, 10, 10))
        for name, draws in SCORES.items()
    }
    if args.json:
        print(json.dumps({"safe": gain, "better": better}))
        return
    for what, found in (("safe", gain), ("better", better)):
        print(f"| falsely called {what} | before | now | interval contains the truth |")
        print("|---|---|---|---|")
        for name, its in found.items():
            print(f"| {name} | {its['before']:.3f} | {its['now']:.3f} | {its['covered']:.3f} |")
        print()


if __name__ == "__main__":
    main()
