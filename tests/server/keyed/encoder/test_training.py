from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.moments import Moments, standardise
from hyperoracle_server.keyed.encoder.serving import ServedEncoder
from hyperoracle_server.keyed.encoder.state import EncoderState, initial_state
from hyperoracle_server.keyed.encoder.training import TrainingSettings, train
from hyperoracle_server.keyed.encoder.vae import VariationalAutoencoder

from .conftest import Factors, LatentFactorSamples, Samples

NEIGHBOURS = 5


def standardised(state: EncoderState, samples: Samples) -> NDArray[np.float32]:
    moments = state.moments
    return standardise(
        samples,
        moments.mean.astype(np.float32),
        moments.inverse_scale().astype(np.float32),
    )


def neighbour_agreement(keys: NDArray[np.float32], factors: Factors) -> float:
    """Return the share of the nearest keys that are also nearest by factor."""

    def nearest(points: NDArray[np.floating]) -> NDArray[np.intp]:
        distances = np.square(points[:, None] - points[None]).sum(axis=-1)
        np.fill_diagonal(distances, np.inf)
        return np.argsort(distances, axis=1)[:, :NEIGHBOURS]

    pairs = zip(nearest(keys), nearest(factors), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / NEIGHBOURS for a, b in pairs]))


def reconstruction_error(state: EncoderState, samples: Samples) -> float:
    """Return the mean squared error of ω(mean) per standardised feature."""
    model = VariationalAutoencoder(state.architecture, state.arrays)
    features = torch.tensor(standardised(state, samples))
    with torch.no_grad():
        mean, _ = model.encode(features)
        return torch.mean((model.decode(mean) - features) ** 2).item()


def test_training_learns_without_collapse(
    sketch: Architecture, latent_factor_samples: LatentFactorSamples
) -> None:
    _, samples = latent_factor_samples(400, 1)
    factors, unseen = latent_factor_samples(300, 2)
    state = untrained = initial_state(sketch, 0)
    reports = []
    for seed in range(6):
        state, report = train(state, samples, seed, gradient_updates=100, batch_size=64)
        reports.append(report)
    keys = ServedEncoder(state).encode_batch(unseen)

    # 1 is the error of predicting the mean; the noise is about a tenth of the variance
    assert reports[0].first_loss > 0.95
    assert reconstruction_error(state, unseen) < 0.35
    assert reports[-1].last_loss < 0.5 * reports[0].first_loss
    # The posterior lives, and the divergence is neither free nor nothing.
    assert np.sqrt(np.mean(keys.var(axis=0))) > 0.5
    assert reports[-1].key_deviation == pytest.approx(np.sqrt(keys.var(axis=0).mean()), rel=0.3)
    assert 1.0 < reports[-1].kl < 50.0
    # C̃ did not shrink its output, which a learned target would reward.
    projected = [
        VariationalAutoencoder(sketch, each.arrays)
        .project(torch.tensor(standardised(state, unseen)))
        .square()
        .mean()
        .sqrt()
        .item()
        for each in (untrained, state)
    ]
    assert projected[1] > 0.7 * projected[0]
    # Nearest by key is nearest by factor, 15 times as often as by chance (an untrained encoder: 7).
    chance = NEIGHBOURS / (len(factors) - 1)
    assert neighbour_agreement(keys, factors) > 15 * chance


def test_a_crushing_kl_weight_collapses_the_posterior_and_the_report_says_so(
    sketch: Architecture, latent_factor_samples: LatentFactorSamples
) -> None:
    """The test above is able to fail: a wrong scaling of the loss is seen."""
    _, samples = latent_factor_samples(200, 1)
    settings = TrainingSettings(kl_weight=1e4, learning_rate=1e-2)
    state, report = train(initial_state(sketch, 0), samples, 0, 300, settings=settings)
    assert report.kl < 0.1
    assert report.key_deviation < 0.1
    assert reconstruction_error(state, samples) > 0.9


def test_a_round_is_a_function_of_its_arguments(
    sketch: Architecture, latent_factor_samples: LatentFactorSamples
) -> None:
    _, samples = latent_factor_samples(80, 1)
    state = initial_state(sketch, 0)
    before = state.to_bytes()
    first, first_report = train(state, samples, 5, 7, 16)
    torch.manual_seed(99)  # the global generator has no say
    second, second_report = train(state, samples, 5, 7, 16)
    assert first.to_bytes() == second.to_bytes()
    assert first_report == second_report
    assert state.to_bytes() == before
    other, _ = train(state, samples, 6, 7, 16)
    assert other.to_bytes() != first.to_bytes()


def test_training_goes_on_exactly_from_stored_bytes(
    sketch: Architecture, latent_factor_samples: LatentFactorSamples
) -> None:
    _, samples = latent_factor_samples(80, 1)
    middle, _ = train(initial_state(sketch, 0), samples, 1, 7, 16)
    at_once, _ = train(middle, samples, 2, 7, 16)
    restored = EncoderState.from_bytes(middle.to_bytes(), sketch)
    with_a_stop, _ = train(restored, samples, 2, 7, 16)
    assert with_a_stop.to_bytes() == at_once.to_bytes()
    assert (middle.version, at_once.version) == (1, 2)
    assert int(at_once.arrays["adam_updates"]) == 14


def test_the_served_encoder_equals_torch_after_training(
    sketch: Architecture, latent_factor_samples: LatentFactorSamples
) -> None:
    _, samples = latent_factor_samples(80, 1)
    state, _ = train(initial_state(sketch, 0), samples, 1, 40, 16)
    model = VariationalAutoencoder(sketch, state.arrays)
    mean, _ = model.encode(torch.tensor(standardised(state, samples)))
    served = ServedEncoder(state)
    keys = np.array([served.encode(features) for features in samples])
    # float32 sums of 150 terms, in another order
    np.testing.assert_allclose(keys, mean.detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "architecture",
    [Architecture.of_sketch(((3, 8),), kind="random"), Architecture.of_statistics(24)],
)
def test_kinds_that_do_not_learn_only_take_in_the_moments(architecture: Architecture) -> None:
    samples = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 24)).astype(np.float16)
    state = initial_state(architecture, 0)
    advanced, report = train(state, samples, 0)
    assert report.accepted
    assert report.gradient_updates == 0
    assert advanced.version == 1
    expected = Moments.unseen(24).updated(samples)
    np.testing.assert_array_equal(advanced.arrays["moments_mean"], expected.mean)
    np.testing.assert_array_equal(advanced.arrays["moments_variance"], expected.variance)
    changed = {"version", "moments_mean", "moments_variance", "moments_count"}
    for name in state.arrays.keys() - changed:
        np.testing.assert_array_equal(advanced.arrays[name], state.arrays[name])
    EncoderState.from_bytes(advanced.to_bytes(), architecture)


def test_a_round_that_diverges_leaves_the_encoder_as_it_was(
    sketch: Architecture, latent_factor_samples: LatentFactorSamples
) -> None:
    _, samples = latent_factor_samples(80, 1)
    state = initial_state(sketch, 0)
    unchanged, report = train(state, samples, 0, 5, settings=TrainingSettings(learning_rate=1e30))
    assert unchanged is state
    assert not report.accepted
    assert "NaN or Inf" in report.message


def test_a_round_may_have_fewer_samples_than_a_minibatch(sketch: Architecture) -> None:
    samples = np.random.default_rng(0).normal(size=(1, sketch.feature_count)).astype(np.float16)
    state, report = train(initial_state(sketch, 0), samples, 0, 3, 64)
    assert report.accepted
    assert state.version == 1


def test_samples_that_do_not_fit_are_refused(sketch: Architecture) -> None:
    state, count = initial_state(sketch, 0), sketch.feature_count
    for samples in (
        np.zeros((4, count), np.float32),
        np.zeros((4, count + 1), np.float16),
        np.zeros(count, np.float16),
    ):
        with pytest.raises(ValueError, match="expected float16 of shape"):
            train(state, samples, 0)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        train(state, np.zeros((0, count), np.float16), 0)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="expected finite"):
            train(state, np.full((4, count), bad, np.float16), 0)
    with pytest.raises(ValueError, match="at least 1 gradient update"):
        train(state, np.zeros((4, count), np.float16), 0, gradient_updates=0)
