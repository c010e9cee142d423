"""Proximal policy optimisation with a clipped objective.

Source: Schulman et al., "Proximal Policy Optimization Algorithms" (2017), Eq. 7; details as in
Huang et al., "The 37 Implementation Details of Proximal Policy Optimization" (ICLR blog, 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hyperoracle_trainers.algorithms.decisions import Decisions
from hyperoracle_trainers.algorithms.optimisers import Adam
from hyperoracle_trainers.algorithms.phase import Phase, explained_variance
from hyperoracle_trainers.algorithms.rollouts import Rollout, generalised_advantages, standardised
from hyperoracle_trainers.algorithms.trainer import PhaseClock, Trainer
from hyperoracle_trainers.hyperparameters.settings import PPOSettings

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

    def numbers(self) -> list[npt.NDArray[np.float32]]:
        """Return log_probs, values, advantages and returns."""
        columns = (self.log_probs, self.values, self.advantages, self.returns)
        return [column.cpu().numpy() for column in columns]

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
        index, env_step, update_step = self.place.counts
        metrics = {name: self.place.metrics.get(name, 0.0) for name in _METRICS}
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
        """Judge a rollout by the policy that collected it, in the numbers of an update."""
        everything = self._tensor(rollout.all_observations())
        actions = self._tensor(rollout.actions).flatten(0, 1)
        log_probs, all_values = self._judged(rollout, everything, actions)
        values = rollout.values_of(all_values)
        advantages = generalised_advantages(
            rollout.rewards,
            values,
            rollout.terminated | rollout.truncated,
            gamma=gamma,
            gae_lambda=gae_lambda,
        )
        size = rollout.env_steps
        return _Batch(
            everything[:size],
            actions,
            self._tensor(log_probs),
            self._tensor(all_values[:size]),
            self._tensor(advantages).flatten(),
            self._tensor(advantages + values.states).flatten(),
        )

    def _judged(
        self, rollout: Rollout, everything: Tensor, actions: Tensor
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return log-probabilities of the actions and values of everything, as when acting.

        Acting gave both as it went along, but for the observations that were not acted on, or a
        pass gives them now.
        """
        if rollout.outputs is None or rollout.values is None:
            now = self._pass(everything, actions)
            return now.log_probs, now.values
        outputs = self._tensor(rollout.outputs.reshape(len(actions), -1))
        log_probs, _ = self.policy.distribution.log_prob_and_entropy(outputs, actions)
        _, others = self.policy.outputs_and_values(everything[rollout.env_steps :])
        values = np.concatenate([rollout.values.ravel(), others.cpu().numpy()])
        return log_probs.cpu().numpy(), values

    def _minibatches(self, batch: _Batch, held: Mapping[str, float]) -> Iterator[_Batch]:
        """Yield the parts of one random permutation of the batch per epoch."""
        size = len(batch.advantages)
        count = min(int(held["number_of_minibatches"]), size)
        for _ in range(int(held["epochs"])):
            order = self._tensor(self._generator.permutation(size))
            yield from batch.shuffled(order).parts(count)

    @np.errstate(over="ignore", invalid="ignore")  # a loss that diverged is told by the caller
    def _update(self, batch: _Batch, hyperparameters: Mapping[str, float]) -> list[float]:
        """Take one optimiser step on a minibatch and return its metrics, in their order."""
        now = self._pass(batch.observations, batch.actions)
        old_log_probs, old_values, advantages, returns = batch.numbers()
        size = len(advantages)

        if self.settings.normalise_advantages and size > 1:
            advantages = standardised(advantages)
        clip_range = hyperparameters["clip_range"]
        log_ratio = now.log_probs - old_log_probs
        ratio = np.exp(log_ratio)
        free = advantages * ratio
        clipped = advantages * np.clip(ratio, 1.0 - clip_range, 1.0 + clip_range)
        policy_loss = -np.minimum(free, clipped).mean()
        # d ratio / d log-probability is the ratio itself; a clipped ratio does not change.
        by_log_probs = np.where(free <= clipped, free, 0.0) / -size

        values, counts = now.values, np.True_
        if (limit := self.settings.value_clip_range) is not None:
            change = values - old_values
            counts = np.abs(change) <= limit
            values = old_values + np.clip(change, -limit, limit)
        errors = values - returns
        value_loss = (errors * errors).mean()
        by_values = counts * errors * (2.0 * hyperparameters["value_loss_coefficient"] / size)

        # The loss: policy loss + coefficient x value loss - coefficient x entropy.
        by_entropy = -hyperparameters["entropy_coefficient"]
        now.backward(by_log_probs=by_log_probs, by_entropy=by_entropy, by_values=by_values)
        grad_norm = self._optimiser.descend(
            learning_rate=hyperparameters["learning_rate"],
            max_grad_norm=hyperparameters["max_grad_norm"],
        )
        # Schulman's estimator of the KL divergence, unbiased and never negative.
        approx_kl = (ratio - 1.0 - log_ratio).mean()
        clip_fraction = (np.abs(ratio - 1.0) > clip_range).mean()
        figures = (policy_loss, value_loss, now.entropy, approx_kl, clip_fraction)
        return [*map(float, figures), grad_norm]
