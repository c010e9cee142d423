"""Adam, written out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hyperoracle_server.keyed.dqn.mlp import Parameters

FIRST_DECAY = 0.9
SECOND_DECAY = 0.999
EPSILON = 1e-8


def adam_step(
    parameters: Parameters,
    gradients: Parameters,
    first: Parameters,
    second: Parameters,
    update: int,
    learning_rate: float,
) -> None:
    """Take a step down, in place.

    Args:
        parameters: to be moved.
        gradients: of the loss, one per parameter.
        first: running means of the gradients, moved on.
        second: running means of their squares, moved on.
        update: the number of this step, 1 for the first.
        learning_rate: α.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, Algorithm 1.
    """
    first_correction = 1.0 - FIRST_DECAY**update
    second_correction = 1.0 - SECOND_DECAY**update
    for name, gradient in gradients.items():
        mean, square = first[name], second[name]
        mean += (1.0 - FIRST_DECAY) * (gradient - mean)
        square *= SECOND_DECAY
        square += (1.0 - SECOND_DECAY) * gradient * gradient
        scale = np.sqrt(square / second_correction) + EPSILON
        parameters[name] -= (learning_rate / first_correction) * mean / scale
