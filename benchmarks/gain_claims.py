"""How often `gain` claims what is not so, how often its intervals hold, how soon it sees an effect.

    python benchmarks/gain_claims.py [--studies 2000] [--jobs 60] [--json]

Studies are simulated from two distributions of scores, one of exploiting jobs and one of controls,
and compared by `hyperoracle_server.views.group_comparison`. Beside it stands the rule of earlier
releases: the percentile bootstrap of the difference of means, from 5 jobs of each on. Four tables:
one look at groups of fixed sizes without an effect, and with one; a look after every job; and how
many jobs it takes until an effect is claimed. Seeds are fixed: the same command prints the same
tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hyperoracle_server.views.confidence_sequences import (
    LEAST_JOBS,
    LEAST_JOBS_FOR_MEANS,
    mean_difference,
    probability_of_improvement,
)
from hyperoracle_server.views.group_comparison import verdicts

SIZES = ((5, 5), (10, 10), (20, 20), (40, 40), (20, 5), (5, 20), (40, 10), (80, 20), (20, 80))
CONTROL_SHARES = (0.2, 0.5, 0.8)
RESAMPLES = 1000  # of the bootstrap of earlier releases
ORDERS = 10  # orders of roles in a table of looks: the studies of each share theirs
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


class Cell(NamedTuple):
    """Distributions of exploiting jobs' and of controls' scores, and their means' difference."""

    name: str
    group: Draw
    baseline: Draw
    difference: float = 0.0


def normal(mean: float = 0.0, deviation: float = 1.0) -> Draw:
    """Scores without anything odd."""
    return lambda rng, shape: rng.normal(mean, deviation, shape)


def log_normal(factor: float = 1.0, sigma: float = 1.0) -> Draw:
    """Skewed: of the mean factor × exp(sigma² / 2)."""
    return lambda rng, shape: factor * rng.lognormal(0.0, sigma, shape)


def two_heaps(share: float, away: float, mean: float = 0.0) -> Draw:
    """Normal, but a share of the jobs lies that far away: successes above, dead jobs below."""
    return lambda rng, shape: rng.normal(mean, 1.0, shape) + away * (rng.random(shape) < share)


def one_of_two(share: float) -> Draw:
    """Success (1) or not (0): nearly all scores are tied."""
    return lambda rng, shape: (rng.random(shape) < share).astype(np.float64)


def dead(share: float, mean: float = 0.0) -> Draw:
    """Normal, but a share of the jobs has the one score of dead jobs, −100."""
    return lambda rng, shape: np.where(
        rng.random(shape) < share, -100.0, rng.normal(mean, 1.0, shape)
    )


def alike(name: str, draw: Draw) -> Cell:
    """No effect at all."""
    return Cell(name, draw, draw)


WITHOUT_EFFECT = (
    alike("normal", normal()),
    alike("t, 2 degrees", lambda rng, shape: rng.standard_t(2, shape)),
    alike("log-normal", log_normal()),
    alike("two heaps, 15 %", two_heaps(0.15, 100.0)),
    alike("dead, 15 %", dead(0.15)),
    alike("dead, 50 %", dead(0.5)),
    alike("success, 30 %", one_of_two(0.3)),
    Cell("deviation 3 : 1", normal(0.0, 3.0), normal()),
    Cell("deviation 1 : 3", normal(), normal(0.0, 3.0)),
)
"""Means and medians are equal in all of these."""

WITH_EFFECT = (
    Cell("normal, +1", normal(1.0), normal(), 1.0),
    Cell("log-normal, × 2", log_normal(2.0), log_normal(), np.exp(0.5)),
    Cell("log-normal, wider", log_normal(np.exp(-0.375)), log_normal(1.0, 0.5)),
    Cell("kills 15 %, else +1", dead(0.15, 1.0), normal(), -15.0 + 0.85),
    Cell("kills 30 % for 5 %", dead(0.3), dead(0.05), -25.0),
    Cell("kills 50 % for 15 %", dead(0.5), dead(0.15), -35.0),
    Cell("saves 15 %", normal(), dead(0.15), 15.0),
    Cell("kills 5 %", dead(0.05), normal(), -5.0),
)
"""The third has equal means, but not medians. The last is rarer than 20 jobs can show."""


@lru_cache(maxsize=256)
def _resamples(count: int, which: int) -> np.ndarray:
    """Weights of each job in each resample: float64 [jobs, resamples]."""
    drawn = np.random.default_rng((count, which)).integers(count, size=(RESAMPLES, count))
    cells = drawn + count * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(cells.ravel(), minlength=count * RESAMPLES)
    return counts.reshape(RESAMPLES, count).T / count


def bootstrap_claims(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether the rule of earlier releases claims a difference of means: bool [studies].

    Studies share their resamples: each one's claims have the same probability as with its own.
    """
    over = x @ _resamples(x.shape[1], 0) - y @ _resamples(y.shape[1], 1)
    low, high = np.quantile(over, (0.025, 0.975), axis=1)
    return np.asarray((low > 0.0) | (high < 0.0))


def claims(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether anything is claimed, "more often, but" included: bool [studies]."""
    found = verdicts(probability_of_improvement(x, y), mean_difference(x, y))
    return np.asarray(found != 0)


def true_improvement(cell: Cell) -> float:
    """The probability of improvement, from 200,000 draws of either."""
    rng = np.random.default_rng(99)
    x, y = (np.sort(draw(rng, (1, 200_000))[0]) for draw in (cell.group, cell.baseline))
    below = np.searchsorted(y, x, "left") + np.searchsorted(y, x, "right")
    return float(below.mean() / (2 * len(y)))


def one_look(
    cell: Cell, sizes: Sequence[tuple[int, int]], studies: int, *, before: bool = True
) -> list[dict[str, object]]:
    """Of groups of each size: shares of claims, and of intervals that contain the truth."""
    rng = np.random.default_rng(1)
    improvement = 0.5 if cell in WITHOUT_EFFECT else true_improvement(cell)
    found = []
    for n, m in sizes:
        x, y = cell.group(rng, (studies, n)), cell.baseline(rng, (studies, m))
        often, mean = probability_of_improvement(x, y), mean_difference(x, y)
        covers = (often.low <= improvement) & (improvement <= often.high)
        covers_mean = (mean.low <= cell.difference) & (cell.difference <= mean.high)
        speaks = min(n, m) >= LEAST_JOBS_FOR_MEANS
        found.append(
            {
                "cell": cell.name,
                "jobs": [n, m],
                "claims": float((verdicts(often, mean) != 0).mean()),
                "claims_before": float(bootstrap_claims(x, y).mean()) if before else None,
                "probability_covered": float(covers.mean()),
                "difference_covered": float(covers_mean.mean()) if speaks else None,
            }
        )
    return found


def first_claims(
    cell: Cell, share: float, studies: int, jobs: int, *, before: bool = False
) -> np.ndarray:
    """After which job each study first claims anything, looked at after every job.

    Args:
        cell: what scores are drawn from.
        share: of controls; each job is one with this probability.
        studies: how many.
        jobs: in each study.
        before: ask the rule of earlier releases.

    Returns:
        int64 [studies]; jobs + 1 where nothing is claimed.
    """
    rng = np.random.default_rng(2)
    found = []
    for part in np.array_split(np.arange(studies), ORDERS):
        control = rng.random(jobs) < share
        x, y = (draw(rng, (len(part), jobs)) for draw in (cell.group, cell.baseline))
        first = np.full(len(part), jobs + 1)
        for seen in range(1, jobs + 1):
            own, other = x[:, :seen][:, ~control[:seen]], y[:, :seen][:, control[:seen]]
            if min(own.shape[1], other.shape[1]) >= LEAST_JOBS:
                claimed = bootstrap_claims(own, other) if before else claims(own, other)
                first = np.where(claimed, np.minimum(first, seen), first)
        found.append(first)
    return np.concatenate(found)


def looks(cell: Cell, studies: int, jobs: int) -> dict[str, object]:
    """Shares of studies that claim anything at any look, by share of controls."""
    return {
        "cell": cell.name,
        "claims": [
            float((first_claims(cell, share, studies, jobs) <= jobs).mean())
            for share in CONTROL_SHARES
        ],
        "claims_before": float(
            (first_claims(cell, CONTROL_SHARES[1], studies, jobs, before=True) <= jobs).mean()
        ),
    }


def jobs_needed(shift: float, share: float, studies: int) -> dict[str, object]:
    """How many jobs until half and until 80 % of the studies claim a shift of normal scores."""
    cell, most = Cell("", normal(shift), normal()), 200
    found: dict[str, object] = {"shift": shift, "share_of_controls": share}
    for name, before in (("jobs", False), ("jobs_before", True)):
        first = first_claims(cell, share, studies // 4, most, before=before)
        found[name] = [int(each) for each in np.quantile(first, (0.5, 0.8))]
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tables(found: dict[str, list], jobs: int) -> str:
    """What was found, for people."""
    parts = []
    for what, its in (("no effect", "without_effect"), ("an effect", "with_effect")):
        for of, first, second, sign in (
            ("claims before → now", "claims_before", "claims", " → "),
            ("covered: P(better), difference", "probability_covered", "difference_covered", ", "),
        ):
            rows = [
                [cell[0]["cell"], *(sign.join(map(_share, (e[first], e[second]))) for e in cell)]
                for cell in found[its]
            ]
            parts.append(table([f"{what}; {of}", *(f"{n} v {m}" for n, m in SIZES)], rows))
    head = [f"claims at any of {jobs} looks", *(f"{s:.0%} controls" for s in CONTROL_SHARES)]
    rows = [
        [each["cell"], *map(_share, (*each["claims"], each["claims_before"]))]
        for each in found["looks"]
    ]
    parts.append(table([*head, "before, 50% controls"], rows))
    head = ["shift in deviations", "controls", "half claim after", "80 % after"]
    rows = [
        [f"{each['shift']:g}", f"{each['share_of_controls']:.0%}", *map(str, each["jobs"]),
         *map(str, each["jobs_before"])]
        for each in found["jobs_needed"]
    ]  # fmt: skip
    parts.append(table([*head, "before: half", "before: 80 %"], rows))
    return "\n".join(parts)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=2000, help="simulated in each cell")
    parser.add_argument("--jobs", type=int, default=60, help="of a study that is looked at")
    parser.add_argument("--json", action="store_true", help="print JSON rather than tables")
    args = parser.parse_args()
    found: dict[str, list] = {
        "without_effect": [one_look(cell, SIZES, args.studies) for cell in WITHOUT_EFFECT],
        "with_effect": [one_look(cell, SIZES, args.studies) for cell in WITH_EFFECT],
        "looks": [looks(cell, args.studies, args.jobs) for cell in WITHOUT_EFFECT],
        "jobs_needed": [
            jobs_needed(shift, share, args.studies) for shift in (1.0, 2.0) for share in (0.2, 0.5)
        ],
    }
    print(json.dumps(found) if args.json else tables(found, args.jobs))


if __name__ == "__main__":
    main()
