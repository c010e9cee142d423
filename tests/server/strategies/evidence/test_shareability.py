from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperoracle_server.strategies.evidence.shareability import (
    Shareability,
    SharedRecords,
    shareability,
)


def figures(
    keys: np.ndarray, jobs: np.ndarray, values: np.ndarray, neighbours: int = 5, **options: int
) -> Shareability:
    records = SharedRecords(keys, jobs, values, "keys")
    found = shareability(records, neighbours, np.random.default_rng(0), **options)
    assert found is not None
    return found


def reference(
    keys: np.ndarray, jobs: np.ndarray, values: np.ndarray, neighbours: int
) -> tuple[float, float, float, float]:
    """Share, chance, skill and share of jobs that are better, record by record."""
    count = len(jobs)
    shares, chances = [], []
    errors: dict[int, float] = {}
    constant_errors: dict[int, float] = {}
    for i in range(count):
        distance = [float(((keys[i] - keys[j]) ** 2).sum()) for j in range(count)]
        everyone = sorted((j for j in range(count) if j != i), key=distance.__getitem__)
        nearest = everyone[:neighbours]
        shares.append(sum(jobs[j] != jobs[i] for j in nearest) / len(nearest))
        others = [j for j in everyone if jobs[j] != jobs[i]]
        chances.append(len(others) / (count - 1))
        weights = {j: 1 / (distance[j] + 1e-3) for j in others[:neighbours]}
        mean = sum(w * values[j] for j, w in weights.items()) / sum(weights.values())
        constant = sum(values[j] for j in others) / len(others)
        job = int(jobs[i])
        errors[job] = errors.get(job, 0.0) + (values[i] - mean) ** 2
        constant_errors[job] = constant_errors.get(job, 0.0) + (values[i] - constant) ** 2
    better = [errors[job] < constant_errors[job] for job in errors]
    skill = 1 - sum(errors.values()) / sum(constant_errors.values())
    return float(np.mean(shares)), float(np.mean(chances)), skill, float(np.mean(better))


@pytest.mark.parametrize("neighbours", [1, 5, 400])
def test_the_figures_are_those_of_a_slow_loop(neighbours: int) -> None:
    rng = np.random.default_rng(neighbours)
    jobs = rng.choice([3, 11, 12, 40], size=300, p=[0.5, 0.3, 0.15, 0.05])  # more than a block
    keys = rng.normal(size=(300, 3)) + 100.0 + 0.7 * (jobs[:, None] == 11)
    values = keys[:, 0] + rng.normal(size=300)
    found = figures(keys, jobs, values, neighbours)
    share, chance, skill, better = reference(keys, jobs, values, neighbours)
    assert found.records == 300
    assert found.from_other_jobs == pytest.approx(share, rel=1e-12)
    assert found.expected_by_chance == pytest.approx(chance, rel=1e-12)
    assert found.ratio.value == pytest.approx(share / chance, rel=1e-12)
    assert found.skill is not None
    assert found.skill.value == pytest.approx(skill, rel=1e-9, abs=1e-9)
    assert found.jobs_better is not None
    assert found.jobs_better.value == better


def test_three_records_by_hand() -> None:
    # Of job 1 the records at 0 and 1, of job 2 the one at 3; K = 1.
    keys, jobs = np.array([[0.0], [1.0], [3.0]]), np.array([1, 1, 2])
    found = figures(keys, jobs, np.array([0.0, 2.0, 4.0]), 1)
    # Neighbours: 0 -> 1 (own), 1 -> 0 (own), 3 -> 1 (other). Chance: 1/2, 1/2, 2/2.
    assert found.from_other_jobs == pytest.approx(1 / 3)
    assert found.expected_by_chance == pytest.approx(2 / 3)
    # Job 1 is foretold 4, 4 by either; job 2 is foretold 2, by the constant 1.
    assert found.skill is not None
    assert found.skill.value == pytest.approx(1 - (16 + 4 + 4) / (16 + 4 + 9))
    assert found.jobs_better is not None
    assert found.jobs_better.value == 0.5


def test_keys_that_identify_the_job_are_shared_with_none() -> None:
    rng = np.random.default_rng(0)
    jobs = np.repeat(np.arange(8), 40)
    keys = np.eye(8)[jobs] * 10.0 + rng.normal(size=(320, 8)) * 0.1
    found = figures(keys, jobs, rng.normal(size=320))
    assert found.from_other_jobs == 0.0
    assert found.ratio == (0.0, 0.0, 0.0)
    assert found.expected_by_chance == pytest.approx(280 / 319)


def test_keys_that_know_nothing_of_the_job_are_shared_as_chance_has_it() -> None:
    rng = np.random.default_rng(1)
    jobs = rng.integers(8, size=2000)
    found = figures(rng.normal(size=(2000, 4)), jobs, rng.normal(size=2000))
    assert found.ratio.low < 1.0 < found.ratio.high
    assert found.ratio.value == pytest.approx(1.0, abs=0.02)


def test_equal_keys_are_shared_as_chance_has_it_in_whatever_order_they_came() -> None:
    jobs = np.repeat(np.arange(4), 250)
    found = figures(np.ones((1000, 3)), jobs, np.arange(1000.0))
    assert found.ratio.value == pytest.approx(1.0, abs=0.1)


def test_values_that_keys_determine_are_predicted() -> None:
    rng = np.random.default_rng(2)
    keys = rng.uniform(size=(2000, 2))
    found = figures(keys, rng.integers(8, size=2000), np.sin(3 * keys[:, 0]) + keys[:, 1])
    assert found.skill is not None
    assert 0.99 < found.skill.low <= found.skill.value <= found.skill.high <= 1.0
    assert found.jobs_better == (1.0, 1.0, 1.0)


def test_values_of_the_job_alone_are_not_predicted() -> None:
    rng = np.random.default_rng(3)
    jobs = np.repeat(np.arange(8), 50)
    found = figures(rng.normal(size=(400, 3)), jobs, jobs.astype(np.float64))
    assert found.skill is not None
    assert found.skill.value <= 0.0


def test_equal_values_leave_nothing_to_predict() -> None:
    found = figures(np.arange(6.0)[:, None], np.array([0, 0, 1, 1, 2, 2]), np.full(6, 0.1))
    assert (found.skill, found.jobs_better) == (None, None)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_job_alone_is_compared_with_nothing(count: int) -> None:
    records = SharedRecords(np.ones((count, 2)), np.full(count, 7), np.ones(count), "keys")
    assert shareability(records, 5, np.random.default_rng(0)) is None


def test_thinning_says_how_many_were_compared_and_keeps_the_figures_close() -> None:
    rng = np.random.default_rng(4)
    jobs = rng.integers(8, size=3000)
    keys = rng.normal(size=(3000, 2))
    values = keys[:, 0]
    all_of_them, few = figures(keys, jobs, values), figures(keys, jobs, values, most_records=1000)
    assert (all_of_them.records, few.records) == (3000, 1000)
    assert few.ratio.value == pytest.approx(all_of_them.ratio.value, abs=0.05)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 4), st.integers(1, 8))
def test_shares_lie_in_the_unit_interval_and_figures_in_their_intervals_bounds(
    seed: int, count: int, job_count: int, neighbours: int
) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.integers(3, size=(count, 2)).astype(np.float64)
    records = SharedRecords(keys, rng.integers(job_count, size=count), rng.normal(size=count), "")
    found = shareability(records, neighbours, rng)
    assert (found is None) == (len(np.unique(records.jobs)) < 2)
    if found is not None:
        assert 0.0 <= found.from_other_jobs <= 1.0
        assert 0.0 < found.expected_by_chance <= 1.0
        assert found.ratio.low <= found.ratio.high
        assert found.skill is not None
        assert found.skill.high <= 1.0


def test_moving_and_turning_all_keys_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    keys, jobs, values = rng.normal(size=(200, 3)), rng.integers(4, size=200), rng.normal(size=200)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    found, moved = figures(keys, jobs, values), figures(keys @ turn + 7.0, jobs, values)
    assert moved.ratio == pytest.approx(found.ratio)
    assert found.skill is not None
    assert moved.skill == pytest.approx(found.skill)
