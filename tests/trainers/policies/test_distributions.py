from __future__ import annotations

import numpy as np
import torch
from torch import distributions as reference

from hyperoracle_trainers.policies.distributions import CategoricalActions, DiagonalGaussian


def test_categorical_agrees_with_torch() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    actions = torch.tensor([0, 1, 2, 3, 0, 1])
    log_prob, entropy = CategoricalActions(4).log_prob_and_entropy(logits, actions)
    expected = reference.Categorical(logits=logits)
    torch.testing.assert_close(log_prob, expected.log_prob(actions))
    torch.testing.assert_close(entropy, expected.entropy().mean())


def test_gaussian_agrees_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    means, actions = torch.randn(2, 6, 3, generator=generator)
    gaussian = DiagonalGaussian(3)
    with torch.no_grad():
        gaussian.log_std.copy_(torch.tensor([-1.0, 0.0, 0.5]))
    log_prob, entropy = gaussian.log_prob_and_entropy(means, actions)
    expected = reference.Independent(reference.Normal(means, gaussian.log_std.exp()), 1)
    torch.testing.assert_close(log_prob, expected.log_prob(actions))
    torch.testing.assert_close(entropy, expected.entropy().mean())


def test_categorical_draws_by_the_softmax() -> None:
    logits = np.log(np.array([[0.1, 0.2, 0.7]], np.float32))
    categorical = CategoricalActions(3)
    noise = categorical.noise(np.random.default_rng(0), (20_000,))
    actions = categorical.sample(np.repeat(logits, 20_000, axis=0), noise)
    # standard error of a share: at most 0.0035
    np.testing.assert_allclose(np.bincount(actions) / 20_000, [0.1, 0.2, 0.7], atol=0.015)
    assert categorical.most_likely(logits).tolist() == [2]


def test_gaussian_draws_with_its_mean_and_deviation() -> None:
    gaussian = DiagonalGaussian(2)
    with torch.no_grad():
        gaussian.log_std.copy_(torch.tensor([2.0, 0.5]).log())
    means = np.array([[3.0, -1.0]], np.float32)
    actions = gaussian.sample(means, gaussian.noise(np.random.default_rng(0), (20_000,)))
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions.mean(0), [3.0, -1.0], atol=0.06)  # 4 standard errors
    np.testing.assert_allclose(actions.std(0), [2.0, 0.5], rtol=0.03)
    assert gaussian.most_likely(means).tolist() == means.tolist()
