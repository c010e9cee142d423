"""Small encoders and hyper-states whose latent factors are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hyperoracle_server.keyed.encoder.architecture import Architecture

Factors = NDArray[np.float64]
Samples = NDArray[np.float16]
LatentFactorSamples = Callable[[int, int], tuple[Factors, Samples]]


@pytest.fixture
def sketch() -> Architecture:
    """Five blocks of different rows and widths, 3 columns after projection."""
    return Architecture.of_sketch(
        ((6, 8), (1, 8), (4, 5), (6, 8), (1, 3)), projected_width=3, hidden_size=16, key_size=5
    )


@pytest.fixture
def latent_factor_samples(sketch: Architecture) -> LatentFactorSamples:
    """A function (count, seed) -> (factors, samples): 2 factors, bent into D features, noisy."""
    generator = np.random.default_rng(1234)
    inner = generator.normal(size=(2, 12))
    outer = generator.normal(size=(12, sketch.feature_count))
    offset = 3.0 * generator.normal(size=sketch.feature_count)

    def draw(count: int, seed: int) -> tuple[Factors, Samples]:
        generator = np.random.default_rng(seed)
        factors = generator.uniform(-1.5, 1.5, size=(count, 2))
        noise = generator.normal(size=(count, sketch.feature_count))
        features = np.tanh(factors @ inner) @ outer + offset + noise
        return factors, features.astype(np.float16)

    return draw
