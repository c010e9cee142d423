"""Whether a memory's keys mean the same in every job: two figures. Pure NumPy.

`shareability` asks of records (key, job, value), whatever strategy left them:

1. Do the nearest neighbours of a record come from other jobs about as often as chance would have
   it? Keys that find only their own job cannot carry anything from one job to the next.
2. Does the memory of the other jobs predict a held-out job's values better than a constant does?
   Neighbours from other jobs are worth nothing if what happened there says nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hyperoracle_server.strategies.evidence.kernel import weighted_values

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

MOST_RECORDS = 5000
"""More records than this are thinned at random: the time grows with their square."""

RESAMPLES = 2000
"""Of the bootstrap."""

_BLOCK_ROWS = 256  # bounds the distance matrix: 10 MB at MOST_RECORDS


@dataclass(frozen=True, slots=True)
class SharedRecords:
    """What jobs left in one space of keys.

    Attributes:
        keys: finite, float64 [records, key_size]; of one record, whatever its job, as the
            strategy compares them.
        jobs: a number for each job, int64 [records].
        values: what followed, finite, float64 [records]; of no record a blend with others'.
        what: names the keys, for people.
    """

    keys: Float[np.ndarray, "records key_size"]
    jobs: Int[np.ndarray, " records"]
    values: Float[np.ndarray, " records"]
    what: str


class BootstrapInterval(NamedTuple):
    """A figure and its 95 % interval by cluster bootstrap over jobs."""

    value: float
    low: float
    high: float


class Shareability(NamedTuple):
    """The figures of some records.

    Attributes:
        records: how many were compared, after thinning.
        from_other_jobs: share of the nearest neighbours that other jobs left, in [0, 1].
        expected_by_chance: that share if neighbours were drawn from all records, in [0, 1].
        ratio: the first over the second.
        skill: 1 − squared error of the prediction / squared error of a constant, ≤ 1; None where
            all values are equal.
        jobs_better: share of the jobs on which the prediction beats the constant; None as above.
    """

    records: int
    from_other_jobs: float
    expected_by_chance: float
    ratio: BootstrapInterval
    skill: BootstrapInterval | None
    jobs_better: BootstrapInterval | None


def shareability(
    records: SharedRecords,
    neighbours: int,
    rng: np.random.Generator,
    *,
    most_records: int = MOST_RECORDS,
) -> Shareability | None:
    """Compare each record with its nearest ones, and each job with all others.

    A record's neighbours are the nearest of all other records. A held-out job's values are
    predicted by the kernel mean (Eq. 3) of each record's nearest neighbours among the other
    jobs' records; the constant is the mean over the other jobs' records. Intervals resample whole
    jobs; each job's neighbours stay what they are.

    Args:
        records: of any number of jobs.
        neighbours: K, ≥ 1; where there are fewer, all there are.
        rng: thins the records, breaks ties, resamples the jobs.
        most_records: more are thinned to this number.

    Returns:
        The figures, or None where fewer than two jobs left records.

    Source: K nearest neighbours and their mean as in Le et al., Episodic Policy Gradient Training,
    AAAI 2022, Eq. 3.
    """
    # In random order: which of equally near records is a neighbour must not depend on the job.
    order = rng.permutation(len(records.jobs))[:most_records]
    _, jobs = np.unique(records.jobs[order], return_inverse=True)
    keys, values = records.keys[order].astype(np.float64), records.values[order]
    count = len(jobs)
    sizes = np.bincount(jobs)
    if len(sizes) < 2:
        return None
    other_share, predicted = _compared(keys - keys.mean(axis=0), jobs, values, neighbours)
    chance = ((count - sizes) / (count - 1))[jobs]
    resampled = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
    shares, chances = np.bincount(jobs, other_share), np.bincount(jobs, chance)
    skill = jobs_better = None
    if np.ptp(values) > 0:
        constant = ((values.sum() - np.bincount(jobs, values)) / (count - sizes))[jobs]
        errors = np.bincount(jobs, np.square(values - predicted))
        errors_of_constant = np.bincount(jobs, np.square(values - constant))
        skill = _ratio(errors_of_constant - errors, errors_of_constant, resampled)
        better = (errors < errors_of_constant).astype(np.float64)
        jobs_better = _ratio(better, np.ones(len(sizes)), resampled)
    return Shareability(
        records=count,
        from_other_jobs=float(other_share.mean()),
        expected_by_chance=float(chance.mean()),
        ratio=_ratio(shares, chances, resampled),
        skill=skill,
        jobs_better=jobs_better,
    )


def _compared(
    keys: Float[np.ndarray, "records key_size"],
    jobs: Int[np.ndarray, " records"],
    values: Float[np.ndarray, " records"],
    neighbours: int,
) -> tuple[Float[np.ndarray, " records"], Float[np.ndarray, " records"]]:
    """For each record the share of neighbours from other jobs, and the others' prediction."""
    count = len(keys)
    norms = np.einsum("ij,ij->i", keys, keys)
    other_share, predicted = np.empty(count), np.empty(count)
    for start in range(0, count, _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, count))
        squared = norms[rows, None] + norms - 2.0 * (keys[rows] @ keys.T)  # (rows, records)
        squared[np.arange(len(rows)), rows] = np.inf
        own = jobs[rows, None] == jobs
        nearest = _nearest(squared, min(neighbours, count - 1))
        other_share[rows] = 1.0 - np.take_along_axis(own, nearest, axis=1).mean(axis=1)
        squared[own] = np.inf
        nearest = _nearest(squared, min(neighbours, count - 1))
        predicted[rows] = _predicted(keys, values, rows, nearest, own)
    return other_share, predicted


def _nearest(
    squared: Float[np.ndarray, "rows records"], count: int
) -> Int[np.ndarray, "rows count"]:
    """Columns of the `count` least entries of each row, in no order."""
    if count == squared.shape[1]:
        return np.broadcast_to(np.arange(count), squared.shape)
    return np.argpartition(squared, count - 1, axis=1)[:, :count]


def _predicted(
    keys: Float[np.ndarray, "records key_size"],
    values: Float[np.ndarray, " records"],
    rows: Int[np.ndarray, " rows"],
    nearest: Int[np.ndarray, "rows neighbours"],
    own: Bool[np.ndarray, "rows records"],
) -> Float[np.ndarray, " rows"]:
    """The kernel mean of the nearest records of other jobs (Eq. 3)."""
    # By differences: the kernel feels the rounding of the expanded square where keys are equal.
    squared = np.square(keys[rows, None] - keys[nearest]).sum(axis=2)  # (rows, neighbours)
    squared[np.take_along_axis(own, nearest, axis=1)] = np.inf  # fewer others than neighbours
    order = np.argsort(squared, axis=1, kind="stable")
    means, _ = weighted_values(
        np.take_along_axis(squared, order, axis=1).T,
        values[np.take_along_axis(nearest, order, axis=1)].T,
    )
    return means


def _ratio(
    above: Float[np.ndarray, " jobs"],
    below: Float[np.ndarray, " jobs"],
    resampled: Int[np.ndarray, "resamples jobs"],
) -> BootstrapInterval:
    """Sum over jobs above and below, and the interval over resamples of the jobs."""
    denominators = resampled @ below
    known = denominators > 0
    ratios = (resampled @ above)[known] / denominators[known]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return BootstrapInterval(float(above.sum() / below.sum()), float(low), float(high))
