"""Advantage actor-critic, the synchronous form of A3C.

Source: Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning" (ICML 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch.nn import functional

from hyperoracle_trainers.apply_hyperparameters import Decisions
from hyperoracle_trainers.optimisation import RMSprop
from hyperoracle_trainers.phase import Phase, explained_variance
from hyperoracle_trainers.rollouts import Rollout, generalised_advantages
from hyperoracle_trainers.settings import A2CSettings
from hyperoracle_trainers.trainer import PhaseClock, Trainer

_METRICS = ("policy_loss", "value_loss", "entropy", "grad_norm", "explained_variance")


class A2C(Trainer[A2CSettings]):
    """Collect a short rollout with today's policy, then take one gradient step on it.

    Args:
        settings: what the run is made from.
    """

    def __init__(self, settings: A2CSettings) -> None:
        super().__init__(settings, RMSprop(settings.rmsprop_alpha, settings.rmsprop_epsilon))

    def _phases(self, decisions: Decisions) -> Iterator[Phase]:
        index = env_step = update_step = 0
        metrics = dict.fromkeys(_METRICS, 0.0)
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
        grad_norm = self._optimiser.descend(
            loss, learning_rate=chosen["learning_rate"], max_grad_norm=chosen["max_grad_norm"]
        )
        return {
            "policy_loss": policy_loss.item(),
            "value_loss": value_loss.item(),
            "entropy": entropy.item(),
            "grad_norm": grad_norm,
            "explained_variance": foreseen,
        }
