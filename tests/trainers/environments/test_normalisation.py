from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hyperoracle_trainers.environments.normalisation import (
    NoNormalisation,
    RewardNormaliser,
    RunningMoments,
    RunningNormalisation,
)

_BATCHES = st.lists(
    st.integers(1, 6).flatmap(
        lambda rows: arrays(np.float64, (rows, 2), elements=st.floats(-9, 9))
    ),
    min_size=1,
    max_size=6,
)


@given(_BATCHES)
def test_moments_are_numpys_of_everything_seen(batches: list[np.ndarray]) -> None:
    moments = RunningMoments(2)
    for batch in batches:
        moments.update(batch)
    everything = np.concatenate(batches)
    assert moments.count == len(everything)
    # float64 sums of a few dozen numbers below 10: errors stay below 1e-12.
    np.testing.assert_allclose(moments.mean, everything.mean(0), atol=1e-12)
    np.testing.assert_allclose(moments.variance, everything.var(0), atol=1e-11)


def test_moments_keep_their_precision_far_from_zero() -> None:
    rows = 1e6 + np.random.default_rng(0).standard_normal((5000, 1))
    moments = RunningMoments(1)
    for row in rows:
        moments.update(row[None])
    # The sum of squares would leave no correct digit at all in single steps of 1e12.
    np.testing.assert_allclose(moments.variance, rows.var(0), rtol=1e-6)


def test_observations_are_normalised_by_everything_seen_including_themselves() -> None:
    rows = np.random.default_rng(1).normal(5.0, 3.0, (100, 4))
    normaliser = RunningNormalisation(4)
    normaliser.observe(rows[:60])
    normalised = normaliser.observe(rows[60:])
    expected = (rows[60:] - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-8)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, expected, rtol=1e-5, atol=1e-6)  # float32


def test_normalising_learns_nothing() -> None:
    normaliser = RunningNormalisation(1)
    normaliser.observe(np.array([[1.0], [3.0]]))
    first = normaliser.normalise(np.array([[100.0]]))
    again = normaliser.normalise(np.array([[100.0]]))
    assert first.item() == again.item() == 10.0  # clipped
    assert normaliser.moments.count == 2


def test_an_observation_that_never_changes_becomes_zero() -> None:
    normaliser = RunningNormalisation(1)
    for _ in range(3):
        assert normaliser.observe(np.array([[4.0]])).item() == 0.0


def test_no_normalisation_changes_the_type_only() -> None:
    raw = np.array([[1.5, -300.0]])
    for result in (NoNormalisation().observe(raw), NoNormalisation().normalise(raw)):
        assert result.dtype == np.float32
        assert result.tolist() == raw.tolist()


def test_rewards_are_divided_by_the_deviation_of_their_discounted_sum() -> None:
    generator = np.random.default_rng(2)
    rewards = generator.normal(2.0, 1.0, (50, 3))
    ended = generator.random((50, 3)) < 0.1
    gamma = 0.9
    sums = []
    for environment in range(3):  # the slow reference: one environment after the other
        running = 0.0
        for now in range(50):
            running = gamma * running + rewards[now, environment]
            sums.append(running)
            if ended[now, environment]:
                running = 0.0
    normaliser = RewardNormaliser(3, gamma)
    first = normaliser.normalise(rewards[:20], ended[:20])
    second = normaliser.normalise(rewards[20:], ended[20:])
    np.testing.assert_allclose(second, rewards[20:] / np.std(sums), rtol=1e-5)  # float32
    assert first.dtype == np.float32


def test_an_unusual_reward_is_clipped() -> None:
    normaliser = RewardNormaliser(1, 0.99)
    rewards = np.zeros((1000, 1))
    rewards[-1] = 5.0
    scaled = normaliser.normalise(rewards, np.zeros((1000, 1), bool))
    assert scaled.max() == pytest.approx(10.0)
