from __future__ import annotations

import numpy as np
import pytest
import torch

from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.serving import ServedEncoder
from hyperoracle_server.keyed.encoder.state import (
    ADAM_FIRST,
    ADAM_SECOND,
    initial_state,
    parameter_shapes,
)
from hyperoracle_server.keyed.encoder.vae import EncoderAdam, VariationalAutoencoder


def test_projection_is_equation_2(sketch: Architecture) -> None:
    state = initial_state(sketch, 0)
    features = np.random.default_rng(0).normal(size=(7, sketch.feature_count)).astype(np.float32)
    model = VariationalAutoencoder(sketch, state.arrays)
    projected = model.project(torch.tensor(features)).detach().numpy()
    assert projected.shape == (7, sketch.projected_feature_count)
    for sample, row in zip(features, projected, strict=True):
        parts, first_feature, first_column = [], 0, 0
        for rows, width in sketch.blocks:
            block = sample[first_feature : first_feature + rows * width].reshape(rows, width)
            c = state.arrays["projection"][first_column : first_column + width]
            parts.append((block @ c).ravel())
            first_feature, first_column = first_feature + rows * width, first_column + width
        # float32 sums of at most 8 terms
        np.testing.assert_allclose(row, np.concatenate(parts), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_served_encoder_equals_the_mean_of_the_torch_encoder(seed: int) -> None:
    architecture = Architecture.of_sketch(tuple((rows, 8) for rows in (64, 1, 64, 1, 6, 1) * 3))
    generator = np.random.default_rng(seed)
    arrays = dict(initial_state(architecture, seed).arrays)
    for name in parameter_shapes(architecture):
        noise = generator.normal(size=arrays[name].shape).astype(np.float32)
        arrays[name] = arrays[name] + np.float32(0.02) * noise
    model = VariationalAutoencoder(architecture, arrays)
    state = initial_state(architecture, seed)
    served = ServedEncoder(type(state)(architecture, arrays))
    # the initial moments leave features within ±5 as they are
    features = generator.normal(size=(16, architecture.feature_count)).clip(-5, 5)
    mean, _ = model.encode(torch.tensor(features.astype(np.float32)))
    keys = np.array([served.encode(sample.astype(np.float32)) for sample in features])
    np.testing.assert_allclose(keys, mean.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_the_kl_divergence_by_hand() -> None:
    """KL(N(1, e) || N(0, 1)) = (1 + e − 1 − 1) / 2 per dimension."""
    architecture = Architecture.of_statistics(3, kind="vae", hidden_size=2, key_size=4)
    arrays = {name: np.zeros_like(a) for name, a in initial_state(architecture, 0).arrays.items()}
    model = VariationalAutoencoder(architecture, arrays)
    features, noise = torch.tensor([[1.0, 2.0, -2.0]] * 2), torch.zeros(2, 4)
    at_prior = model.losses(features, noise)
    assert at_prior.kl.item() == 0.0
    assert at_prior.reconstruction.item() == pytest.approx(3.0)  # (1 + 4 + 4) / 3, decoder is 0
    ones = np.ones(4, np.float32)
    model = VariationalAutoencoder(
        architecture, {**arrays, "mean_bias": ones, "log_variance_bias": ones}
    )
    # float32
    assert model.losses(features, noise).kl.item() == pytest.approx(2 * (np.e - 1), rel=1e-6)


def test_adam_is_the_papers_algorithm_with_the_gradient_cut_to_its_norm() -> None:
    """Against Kingma and Ba's Algorithm 1 in float64, resumed half-way from its arrays."""
    generator = np.random.default_rng(0)
    start = generator.normal(size=(3, 2))
    targets = generator.normal(size=(20, 3, 2)) * 5.0
    names = ("weight",)
    arrays = {
        "adam_updates": np.array(0),
        ADAM_FIRST + "weight": np.zeros((3, 2), np.float32),
        ADAM_SECOND + "weight": np.zeros((3, 2), np.float32),
    }
    parameters = {name: torch.tensor(start, dtype=torch.float32) for name in names}
    parameters["weight"].requires_grad_()
    optimiser = EncoderAdam(parameters, arrays, learning_rate=0.1, gradient_norm_limit=1.0)
    expected, first, second = start.copy(), np.zeros((3, 2)), np.zeros((3, 2))
    cut = 0
    for count, target in enumerate(targets, start=1):
        if count == 11:
            optimiser = EncoderAdam(parameters, optimiser.arrays(), 0.1, 1.0)
        difference = parameters["weight"] - torch.tensor(target, dtype=torch.float32)
        optimiser.update(0.05 * torch.sum(difference**2))
        gradient = 0.1 * (expected - target)
        norm = np.linalg.norm(gradient)
        cut += int(norm > 1.0)
        gradient *= min(1.0, 1.0 / norm)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        corrected = first / (1 - 0.9**count), second / (1 - 0.999**count)
        expected -= 0.1 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
    assert 0 < cut < 20  # both branches were seen
    # float32 through 20 updates; the limit's guard against 0 adds 1e-6
    np.testing.assert_allclose(parameters["weight"].detach(), expected, rtol=1e-4, atol=1e-5)
