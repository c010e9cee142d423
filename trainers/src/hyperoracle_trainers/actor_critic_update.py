"""What A2C and ACKTR share: a short rollout, one loss, one step on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

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
            used = rollout.of_first(int(held["envs_per_update"]))
            metrics = self._update(used, held, chosen)
            update_step += 1

            yield clock.close(index, env_step, update_step, rollout, held, decisions, metrics)
            index += 1

    def _update(
        self, rollout: Rollout, held: Mapping[str, float], chosen: Mapping[str, float]
    ) -> dict[str, float]:
        """Take one optimiser step on a rollout and return its metrics."""
        everything = self._tensor(rollout.all_observations())
        outputs, all_values = self.policy.outputs_and_values(everything)
        values = rollout.values_of(all_values.detach().cpu().numpy())
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
        actions = self._tensor(rollout.actions).flatten(0, 1)
        distribution = self.policy.distribution
        log_probs, entropy = distribution.log_prob_and_entropy(outputs[:size], actions)

        weights = self._tensor(advantages).flatten()
        if self.settings.normalise_advantages and len(weights) > 1:
            weights = (weights - weights.mean()) / (weights.std() + 1e-8)
        policy_loss = -(weights * log_probs).mean()
        value_loss = functional.mse_loss(all_values[:size], self._tensor(returns).flatten())
        loss = (
            policy_loss
            + chosen["value_loss_coefficient"] * value_loss
            - chosen["entropy_coefficient"] * entropy
        )
        figures = self._descend(loss, everything[:size], chosen)
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
            observations: those that it was computed from [batch, *observation_shape].
            chosen: the hyperparameters of this update.
        """
