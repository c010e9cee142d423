"""Slow textbook forms of PPO's, A2C's and ACKTR's update phases, in double precision.

They share nothing with the trainers but the rollouts that they learn from, the initial weights and
the random numbers. Every hyperparameter is used where its definition says, and nowhere else.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperoracle_trainers.algorithms.rollouts import Rollout
from hyperoracle_trainers.hyperparameters.settings import ACKTRSettings, AnySettings, PPOSettings
from hyperoracle_trainers.policies.networks import ActorCritic

Values = Mapping[str, float]


class Reference:
    """A learner that is told which hyperparameters to use.

    Args:
        settings: what no hyperparameter decides.
        policy: the initial actor and critic, for discrete actions.
    """

    def __init__(self, settings: AnySettings, policy: ActorCritic) -> None:
        self._settings = settings
        self._policy = copy.deepcopy(policy).double()
        self._parameters = list(self._policy.parameters())
        self._updates = 0
        self._state: dict[str, Any] = {}

    def weights(self) -> Tensor:
        """Return all parameters as one vector."""
        return torch.cat([each.detach().flatten() for each in self._parameters])

    def learn(
        self,
        rollout: Rollout,
        generator: np.random.Generator,
        held: Values,
        chosen: Callable[[int], Values],
    ) -> None:
        """Run one update phase.

        Args:
            rollout: what the environment phase brought.
            generator: the trainer's, as the environment phase left it.
            held: values of what takes effect at the next phase.
            chosen: values of what takes effect at the minibatch, by update step.
        """
        samples = self._samples(rollout, held)
        for part in self._parts(len(samples["actions"]), held, generator):
            batch = {name: column[part] for name, column in samples.items()}
            values = chosen(self._updates)
            loss = self._loss(batch, values)
            gradients = [each.flatten() for each in torch.autograd.grad(loss, self._parameters)]
            gradient = torch.cat(gradients)
            gradient *= min(1.0, values["max_grad_norm"] / float(gradient.norm()))
            step = self._step(gradient, batch, values, generator)
            with torch.no_grad():
                weights = self.weights() - values["learning_rate"] * step
                nn.utils.vector_to_parameters(weights, self._parameters)
            self._updates += 1

    def _samples(self, rollout: Rollout, held: Values) -> dict[str, Tensor]:
        """Return the env steps of the environments that are learnt from, time first."""
        steps, environments = rollout.rewards.shape
        used = min(int(held["envs_per_update"]), environments)
        cuts = np.argwhere(rollout.truncated).tolist()
        final = {
            (now, environment): last
            for (now, environment), last in zip(cuts, rollout.final_observations, strict=True)
        }
        samples: dict[str, list[Any]] = {"observations": [], "actions": [], "advantages": []}
        for now in range(steps):
            for environment in range(used):
                samples["observations"].append(rollout.observations[now, environment])
                samples["actions"].append(rollout.actions[now, environment])
                samples["advantages"].append(
                    self._advantage(rollout, final, now, environment, held)
                )
        observations = torch.tensor(np.array(samples["observations"])).double()
        actions = torch.tensor(np.array(samples["actions"]))
        advantages = torch.tensor(samples["advantages"]).double()
        with torch.no_grad():
            values = self._policy.critic(observations).squeeze(1)
            log_probs = self._log_probs(observations).gather(1, actions[:, None]).squeeze(1)
        return {
            "observations": observations,
            "actions": actions,
            "advantages": advantages,
            "returns": advantages + values,
            "log_probs": log_probs,
        }

    def _advantage(
        self,
        rollout: Rollout,
        final: Mapping[tuple[int, int], np.ndarray],
        start: int,
        environment: int,
        held: Values,
    ) -> float:
        """Sum (γλ)ˡ (r + γ V(next) − V(now)) forward in time, to the episode's end."""
        total = 0.0
        for now in range(start, len(rollout.rewards)):
            following = self._value(rollout.observations[now + 1, environment])
            if rollout.truncated[now, environment]:
                following = self._value(final[now, environment])
            if rollout.terminated[now, environment]:
                following = 0.0
            error = float(rollout.rewards[now, environment]) + held["gamma"] * following
            error -= self._value(rollout.observations[now, environment])
            total += (held["gamma"] * held["gae_lambda"]) ** (now - start) * error
            if rollout.terminated[now, environment] or rollout.truncated[now, environment]:
                break
        return total

    @torch.no_grad()
    def _value(self, observation: np.ndarray) -> float:
        return float(self._policy.critic(torch.tensor(observation).double()))

    def _log_probs(self, observations: Tensor) -> Tensor:
        return torch.log_softmax(self._policy.actor(observations), dim=1)

    def _parts(self, size: int, held: Values, generator: np.random.Generator) -> Iterator[Tensor]:
        """Yield the indices of every minibatch of the phase."""
        if not isinstance(self._settings, PPOSettings):
            yield torch.arange(size)
            return
        count = min(int(held["number_of_minibatches"]), size)
        for _ in range(int(held["epochs"])):
            order = generator.permutation(size)
            yield from (torch.tensor(part) for part in np.array_split(order, count))

    def _loss(self, batch: Mapping[str, Tensor], values: Values) -> Tensor:
        advantages = batch["advantages"]
        if self._settings.normalise_advantages:
            advantages = (advantages - advantages.mean()) / advantages.std()
        all_log_probs = self._log_probs(batch["observations"])
        log_probs = all_log_probs.gather(1, batch["actions"][:, None]).squeeze(1)
        if isinstance(self._settings, PPOSettings):
            ratio = (log_probs - batch["log_probs"]).exp()
            bound = 1.0 + torch.sign(advantages) * values["clip_range"]
            clipped = torch.where(advantages > 0, ratio.minimum(bound), ratio.maximum(bound))
            gains = advantages * clipped
        else:
            gains = advantages * log_probs
        errors = batch["returns"] - self._policy.critic(batch["observations"]).squeeze(1)
        entropy = -(all_log_probs.exp() * all_log_probs).sum(1).mean()
        return (
            values["value_loss_coefficient"] * errors.square().mean()
            - gains.mean()
            - values["entropy_coefficient"] * entropy
        )

    def _step(
        self,
        gradient: Tensor,
        batch: Mapping[str, Tensor],
        values: Values,
        generator: np.random.Generator,
    ) -> Tensor:
        """Return what the learning rate multiplies."""
        settings = self._settings
        if isinstance(settings, PPOSettings):
            mean = self._average("mean", gradient, 0.9) / (1.0 - 0.9 ** (self._updates + 1))
            square = self._average("square", gradient.square(), 0.999)
            square = square / (1.0 - 0.999 ** (self._updates + 1))
            return mean / (square.sqrt() + settings.adam_epsilon)
        if isinstance(settings, ACKTRSettings):
            step = self._natural_step(settings, gradient, batch, values, generator)
        else:
            square = self._average("square", gradient.square(), values["rmsprop_alpha"])
            step = gradient / (square.sqrt() + settings.rmsprop_epsilon)
        return self._average("step", step, values["momentum"])

    def _average(self, name: str, new: Tensor, decay: float) -> Tensor:
        """Return a running mean that starts at 0."""
        self._state[name] = decay * self._state.get(name, torch.zeros_like(new)) + (1 - decay) * new
        average: Tensor = self._state[name]
        return average

    def _natural_step(
        self,
        settings: ACKTRSettings,
        gradient: Tensor,
        batch: Mapping[str, Tensor],
        values: Values,
        generator: np.random.Generator,
    ) -> Tensor:
        """Return the natural gradient within the trust regions, by dense Fisher matrices."""
        state = self._state
        gradient = gradient + values["weight_decay"] * self.weights()
        age = state.get("age_of_statistics")
        if age is None or age >= values["statistics_period"]:
            self._take_statistics(settings, batch["observations"], values, generator)
            state["age_of_statistics"] = 0
        age = state.get("age_of_inverses")
        if age is None or age >= values["inversion_period"]:
            state["inverted"] = dict(state["factors"])
            state["age_of_inverses"] = 0
        state["age_of_statistics"] += 1
        state["age_of_inverses"] += 1

        step, start = torch.zeros_like(gradient), 0
        for trunk in (self._policy.actor, self._policy.critic):
            region = slice(start, start + sum(each.numel() for each in trunk.parameters()))
            for layer in _linear_layers(trunk):
                size, outputs = layer.weight.numel(), layer.out_features
                inside, outside = state["inverted"][layer]
                place = slice(start, start + size + outputs)
                start = place.stop
                weight, bias = gradient[place].split([size, outputs])
                matrix = torch.cat([weight.view(outputs, -1), bias[:, None]], dim=1)
                natural = torch.linalg.solve(
                    _damped_fisher(inside, outside, values["damping"]), matrix.flatten()
                ).view(outputs, -1)
                step[place] = torch.cat([natural[:, :-1].flatten(), natural[:, -1]])
            decrease = float(gradient[region] @ step[region])  # ∇ᵀF⁻¹∇
            widest = math.sqrt(2.0 * values["kl_clip"] / decrease)
            step[region] *= min(values["step_size"], widest)
        return step

    def _take_statistics(
        self,
        settings: ACKTRSettings,
        observations: Tensor,
        values: Values,
        generator: np.random.Generator,
    ) -> None:
        """Average E[a aᵀ] of each layer's inputs and E[g gᵀ] of its outputs' gradients."""
        size = len(observations)
        gumbel = torch.tensor(generator.gumbel(size=(size, self._policy.distribution.output_size)))
        noise = torch.tensor(generator.standard_normal(size, dtype=np.float32)).double()
        factors = self._state.setdefault("factors", {})
        batches = self._state["batches"] = self._state.get("batches", 0) + 1
        for trunk, is_actor in ((self._policy.actor, True), (self._policy.critic, False)):
            hidden, seen = observations, []
            for layer in trunk:
                if isinstance(layer, nn.Linear):
                    inputs = torch.cat([hidden.detach(), torch.ones(size, 1).double()], dim=1)
                hidden = layer(hidden)
                if isinstance(layer, nn.Linear):
                    seen.append((layer, inputs, hidden))
            if is_actor:
                drawn = (hidden + gumbel).argmax(1)
                likelihood = torch.log_softmax(hidden, 1).gather(1, drawn[:, None]).sum()
            else:
                returns = hidden.squeeze(1).detach() + noise
                likelihood = -0.5 * (returns - hidden.squeeze(1)).square().sum()
                likelihood = values["fisher_coefficient"] * likelihood
            gradients = torch.autograd.grad(likelihood, [outputs for *_, outputs in seen])
            for (layer, inputs, _), g in zip(seen, gradients, strict=True):
                new = (inputs.T @ inputs / size, g.T @ g / size)
                old = factors.get(layer, new)
                decay = min(settings.statistics_decay, 1.0 - 1.0 / batches)
                factors[layer] = tuple(
                    decay * before + (1.0 - decay) * now
                    for before, now in zip(old, new, strict=True)
                )


def _linear_layers(trunk: nn.Module) -> list[nn.Linear]:
    return [layer for layer in trunk.modules() if isinstance(layer, nn.Linear)]


def _damped_fisher(inside: Tensor, outside: Tensor, damping: float) -> Tensor:
    """Return G ⊗ A + λ I."""
    fisher = torch.kron(outside, inside)
    return fisher + damping * torch.eye(len(fisher)).double()
