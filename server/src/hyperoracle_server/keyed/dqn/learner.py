"""One Q-network with all that its training needs to go on, as bytes too."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from hyperoracle_server.keyed.cost import SECONDS_PER_WEIGHT
from hyperoracle_server.keyed.dqn.mlp import (
    Parameters,
    adam_step,
    initial_parameters,
    loss_and_gradients,
    outputs,
    parameter_shapes,
)
from hyperoracle_server.strategies.chance import NumberedStreams

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float

    from hyperoracle_protocol.strategies import QLearningSetting
    from hyperoracle_server.keyed.dqn.replay import Replay, Transitions

LARGEST_RETURN = 1e15
"""Hyper-returns and hyper-rewards beyond are learned as this, so that no sum overflows."""

_PARTS = ("network", "target", "adam_first", "adam_second")


class OutputScale(NamedTuple):
    """What a network's output q stands for: Q = mean + deviation · q."""

    mean: float
    deviation: float


class QLearner:
    """Q-learning with replay and a target network on the keys of one layout.

    The network's outputs are standardised hyper-returns (or raw ones, by the setting): μ and σ are
    the running moments of all hyper-returns seen. A target is
    y = r + γ max_a' (μ + σ q⁻(s', a')), without the second term where the episode ended; the
    network learns (y − μ) / σ with Adam on the Huber loss. μ and σ settle as outcomes come; the
    network follows them by learning.

    Which transitions a gradient step draws follows from its number alone: nothing random has to be
    stored to go on after a restart.

    Args:
        key_size: components of a key.
        n_actions: the number of joint hyper-actions.
        setting: how to learn.
        seed: of the first weights and of what is drawn from the replay.
        name: another name gives other chance under the same seed.

    Attributes:
        updates: gradient steps made.

    Source: Mnih et al., Nature 2015, Algorithm 1.
    """

    def __init__(
        self, key_size: int, n_actions: int, setting: QLearningSetting, seed: int, name: str
    ) -> None:
        self._setting = setting
        self._sizes = (key_size, *[setting.hidden_size] * setting.hidden_layers, n_actions)
        digest = blake2b(f"{seed} {name}".encode(), digest_size=8, person=b"q_network").digest()
        self._chance = NumberedStreams(int.from_bytes(digest, "little"))
        self._network = initial_parameters(self._sizes, self._chance.stream(0))
        self._target = {name: array.copy() for name, array in self._network.items()}
        self._first, self._second = _zeros(self._network), _zeros(self._network)
        self.updates = 0
        self._moments = np.zeros(3)  # how many hyper-returns, their mean, their sum of squares

    @property
    def scale(self) -> OutputScale:
        """What the outputs stand for now."""
        count, mean, squares = self._moments.tolist()
        if self._setting.values == "raw" or count == 0:
            return OutputScale(0.0, 1.0)
        deviation = float(np.sqrt(squares / count))
        return OutputScale(mean, deviation if deviation > 0 else 1.0)

    @property
    def pass_seconds(self) -> float:
        """About how long `q_values` takes."""
        return sum(array.size for array in self._network.values()) * SECONDS_PER_WEIGHT

    def q_values(self, key: Float[np.ndarray, " key_size"]) -> Float[np.ndarray, " actions"]:
        """Q(s, a) of every joint hyper-action at a key, float64, in units of the return."""
        mean, deviation = self.scale
        return mean + deviation * outputs(self._network, key).astype(np.float64)

    def see(self, hyper_return: float) -> None:
        """Take a hyper-return into the moments (Welford's way)."""
        value = float(np.clip(hyper_return, -LARGEST_RETURN, LARGEST_RETURN))
        self._moments[0] += 1
        before = value - self._moments[1]
        self._moments[1] += before / self._moments[0]
        self._moments[2] += before * (value - self._moments[1])

    def learn(self, replay: Replay) -> None:
        """Make the gradient steps that one outcome earns, once there is enough to draw from."""
        if replay.transition_count < self._setting.replay_start:
            return
        for _ in range(self._setting.gradient_steps):
            rng = self._chance.stream(self.updates + 1)
            self._descend(replay.sample(self._setting.batch_size, rng))

    def targets(self, batch: Transitions) -> Float[np.ndarray, " batch"]:
        """What the outputs of the chosen hyper-actions should be, float64."""
        mean, deviation = self.scale
        greatest = outputs(self._target, batch.next_keys).max(axis=1).astype(np.float64)
        later = self._setting.discount * (mean + deviation * greatest)
        rewards = np.clip(batch.rewards, -LARGEST_RETURN, LARGEST_RETURN)
        found: Float[np.ndarray, " batch"] = rewards + np.where(batch.ends, 0.0, later)
        return (found - mean) / deviation

    def _descend(self, batch: Transitions) -> None:
        targets = self.targets(batch).astype(np.float32)
        _, gradients = loss_and_gradients(self._network, batch.keys, batch.actions, targets)
        self.updates += 1
        adam_step(self._network, gradients, self._first, self._second, self.updates,
                  self._setting.learning_rate)  # fmt: skip
        if self.updates % self._setting.target_period == 0:
            self._target = {name: array.copy() for name, array in self._network.items()}

    def to_bytes(self) -> bytes:
        """All that changes, as safetensors; the replay lies elsewhere."""
        arrays: dict[str, npt.NDArray[Any]] = {
            f"{part}.{name}": array
            for part, parameters in zip(_PARTS, self._parts, strict=True)
            for name, array in parameters.items()
        }
        arrays["updates"] = np.array(self.updates, np.int64)
        arrays["moments"] = self._moments
        return safetensors.numpy.save(arrays)

    def restore(self, data: bytes) -> None:
        """Take back what `to_bytes` gave.

        Raises:
            ValueError: damaged, or not of this network.
        """
        try:
            arrays = safetensors.numpy.load(data)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Q-network: expected safetensors, got {len(data)} bytes that are damaged "
                f"({error}); restore the store from a backup"
            ) from error
        self._check(arrays)
        self.updates = int(arrays["updates"])
        self._moments = arrays["moments"].copy()
        self._network, self._target, self._first, self._second = (
            {name: arrays[f"{part}.{name}"].copy() for name in self._network} for part in _PARTS
        )

    @property
    def _parts(self) -> tuple[Parameters, Parameters, Parameters, Parameters]:
        return self._network, self._target, self._first, self._second

    def _check(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        shapes = parameter_shapes(self._sizes)
        expected: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            f"{part}.{name}": (shape, np.dtype("float32"))
            for part in _PARTS
            for name, shape in shapes.items()
        }
        expected["updates"] = ((), np.dtype("int64"))
        expected["moments"] = ((3,), np.dtype("float64"))
        got = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        if got != expected:
            odd = sorted(n for n in {*got, *expected} if got.get(n) != expected.get(n))
            raise ValueError(
                f"Q-network: expected the arrays of layers {self._sizes}, got others: {odd}"
            )
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("Q-network: expected finite numbers, got NaN or infinity")


def _zeros(parameters: Parameters) -> Parameters:
    return {name: np.zeros_like(array) for name, array in parameters.items()}
