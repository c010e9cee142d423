"""Running normalisation of observations and rewards.

Source: Welford's update in the batched form of Chan, Golub and LeVeque, "Updating Formulae and a
Pairwise Algorithm for Computing Sample Variances" (1979); the scheme for rewards is that of the
"VecNormalize" wrapper in Engstrom et al., "Implementation Matters in Deep RL" (ICLR 2020).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hyperoracle_trainers.saved_state import State, Stateful

_LIMIT = np.float32(10.0)  # normalised values beyond it say "extreme", no more
_EPSILON = 1e-8


class RunningMoments:
    """Mean and (population) variance of all rows seen so far.

    Args:
        size: length of a row.

    Attributes:
        count: rows seen.
        mean: float64 [size]; 0 before the first row.
        variance: float64 [size]; 1 before the first row.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = np.zeros(size)
        self.variance = np.ones(size)

    def update(self, rows: npt.NDArray[np.float64]) -> None:
        """Take ``rows`` [rows, size] into account."""
        added = len(rows)
        total = self.count + added
        added_mean = np.add.reduce(rows, axis=0) / added
        deviations = rows - added_mean
        squares = np.add.reduce(deviations * deviations, axis=0)
        shift = added_mean - self.mean
        if self.count:
            squares += self.variance * self.count
            squares += shift * shift * (self.count * added / total)
        self.mean = self.mean + shift * (added / total)
        self.variance = squares / total
        self.count = total

    def state(self) -> State:
        """Return count, mean and variance."""
        return {"count": self.count, "mean": self.mean, "variance": self.variance}

    def restore(self, state: State) -> None:
        """Go on where ``state`` was taken."""
        self.count = state["count"]
        self.mean = state["mean"]
        self.variance = state["variance"]


class ObservationNormaliser(Stateful, Protocol):
    """Turns raw observations into what the policy sees."""

    def observe(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Take raw observations [rows, *shape] into account and return them normalised."""
        ...

    def normalise(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return raw observations [rows, *shape] normalised, and learn nothing from them."""
        ...


class NoNormalisation:
    """Leaves observations as they are.

    Args:
        dtype: of what the policy sees.
    """

    def __init__(self, dtype: npt.DTypeLike = np.float32) -> None:
        self._dtype = dtype

    def observe(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return ``raw`` in the policy's dtype."""
        return raw.astype(self._dtype)

    def normalise(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return ``raw`` in the policy's dtype."""
        return raw.astype(self._dtype)

    def state(self) -> State:
        """Return nothing: there is none."""
        return {}

    def restore(self, state: State) -> None:
        """Do nothing."""


class RunningNormalisation:
    """Standardises observations by the moments of all observations so far, within ±10.

    Args:
        size: length of an observation.

    Attributes:
        moments: what has been seen so far.
    """

    def __init__(self, size: int) -> None:
        self.moments = RunningMoments(size)

    def observe(self, raw: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Update the moments with ``raw``, then normalise it by them."""
        self.moments.update(raw)
        return self.normalise(raw)

    def normalise(self, raw: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Return (raw − mean) / √(variance + 1e-8), clipped to ±10."""
        moments = self.moments
        scaled = (raw - moments.mean) / np.sqrt(moments.variance + _EPSILON)
        return np.minimum(np.maximum(scaled.astype(np.float32), -_LIMIT), _LIMIT)

    def state(self) -> State:
        """Return the moments."""
        return self.moments.state()

    def restore(self, state: State) -> None:
        """Go on where ``state`` was taken."""
        self.moments.restore(state)


class RewardTransformation(Stateful, Protocol):
    """Turns raw rewards into those that the learner gets."""

    def normalise(
        self, rewards: npt.NDArray[Any], ended: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Return the learner's rewards of one rollout.

        Args:
            rewards: raw [env steps of each environment, environments].
            ended: of the same shape, whether an episode ended with that env step.
        """
        ...


class RewardSigns:
    """Leaves of every reward its sign: −1, 0 or 1.

    Source: Mnih et al., "Human-level control through deep reinforcement learning" (Nature 2015).
    """

    def normalise(
        self,
        rewards: npt.NDArray[Any],
        ended: npt.NDArray[np.bool_],  # noqa: ARG002 # the protocol's
    ) -> npt.NDArray[np.float32]:
        """Return the signs of ``rewards``."""
        signs: npt.NDArray[np.float32] = np.sign(rewards).astype(np.float32)
        return signs

    def state(self) -> State:
        """Return nothing: there is none."""
        return {}

    def restore(self, state: State) -> None:
        """Do nothing."""


class RewardNormaliser:
    """Divides rewards by the running standard deviation of their discounted sum, within ±10.

    Args:
        number_of_envs: environments whose sums are followed.
        gamma: the discount; the base value of the run, never a scheduled one.
    """

    def __init__(self, number_of_envs: int, gamma: float) -> None:
        self.moments = RunningMoments(1)
        self._gamma = gamma
        self._sums = np.zeros(number_of_envs)

    def normalise(
        self,
        rewards: npt.NDArray[np.float64],
        ended: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float32]:
        """Take one rollout's raw rewards into account and return them scaled.

        Args:
            rewards: raw [env steps of each environment, environments].
            ended: of the same shape, whether an episode ended with that env step.
        """
        sums = np.empty_like(rewards)
        running = self._sums
        continues = 1.0 - ended
        for now, reward in enumerate(rewards):
            sums[now] = running = self._gamma * running + reward
            running = running * continues[now]
        self._sums = running
        self.moments.update(sums.reshape(-1, 1))
        scaled = rewards / np.sqrt(self.moments.variance + _EPSILON)
        return np.clip(scaled, -_LIMIT, _LIMIT).astype(np.float32)

    def state(self) -> State:
        """Return the moments and the sums of the episodes that have not ended."""
        return {"moments": self.moments.state(), "sums": self._sums}

    def restore(self, state: State) -> None:
        """Go on where ``state`` was taken."""
        self.moments.restore(state["moments"])
        self._sums = state["sums"]
