"""What A2C and ACKTR share, a short rollout, one loss, one step on it; and A2C itself.

A2C is the advantage actor-critic, the synchronous form of A3C.

Source: Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning" (ICML 2016).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from torch import Tensor

from hyperoracle_trainers.algorithms.decisions import Decisions
from hyperoracle_trainers.algorithms.optimisers import RMSprop
from hyperoracle_trainers.algorithms.phase import Phase, explained_variance
from hyperoracle_trainers.algorithms.rollouts import Rollout, generalised_advantages, standardised
from hyperoracle_trainers.algorithms.trainer import PhaseClock, SettingsType, Trainer
from hyperoracle_trainers.hyperparameters.settings import A2CSettings


class ActorCriticTrainer(Trainer[SettingsType]):
    """Collects a short rollout with today's policy, then takes one step on it.

    Attributes:
        step_metrics: names of what :meth:`_descend` returns.
    """

    step_metrics: ClassVar[tuple[str, ...]]

    def _phases(self, decisions: Decisions) -> Iterator[Phase]:
        index, env_step, update_step = self.place.counts
        names = ("policy_loss", "value_loss", "entropy", *self.step_metrics, "explained_variance")
        metrics = {name: self.place.metrics.get(name, 0.0) for name in names}
        while env_step < self.settings.total_env_steps:
            clock = PhaseClock()
            held = decisions.begin_phase(env_step)
            rollout = self._collector.collect(int(held["rollout_length"]))
            env_step += rollout.env_steps
            clock.collected()

            decisions.report(rollout, env_step)
            progress = env_step / self.settings.total_env_steps
            chosen = decisions.make(
                env_step=env_step,
                update_step=update_step,
                signals={"progress": progress} | metrics,
            )
            used = rollout.of_first(int(held["envs_per_update"]))
            metrics = self._update(used, held, chosen)
            update_step += 1

            yield clock.close(index, env_step, update_step, rollout, held, decisions, metrics)
            index += 1

    @np.errstate(over="ignore", invalid="ignore")  # a loss that diverged is told by the caller
    def _update(
        self, rollout: Rollout, held: Mapping[str, float], chosen: Mapping[str, float]
    ) -> dict[str, float]:
        """Take one optimiser step on a rollout and return its metrics."""
        everything = self._tensor(rollout.all_observations())
        actions = self._tensor(rollout.actions).flatten(0, 1)
        now = self._pass(everything, actions)
        values = rollout.values_of(now.values)
        advantages = generalised_advantages(
            rollout.rewards,
            values,
            rollout.terminated | rollout.truncated,
            gamma=held["gamma"],
            gae_lambda=held["gae_lambda"],
        )
        returns = advantages + values.states
        foreseen = explained_variance(returns, advantages)

        size = rollout.env_steps
        weights = advantages.ravel()
        if self.settings.normalise_advantages and size > 1:
            weights = standardised(weights)
        policy_loss = -(weights * now.log_probs).mean()
        errors = now.values[:size] - returns.ravel()
        value_loss = (errors * errors).mean()
        # The loss: policy loss + coefficient x value loss - coefficient x entropy.
        now.backward(
            by_log_probs=weights / -size,
            by_entropy=-chosen["entropy_coefficient"],
            by_values=errors * (2.0 * chosen["value_loss_coefficient"] / size),
        )
        return {
            "policy_loss": float(policy_loss),
            "value_loss": float(value_loss),
            "entropy": now.entropy,
            **self._descend(everything[:size], chosen),
            "explained_variance": foreseen,
        }

    @abstractmethod
    def _descend(self, observations: Tensor, chosen: Mapping[str, float]) -> dict[str, float]:
        """Take one step down the gradient in the parameters' ``grad``; return the step's metrics.

        Args:
            observations: those that it was computed from [batch, *observation_shape].
            chosen: the hyperparameters of this update.
        """


class A2C(ActorCriticTrainer[A2CSettings]):
    """Collect a short rollout with today's policy, then take one gradient step on it.

    Args:
        settings: what the run is made from.
    """

    step_metrics = ("grad_norm",)

    def __init__(self, settings: A2CSettings) -> None:
        self._rmsprop = RMSprop(settings.rmsprop_alpha, settings.rmsprop_epsilon, settings.momentum)
        super().__init__(settings, self._rmsprop)

    def _descend(
        self,
        observations: Tensor,  # noqa: ARG002 # K-FAC needs them
        chosen: Mapping[str, float],
    ) -> dict[str, float]:
        self._rmsprop.alpha = chosen["rmsprop_alpha"]
        self._rmsprop.momentum = chosen["momentum"]
        grad_norm = self._optimiser.descend(
            learning_rate=chosen["learning_rate"], max_grad_norm=chosen["max_grad_norm"]
        )
        return {"grad_norm": grad_norm}
