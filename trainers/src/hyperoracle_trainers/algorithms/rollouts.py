"""One environment phase: collecting a rollout, bootstrapping at its ends, advantages.

Shapes are [env steps of each environment, environments, …], time first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hyperoracle_trainers.environments.failures import (
    EnvironmentFailed,
    TrainingDivergedError,
    are_numbers,
    check_first_observations,
    no_number,
    no_numbers,
)
from hyperoracle_trainers.environments.normalisation import (
    ObservationNormaliser,
    RewardTransformation,
)
from hyperoracle_trainers.environments.vector import Environments
from hyperoracle_trainers.policies.networks import Actor
from hyperoracle_trainers.saved_state import State


@dataclass(frozen=True)
class Rollout:
    """What one environment phase brought.

    Arrays may be overwritten by the next phase.

    Attributes:
        observations: [steps + 1, environments, *observation_shape], as the policy saw them; the
            last row is what it would have seen next. Float32, images uint8.
        actions: [steps, environments, …] as drawn, before they were clipped to bounds.
        rewards: float32 [steps, environments], normalised if that is wanted.
        terminated: bool [steps, environments]: the task itself ended, nothing is to be had after.
        truncated: bool [steps, environments]: a time limit cut the episode, and not the task.
        final_observations: [cuts, *observation_shape], the last observation of every truncated
            episode, in the order of ``np.argwhere(truncated)``.
        episode_returns: raw undiscounted returns of the episodes that ended in this phase.
        episode_lengths: their lengths in env steps.
        phase_return: sum of raw rewards, discounted by the base gamma from the phase's first env
            step on, mean over environments.
        outputs: the actor's [steps, environments, output_size], if they and the values were had
            together; None if not.
        values: the critic's of the same observations [steps, environments], or None.
    """

    observations: npt.NDArray[Any]
    actions: npt.NDArray[Any]
    rewards: npt.NDArray[np.float32]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    final_observations: npt.NDArray[Any]
    episode_returns: Sequence[float]
    episode_lengths: Sequence[int]
    phase_return: float
    outputs: npt.NDArray[np.float32] | None = None
    values: npt.NDArray[np.float32] | None = None

    @property
    def env_steps(self) -> int:
        """Env steps taken, summed over the environments."""
        return self.rewards.size

    def of_first(self, environments: int) -> Rollout:
        """Return what the first so many environments brought; all, if there are no more.

        Its returns, of episodes and of the phase, stay those of all environments.
        """
        if environments >= self.rewards.shape[1]:
            return self
        cut_in = np.argwhere(self.truncated)[:, 1]
        return replace(
            self,
            observations=self.observations[:, :environments],
            actions=self.actions[:, :environments],
            rewards=self.rewards[:, :environments],
            terminated=self.terminated[:, :environments],
            truncated=self.truncated[:, :environments],
            final_observations=self.final_observations[cut_in < environments],
            outputs=None if self.outputs is None else self.outputs[:, :environments],
            values=None if self.values is None else self.values[:, :environments],
        )

    def values_of(self, values: npt.NDArray[np.float32]) -> ValuesOfRollout:
        """Sort the values of :meth:`all_observations` into those of states and of successors.

        Args:
            values: [all], one per row of :meth:`all_observations`.
        """
        states = values[: len(values) - len(self.final_observations)]
        states = states.reshape(self.observations.shape[:2])
        successors = states[1:].copy()
        successors[self.terminated] = 0.0
        successors[self.truncated] = values[len(values) - len(self.final_observations) :]
        return ValuesOfRollout(states[:-1], successors)

    def all_observations(self) -> npt.NDArray[Any]:
        """Return [all, *observation_shape]: observations of all env steps, the next, the final."""
        seen = self.observations.reshape(-1, *self.observations.shape[2:])
        if not len(self.final_observations):
            return seen
        return np.concatenate([seen, self.final_observations])


@dataclass(frozen=True)
class ValuesOfRollout:
    """The critic's opinion of a rollout, float32 [steps, environments] each.

    Attributes:
        states: values of the observations acted on.
        successors: values of what came after: 0 where the task ended, the value of the episode's
            final observation where a time limit cut it.
    """

    states: npt.NDArray[np.float32]
    successors: npt.NDArray[np.float32]


def generalised_advantages(
    rewards: npt.NDArray[np.float32],
    values: ValuesOfRollout,
    ended: npt.NDArray[np.bool_],
    *,
    gamma: float,
    gae_lambda: float,
) -> npt.NDArray[np.float32]:
    """Return the advantages δ_t + γλ δ_{t+1} + (γλ)² δ_{t+2} + … to the episode's end.

    Args:
        rewards: r_t [steps, environments]; so is everything else.
        values: V(s_t) and V(s_{t+1}), so that δ_t = r_t + γ V(s_{t+1}) − V(s_t).
        ended: whether an episode ended, for whatever reason, between s_t and s_{t+1}.
        gamma: discount, within [0, 1].
        gae_lambda: decay, within [0, 1].

    Source:
        Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
        Estimation" (ICLR 2016), Eq. 16.
    """
    errors = rewards + gamma * values.successors - values.states
    decay = (gamma * gae_lambda * ~ended).astype(np.float32)
    advantages: npt.NDArray[np.float32] = errors.astype(np.float32, copy=False)
    for now in range(len(advantages) - 2, -1, -1):
        advantages[now] += decay[now] * advantages[now + 1]
    return advantages


def standardised(advantages: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return advantages [batch], at least 2, with mean 0 and (sample) standard deviation 1."""
    centred: npt.NDArray[np.float32] = advantages - advantages.mean()
    deviation = math.sqrt((centred @ centred) / (len(centred) - 1))
    centred /= deviation + 1e-8
    return centred


class Collector:
    """Collects rollouts with today's policy and remembers unfinished episodes between them.

    Args:
        environments: stepped by nobody else.
        actor: the policy.
        observation_normaliser: learns from every observation that is collected.
        reward_normaliser: what the learner gets for rewards; None leaves them raw.
        gamma: base discount, for the phase return.
        generator: source of all sampling.
    """

    def __init__(
        self,
        environments: Environments,
        actor: Actor,
        observation_normaliser: ObservationNormaliser,
        reward_normaliser: RewardTransformation | None,
        gamma: float,
        generator: np.random.Generator,
    ) -> None:
        self._environments = environments
        self._actor = actor
        self._observation_normaliser = observation_normaliser
        self._reward_normaliser = reward_normaliser
        self._gamma = gamma
        self._generator = generator
        self._buffers: _Buffers | None = None
        self._steps = 0
        check_first_observations(environments.observations)
        self._next_observations = observation_normaliser.observe(environments.observations)
        self._returns = np.zeros(len(environments))
        self._lengths = np.zeros(len(environments), dtype=np.int64)

    @np.errstate(over="ignore", invalid="ignore")  # what is no number is told in its own words
    def collect(self, rollout_length: int) -> Rollout:
        """Take ``rollout_length`` env steps in every environment.

        The rollout's arrays are reused by the next call of the same length.

        Raises:
            EnvironmentFailed: an environment raised, or gave what is no number.
            TrainingDivergedError: the policy's actions are no numbers.
        """
        environments, distribution = self._environments, self._actor.distribution
        buffers = self._buffers_for(rollout_length)
        noise = distribution.noise(self._generator, (rollout_length, len(environments)))
        finals: list[npt.NDArray[Any]] = []
        episode_returns: list[float] = []
        episode_lengths: list[int] = []
        lengths_before = self._lengths.copy()
        looks = buffers.raw_observations.size > 0
        observations = self._next_observations
        for now in range(rollout_length):
            buffers.observations[now] = observations
            outputs = self._actor.outputs(observations)
            actions = distribution.sample(outputs, noise[now])
            if self._actor.values is not None:
                buffers.outputs[now], buffers.values[now] = outputs, self._actor.values
            buffers.actions[now] = actions
            try:
                environments.step(actions)
            except EnvironmentFailed as failure:
                # Perhaps it was asked for what is no action, because it had shown no numbers.
                self._check_numbers(buffers, now, lengths_before)
                raise self._explained(failure, buffers, now, lengths_before) from failure
            if looks:
                buffers.raw_observations[now] = environments.observations
            buffers.raw_rewards[now] = environments.rewards
            buffers.terminated[now] = environments.terminated
            buffers.truncated[now] = environments.truncated
            observations = self._observation_normaliser.observe(environments.observations)
            self._returns += environments.rewards
            self._lengths += 1
            for index, final in environments.final_observations.items():
                episode_returns.append(float(self._returns[index]))
                episode_lengths.append(int(self._lengths[index]))
                self._returns[index] = self._lengths[index] = 0
                if not environments.terminated[index]:
                    finals.append(final)
                    if not are_numbers(final):
                        wrong = no_number(index, "last observation of an episode", final)
                        raise self._explained(wrong, buffers, now, lengths_before)
        self._next_observations = buffers.observations[-1] = observations
        self._check_numbers(buffers, rollout_length, lengths_before)
        self._steps += rollout_length
        return self._finished(buffers, finals, episode_returns, episode_lengths)

    def state(self) -> State:
        """Return the environments', the reward normaliser's and the unfinished episodes' state."""
        rewards = self._reward_normaliser
        return {
            "environments": self._environments.state(),
            "reward_normaliser": None if rewards is None else rewards.state(),
            "next_observations": self._next_observations,
            "returns": self._returns,
            "lengths": self._lengths,
            "steps": self._steps,
        }

    def restore(self, state: State) -> list[int]:
        """Go on where ``state`` was taken; restore the observation normaliser first.

        Returns:
            The environments that could not be brought back to where they were: their episodes
            begin anew, so that the continuation is not exact.
        """
        anew = self._environments.restore(state["environments"])
        if self._reward_normaliser is not None:
            self._reward_normaliser.restore(state["reward_normaliser"])
        self._next_observations = state["next_observations"]
        self._returns, self._lengths = state["returns"], state["lengths"]
        self._steps = state.get("steps", 0)  # only what is said of failures depends on it
        if anew:
            first = self._observation_normaliser.normalise(self._environments.observations)
            self._next_observations[anew] = first[anew]
            self._returns[anew] = self._lengths[anew] = 0
        return anew

    def _check_numbers(
        self, buffers: _Buffers, steps: int, lengths_before: npt.NDArray[np.int64]
    ) -> None:
        """Do nothing if all that the environments gave in the first so many steps are numbers.

        Raises:
            EnvironmentFailed, TrainingDivergedError: something is none.
        """
        rewards, observations = buffers.raw_rewards[:steps], buffers.raw_observations[:steps]
        if are_numbers(rewards) and are_numbers(observations):
            return
        wrong_rewards = no_numbers(rewards)
        wrong = no_numbers(observations).reshape(*rewards.shape, -1).any(axis=2) | wrong_rewards
        now, index = np.argwhere(wrong)[0].tolist()
        what, given = "observation", observations[now, index]
        if wrong_rewards[now, index]:
            what, given = "reward", rewards[now, index]
        failure = no_number(index, what, given)
        raise self._explained(failure, buffers, now, lengths_before)

    def _explained(
        self,
        failure: EnvironmentFailed,
        buffers: _Buffers,
        now: int,
        lengths_before: npt.NDArray[np.int64],
    ) -> EnvironmentFailed | TrainingDivergedError:
        """Say when it was, and whether the policy is to blame."""
        index = failure.index
        env_step = (self._steps + now + 1) * len(self._environments)
        if not are_numbers(action := buffers.actions[now, index]):
            return TrainingDivergedError(
                f"expected finite actions of the policy, got {action.tolist()} at env step "
                f"{env_step}; lower learning_rate or max_grad_norm"
            )
        ended = np.flatnonzero((buffers.terminated | buffers.truncated)[:now, index])
        length = now - ended[-1] if len(ended) else lengths_before[index] + now + 1
        return failure.at(f"step {length} of its episode, env step {env_step:,} of the run")

    def _finished(
        self,
        buffers: _Buffers,
        finals: list[npt.NDArray[Any]],
        episode_returns: list[float],
        episode_lengths: list[int],
    ) -> Rollout:
        raw = buffers.raw_rewards
        # An episode that ends at its time limit with its task done has ended with its task.
        truncated = buffers.truncated & ~buffers.terminated
        if self._reward_normaliser is None:
            rewards = raw.astype(np.float32)
        else:
            rewards = self._reward_normaliser.normalise(raw, buffers.terminated | truncated)
        shape = self._environments.observation_shape
        final_observations = np.array(finals).reshape(-1, *shape)
        discounts = self._gamma ** np.arange(len(raw))
        return Rollout(
            observations=buffers.observations,
            actions=buffers.actions,
            rewards=rewards,
            terminated=buffers.terminated,
            truncated=truncated,
            final_observations=self._observation_normaliser.normalise(final_observations),
            episode_returns=tuple(episode_returns),
            episode_lengths=tuple(episode_lengths),
            phase_return=float((discounts @ raw).mean()),
            outputs=None if self._actor.values is None else buffers.outputs,
            values=None if self._actor.values is None else buffers.values,
        )

    def _buffers_for(self, rollout_length: int) -> _Buffers:
        if self._buffers is None or len(self._buffers.raw_rewards) != rollout_length:
            environments, distribution = self._environments, self._actor.distribution
            shape, raw = (rollout_length, len(environments)), environments.observations
            self._buffers = _Buffers(
                observations=np.empty(
                    (rollout_length + 1, *self._next_observations.shape),
                    self._next_observations.dtype,
                ),
                actions=np.empty((*shape, *distribution.action_shape), distribution.action_dtype),
                raw_observations=np.empty(
                    (*shape, *raw.shape[1:]) if raw.dtype.kind == "f" else (*shape, 0)
                ),
                raw_rewards=np.empty(shape),
                terminated=np.empty(shape, dtype=bool),
                truncated=np.empty(shape, dtype=bool),
                outputs=np.empty((*shape, distribution.output_size), np.float32),
                values=np.empty(shape, np.float32),
            )
        return self._buffers


@dataclass(frozen=True)
class _Buffers:
    observations: npt.NDArray[Any]
    actions: npt.NDArray[Any]
    raw_observations: npt.NDArray[np.float64]  # of images nothing: bytes are numbers
    raw_rewards: npt.NDArray[np.float64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    outputs: npt.NDArray[np.float32]
    values: npt.NDArray[np.float32]
