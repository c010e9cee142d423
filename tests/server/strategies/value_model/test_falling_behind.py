from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hyperoracle_server.strategies.value_model.falling_behind import (
    LEAST_JOBS,
    boundary,
    confidence_sequence,
    falls_behind,
    winsorised,
)

STUDIES, BATCHES, JOBS, CONTROLS, ALPHA = 400, 8, 200, 0.2, 0.05
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed upwards": lambda rng, shape: rng.lognormal(size=shape),
    "skewed downwards": lambda rng, shape: -rng.lognormal(size=shape),
    "heavy-tailed": lambda rng, shape: rng.standard_t(2, size=shape),
    "without a mean": lambda rng, shape: rng.standard_cauchy(size=shape),
    "success or failure": lambda rng, shape: (rng.random(shape) < 0.3).astype(np.float64),
    "two heaps": lambda rng, shape: 100.0 * (rng.random(shape) < 0.3) + rng.normal(size=shape),
}


def first_alarms(draw: Draw, deficit: float, seed: int) -> np.ndarray:
    """After which job each of 400 simulated studies trips, looked at after every job.

    Each job is a control with the probability 0.2; `deficit` is what an exploiting job lacks.

    Returns:
        int64 [studies]; JOBS + 1 where it never trips.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(BATCHES):  # the studies of a batch share their roles, not their scores
        control = rng.random(JOBS) < CONTROLS
        scores = draw(rng, (STUDIES // BATCHES, JOBS)) - deficit * ~control
        first = np.full(len(scores), JOBS + 1)
        for jobs in range(1, JOBS + 1):
            so_far, is_control = scores[:, :jobs], control[:jobs]
            upper = confidence_sequence(so_far[:, ~is_control], so_far[:, is_control], ALPHA).upper
            first = np.where(upper < 0.0, np.minimum(first, jobs), first)
        found.append(first)
    return np.concatenate(found)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_looked_at_after_every_job_it_trips_in_at_most_alpha_of_studies(name: str) -> None:
    """400 studies without a difference, 200 jobs each, a fifth of them controls.

    No tolerance is needed: with this seed 0.5 to 2.8 % trip. The next test shows that this can
    fail.
    """
    tripped = first_alarms(DISTRIBUTIONS[name], deficit=0.0, seed=1) <= JOBS
    assert tripped.mean() <= ALPHA


def test_a_usual_test_looked_at_as_often_would_trip_far_too_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "hyperoracle_server.strategies.value_model.falling_behind.boundary", lambda *_: 1.645
    )
    tripped = first_alarms(DISTRIBUTIONS["normal"], deficit=0.0, seed=1) <= JOBS
    assert tripped.mean() > 3 * ALPHA


def test_a_deficit_of_one_standard_deviation_is_found_within_100_jobs_most_of_the_time() -> None:
    """Half are found within 52 jobs (about 10 controls), 80 % within 85, 90 % within 108."""
    first = first_alarms(DISTRIBUTIONS["normal"], deficit=1.0, seed=2)
    assert (first <= 60).mean() > 0.5
    assert (first <= 100).mean() > 0.8
    assert (first <= JOBS).mean() > 0.98


def test_a_gain_is_never_taken_for_a_deficit() -> None:
    first = first_alarms(DISTRIBUTIONS["normal"], deficit=-1.0, seed=3)
    assert (first <= JOBS).mean() == 0.0


def test_with_fewer_than_four_of_either_nothing_is_said() -> None:
    bad, good = np.zeros(50), np.full(LEAST_JOBS - 1, 1e6) + np.arange(LEAST_JOBS - 1)
    assert confidence_sequence(bad, good) == (-np.inf, np.inf)
    assert not falls_behind(bad, good)
    assert not falls_behind(good - 2e6, bad)


def test_bounds_by_hand() -> None:
    # Medians 1, MAD 1: limits far out. Means 1 and 1; deviations -1, 0, 0, 1 in either group.
    scores = np.array([0.0, 1.0, 1.0, 2.0])
    bounds = confidence_sequence(scores, scores, alpha=0.05, tuned_for=2.0)
    # Information 2; variance around the common mean 4/7 over 2, apart 2/3/4 + 2/3/4 = 1/3.
    doubt = -2 * np.log(0.1)
    spread = doubt + np.log(1 + doubt) + 1
    z = np.sqrt(2 * spread / (spread - 1) * np.log(1 + np.sqrt(spread) / 0.1))
    assert bounds.upper == pytest.approx(z / np.sqrt(3))
    assert bounds.lower == pytest.approx(-z / np.sqrt(3))


def test_the_boundary_is_about_the_tightest_where_it_is_tuned_for() -> None:
    for information in (2.0, 10.0, 50.0):
        least = min(boundary(information, 0.05, t) for t in np.geomspace(0.1, 1000, 400))
        assert boundary(information, 0.05, information) == pytest.approx(least, rel=0.01)


def test_one_job_that_exploded_cannot_trip_it() -> None:
    exploit, control = np.linspace(-2.0, 2.0, 40), np.linspace(-2.0, 2.0, 10)
    exploded = np.append(exploit, -1e12)
    assert not falls_behind(exploded, control)
    before, after = confidence_sequence(exploit, control), confidence_sequence(exploded, control)
    assert abs(after.upper - before.upper) < 0.2
    assert not falls_behind(exploit, np.append(control, 1e12))


def test_neither_an_offset_nor_a_unit_matters() -> None:
    rng = np.random.default_rng(1)
    exploit, control = rng.normal(size=30), rng.normal(size=8)
    bounds = confidence_sequence(exploit, control)
    moved = confidence_sequence(100.0 + 7.0 * exploit, 100.0 + 7.0 * control)
    np.testing.assert_allclose(moved, 7.0 * np.array(bounds), rtol=1e-9)


def test_studies_along_leading_axes_are_each_their_own() -> None:
    rng = np.random.default_rng(2)
    exploit, control = rng.normal(size=(5, 30)), rng.normal(size=(5, 8))
    together = confidence_sequence(exploit, control)
    for study in range(5):
        alone = confidence_sequence(exploit[study], control[study])
        assert (alone.lower, alone.upper) == (together.lower[study], together.upper[study])


def test_equal_scores_are_no_deficit_and_two_values_are_one_in_time() -> None:
    assert not falls_behind(np.full(20, 3.0), np.full(5, 3.0))
    assert not falls_behind(np.zeros(4), np.ones(4)), "it may still be chance"
    assert falls_behind(np.zeros(40), np.ones(10))


def test_scores_are_cut_off_at_three_scaled_deviations_from_the_median() -> None:
    # Median 3, MAD 1.
    np.testing.assert_allclose(
        winsorised(np.array([1.0, 2.0, 3.0, 4.0, 100.0])), [1, 2, 3, 4, 3 + 3 * 1.4826]
    )
