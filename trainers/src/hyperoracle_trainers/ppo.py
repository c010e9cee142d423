"""Proximal policy optimisation with a clipped objective.

Source: Schulman et al., "Proximal Policy Optimization Algorithms" (2017), Eq. 7; details as in
Huang et al., "The 37 Implementation Details of Proximal Policy Optimization" (ICLR blog, 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hyperoracle_trainers.apply_hyperparameters import Decisions
from hyperoracle_trainers.optimisation import Adam
from hyperoracle_trainers.phase import Phase, explained_variance
from hyperoracle_trainers.rollouts import Rollout, generalised_advantages
from hyperoracle_trainers.settings import PPOSettings
from hyperoracle_trainers.trainer import PhaseClock, Trainer

_METRICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")


@dataclass(frozen=True)
class _Batch:
    """A rollout, or a part of one, as training sees it; all [batch, …]."""

    observations: Tensor
    actions: Tensor
    log_probs: Tensor  # under the policy that acted
    values: Tensor  # the critic's before the update
    advantages: Tensor
    returns: Tensor

    def shuffled(self, order: Tensor) -> _Batch:
        return _Batch(*(column.index_select(0, order) for column in vars(self).values()))

    def parts(self, count: int) -> Iterator[_Batch]:
        columns = (column.tensor_split(count) for column in vars(self).values())
        return (_Batch(*part) for part in zip(*columns, strict=True))


class PPO(Trainer[PPOSettings]):
    """Collect with today's policy, then several epochs of minibatch updates on what was collected.

    Args:
        settings: what the run is made from.
    """

    def __init__(self, settings: PPOSettings) -> None:
        super().__init__(settings, Adam(settings.adam_epsilon))

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
            used = rollout.of_first(int(held["envs_per_update"]))
            batch = self._batch(used, held["gamma"], held["gae_lambda"])
            foreseen = explained_variance(
                batch.returns.cpu().numpy(), batch.advantages.cpu().numpy()
            )
            progress = env_step / self.settings.total_env_steps
            seen = {"progress": progress, "explained_variance": foreseen}
            chosen: Mapping[str, float] = {}
            history: list[list[float]] = []
            for minibatch in self._minibatches(batch, held):
                if not chosen or self.settings.decisions == "minibatch":
                    if history:
                        metrics = dict(zip(_METRICS, history[-1], strict=True))
                    chosen = decisions.make(
                        env_step=env_step, update_step=update_step, signals=seen | metrics
                    )
                history.append(self._update(minibatch, chosen))
                update_step += 1
            metrics = dict(zip(_METRICS, np.mean(history, axis=0).tolist(), strict=True))

            measured = metrics | {"explained_variance": foreseen}
            yield clock.close(index, env_step, update_step, rollout, held, decisions, measured)
            index += 1

    @torch.no_grad()
    def _batch(self, rollout: Rollout, gamma: float, gae_lambda: float) -> _Batch:
        """Judge a rollout by the policy that collected it, in torch's own numbers."""
        everything = self._tensor(rollout.all_observations())
        outputs, all_values = self.policy.outputs_and_values(everything)
        values = rollout.values_of(all_values.cpu().numpy())
        advantages = generalised_advantages(
            rollout.rewards,
            values,
            rollout.terminated | rollout.truncated,
            gamma=gamma,
            gae_lambda=gae_lambda,
        )
        size = rollout.env_steps
        actions = self._tensor(rollout.actions).flatten(0, 1)
        log_probs, _ = self.policy.distribution.log_prob_and_entropy(outputs[:size], actions)
        return _Batch(
            everything[:size],
            actions,
            log_probs,
            all_values[:size],
            self._tensor(advantages).flatten(),
            self._tensor(advantages + values.states).flatten(),
        )

    def _minibatches(self, batch: _Batch, held: Mapping[str, float]) -> Iterator[_Batch]:
        """Yield the parts of one random permutation of the batch per epoch."""
        size = len(batch.advantages)
        count = min(int(held["number_of_minibatches"]), size)
        for _ in range(int(held["epochs"])):
            order = self._tensor(self._generator.permutation(size))
            yield from batch.shuffled(order).parts(count)

    def _update(self, batch: _Batch, hyperparameters: Mapping[str, float]) -> list[float]:
        """Take one optimiser step on a minibatch and return its metrics, in their order."""
        log_probs, entropy, values = self.policy.evaluate(batch.observations, batch.actions)

        advantages = batch.advantages
        if self.settings.normalise_advantages and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clip_range = hyperparameters["clip_range"]
        log_ratio = log_probs - batch.log_probs
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
        policy_loss = -torch.minimum(advantages * ratio, advantages * clipped).mean()

        if (limit := self.settings.value_clip_range) is not None:
            values = batch.values + (values - batch.values).clamp(-limit, limit)
        value_loss = functional.mse_loss(values, batch.returns)

        loss = (
            policy_loss
            + hyperparameters["value_loss_coefficient"] * value_loss
            - hyperparameters["entropy_coefficient"] * entropy
        )
        grad_norm = self._optimiser.descend(
            loss,
            learning_rate=hyperparameters["learning_rate"],
            max_grad_norm=hyperparameters["max_grad_norm"],
        )
        with torch.no_grad():
            # Schulman's estimator of the KL divergence, unbiased and never negative.
            approx_kl = (ratio - 1.0 - log_ratio).mean()
            clip_fraction = ((ratio - 1.0).abs() > clip_range).float().mean()
            figures = (policy_loss, value_loss, entropy, approx_kl, clip_fraction)
            return [*(figure.item() for figure in figures), grad_norm]
