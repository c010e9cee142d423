"""What A2C and ACKTR share: a short rollout, one loss, one step on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from hyperoracle_trainers.apply_hyperparameters import Decisions
from hyperoracle_trainers.phase import Phase, explained_variance
from hyperoracle_trainers.rollouts import Rollout, generalised_advantages
from hyperoracle_trainers.trainer import PhaseClock, SettingsType, Trainer


class ActorCriticTrainer(Trainer[SettingsType]):
    """Collects a short rollout with today's policy, then takes one step on it.

    Attributes:
        step_metrics: names of what :meth:`_descend` returns.
    """

    step_metrics: ClassVar[tuple[str, ...]]

    def _phases(self, decisions: Decisions) -> Iterator[Phase]:
        index = env_step = update_step = 0
        names = ("policy_loss", "value_loss", "entropy", *self.step_metrics, "explained_variance")
        metrics = dict.fromkeys(names, 0.0)
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
            metrics = self._update(rollout, held, chosen)
            update_step += 1

            yield clock.close(index, env_step, update_step, rollout, held, decisions, metrics)
            index += 1

    def _update(
        self, rollout: Rollout, held: Mapping[str, float], chosen: Mapping[str, float]
    ) -> dict[str, float]:
        """Take one optimiser step on a rollout and return its metrics."""
        everything = torch.from_numpy(rollout.all_observations())
        all_values = self.policy.values(everything)
        values = rollout.values_of(all_values.detach().numpy())
        advantages = generalised_advantages(
            rollout.rewards,
            values,
            rollout.terminated | rollout.truncated,
            gamma=held["gamma"],
            gae_lambda=held["gae_lambda"],
        )
        returns = advantages + values.states
        foreseen = explained_variance(returns, advantages)

        observations = everything[: rollout.env_steps]
        actions = torch.from_numpy(rollout.actions).flatten(0, 1)
        log_probs, entropy = self.policy.log_prob_and_entropy(observations, actions)

        weights = torch.from_numpy(advantages).flatten()
        if self.settings.normalise_advantages and len(weights) > 1:
            weights = (weights - weights.mean()) / (weights.std() + 1e-8)
        policy_loss = -(weights * log_probs).mean()
        value_loss = functional.mse_loss(
            all_values[: rollout.env_steps], torch.from_numpy(returns).flatten()
        )
        loss = (
            policy_loss
            + chosen["value_loss_coefficient"] * value_loss
            - chosen["entropy_coefficient"] * entropy
        )
        figures = self._descend(loss, observations, chosen)
        return {
            "policy_loss": policy_loss.item(),
            "value_loss": value_loss.item(),
            "entropy": entropy.item(),
            **figures,
            "explained_variance": foreseen,
        }

    @abstractmethod
    def _descend(
        self, loss: Tensor, observations: Tensor, chosen: Mapping[str, float]
    ) -> dict[str, float]:
        """Take one step down the gradient of ``loss`` and return the step's metrics.

        Args:
            loss: a scalar.
            observations: those that it was computed from [batch, observation_size].
            chosen: the hyperparameters of this update.
        """
