from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.strategies.value_model.gaussian_process import (
    SCALES,
    EffectModel,
    Records,
    Scales,
    bin_kernel,
    fitted,
)

KERNELS = [bin_kernel(5, 2, ordered=True), bin_kernel(3, 0, ordered=False)]


def _records(count: int, seed: int) -> Records:
    generator = np.random.default_rng(seed)
    return Records(
        generator.uniform(-1, 1, (count, 2)),
        np.column_stack([generator.integers(5, size=count), generator.integers(3, size=count)]),
        generator.normal(size=count),
    )


def _slow_covariance(scales: Scales, one: tuple, other: tuple, same: bool) -> float:
    """Between two advantages, each (context, bins)."""
    (x, a), (y, b) = one, other
    near = math.exp(-sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) / (2 * 0.7**2))
    total = scales.baseline_variance * (0.5 + 0.5 * near)
    share = scales.context_free_share
    for kernel, i, j in zip(KERNELS, a, b, strict=True):
        total += scales.effect_variance * kernel[i, j] * (share + (1 - share) * near)
    return total + (scales.noise_variance if same else 0.0)


def _slow_joint(scales: Scales, records: Records) -> np.ndarray:
    rows = list(zip(records.contexts, records.bins, strict=True))
    return np.array(
        [
            [_slow_covariance(scales, one, other, i == j) for j, other in enumerate(rows)]
            for i, one in enumerate(rows)
        ]
    )


@pytest.mark.parametrize("scales", [SCALES[0], SCALES[31], SCALES[-1]])
@pytest.mark.parametrize("hyperparameter", [0, 1])
def test_effects_are_the_conditional_distribution(scales: Scales, hyperparameter: int) -> None:
    records, context = _records(12, 1), np.array([0.3, -0.2])
    joint = _slow_joint(scales, records)
    share, kernel = scales.context_free_share, KERNELS[hyperparameter]
    cross = np.empty((len(kernel), 12))  # between an effect and an advantage
    for bin_number in range(len(kernel)):
        for index in range(12):
            squared = ((context - records.contexts[index]) ** 2).sum()
            near = math.exp(-squared / (2 * 0.7**2))
            cross[bin_number, index] = (
                scales.effect_variance
                * kernel[bin_number, records.bins[index, hyperparameter]]
                * (share + (1 - share) * near)
            )
    inverse = np.linalg.inv(joint)
    effects = EffectModel(records, KERNELS, scales).effects(context, hyperparameter)
    # The model adds 1e-9 to the noise.
    np.testing.assert_allclose(effects.means, cross @ inverse @ records.advantages, atol=1e-6)
    expected = scales.effect_variance * kernel - cross @ inverse @ cross.T
    np.testing.assert_allclose(effects.covariance, expected, atol=1e-6)


@pytest.mark.parametrize("scales", [SCALES[5], SCALES[40]])
def test_the_likelihood_is_the_normal_density(scales: Scales) -> None:
    records = _records(9, 2)
    joint = _slow_joint(scales, records)
    _, log_determinant = np.linalg.slogdet(joint)
    square = records.advantages @ np.linalg.inv(joint) @ records.advantages
    expected = -0.5 * (square + log_determinant + 9 * math.log(2 * math.pi))
    assert EffectModel(records, KERNELS, scales).log_likelihood == pytest.approx(expected, abs=1e-6)


def test_without_records_nothing_is_known_and_effects_are_small() -> None:
    empty = Records(np.zeros((0, 2)), np.zeros((0, 2), dtype=np.int64), np.zeros(0))
    model = fitted(empty, KERNELS)
    assert model.scales.effect_variance == 0.03
    effects = model.effects(np.zeros(2), 0)
    np.testing.assert_array_equal(effects.means, 0.0)
    np.testing.assert_allclose(effects.covariance, 0.03 * KERNELS[0])


@given(st.integers(0, 30), st.integers(0, 1000), st.sampled_from(SCALES))
def test_the_default_is_known_and_records_never_add_doubt(
    count: int, seed: int, scales: Scales
) -> None:
    effects = EffectModel(_records(count, seed), KERNELS, scales).effects(np.array([0.5, 0.5]), 0)
    assert effects.means[2] == 0.0
    assert not effects.covariance[2].any()
    prior = scales.effect_variance * np.diagonal(KERNELS[0])
    assert (np.diagonal(effects.covariance) <= prior + 1e-9).all()
    assert np.linalg.eigvalsh(effects.covariance).min() > -1e-9


@given(st.integers(2, 20), st.integers(0, 1000))
def test_the_order_of_records_does_not_matter(count: int, seed: int) -> None:
    records = _records(count, seed)
    order = np.random.default_rng(seed).permutation(count)
    shuffled = Records(*(column[order] for column in records))
    one, other = (
        EffectModel(each, KERNELS, SCALES[20]).effects(np.zeros(2), 1)
        for each in (records, shuffled)
    )
    np.testing.assert_allclose(one.means, other.means, atol=1e-9)


def _planted(effect: float, count: int, seed: int) -> Records:
    """Bin 3 of the first hyperparameter raises the advantage by ``effect``; all else is noise."""
    generator = np.random.default_rng(seed)
    bins = np.column_stack([generator.integers(5, size=count), generator.integers(3, size=count)])
    noise = generator.normal(size=count) * 0.6
    return Records(generator.uniform(-1, 1, (count, 2)), bins, noise + effect * (bins[:, 0] == 3))


def test_a_planted_effect_is_found_and_the_other_hyperparameter_is_left_alone() -> None:
    model = fitted(_planted(1.0, 80, seed=0), KERNELS)
    effects, others = (model.effects(np.zeros(2), number) for number in (0, 1))
    assert effects.means.argmax() == 3
    assert effects.means[3] - 2 * math.sqrt(effects.covariance[3, 3]) > 0
    assert np.abs(others.means).max() < 0.3


def test_where_nothing_has_an_effect_cautious_bounds_seldom_lead_away_from_the_default() -> None:
    misled = 0
    for seed in range(40):
        effects = fitted(_planted(0.0, 60, seed), KERNELS).effects(np.zeros(2), 0)
        bounds = effects.means - 1.0 * np.sqrt(np.diagonal(effects.covariance).clip(min=0))
        misled += bool(bounds.max() > 1e-12)
    assert misled <= 14  # four bins at one standard deviation, correlated, shrunk by the prior


def test_an_effect_of_one_context_is_not_expected_in_another() -> None:
    generator = np.random.default_rng(0)
    contexts = generator.uniform(-1, 1, (200, 2))
    bins = np.column_stack([generator.integers(5, size=200), np.zeros(200, dtype=np.int64)])
    helps = (bins[:, 0] == 4) & (contexts[:, 0] > 0)
    advantages = generator.normal(size=200) * 0.4 + 2.0 * helps
    model = fitted(Records(contexts, bins, advantages), KERNELS)
    late, early = (model.effects(np.array([x, 0.0]), 0).means[4] for x in (0.8, -0.8))
    assert late > 1.0
    assert abs(early) < 0.5
