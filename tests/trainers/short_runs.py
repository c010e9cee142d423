"""Short runs and a source that writes down what it is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.algorithms.trainer import Trainer
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.sources import HyperparameterSource
from hyperoracle_trainers.runs.run import make_trainer

PPO_SMALL = {"number_of_envs": 2, "rollout_length": 16, "epochs": 2, "number_of_minibatches": 4}
A2C_SMALL = {"number_of_envs": 2, "rollout_length": 8}
ACKTR_SMALL = {"number_of_envs": 2, "rollout_length": 8}
SMALL = {"ppo": PPO_SMALL, "a2c": A2C_SMALL, "acktr": ACKTR_SMALL}
ALGORITHMS = list(SMALL)


class Scripted:
    """Proposes what it is told to and writes down every call.

    Args:
        answers: proposed in turn; the last one again and again.
        relative: names whose proposal is a factor.
    """

    def __init__(
        self, answers: Sequence[Mapping[str, float]] = ({},), relative: Collection[str] = ()
    ) -> None:
        self.relative = relative
        self.calls: list[tuple[str, int]] = []
        self.reports: list[tuple[Sequence[float], float]] = []
        self.signals: list[Mapping[str, float]] = []
        self._answers = list(answers)

    def propose(
        self, *, env_step: int, update_step: int, signals: Mapping[str, float]
    ) -> Mapping[str, float]:
        self.calls.append(("propose", update_step))
        self.signals.append(signals)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def report(
        self, episode_returns: Sequence[float], *, env_step: int, phase_return: float
    ) -> None:
        self.calls.append(("report", env_step))
        self.reports.append((episode_returns, phase_return))

    def finish(self, *, failed: bool = False) -> None:
        self.calls.append(("finish", int(failed)))


def small_trainer(
    algorithm: str, env_id: str = "CartPole-v1", *, phases: int = 3, **changes: Any
) -> Trainer[Any]:
    values = SMALL[algorithm] | {"decay_learning_rate": False} | changes
    total = values["number_of_envs"] * values["rollout_length"] * phases
    return make_trainer(
        default_settings(algorithm, env_id, **{"total_env_steps": total, "seed": 7} | values)
    )


def train(
    algorithm: str, source: HyperparameterSource | None = None, **changes: Any
) -> tuple[list[Phase], torch.Tensor]:
    """Return the phases of a short run and its final parameters as one vector."""
    trainer = small_trainer(algorithm, **changes)
    phases = list(trainer.train(source))
    return phases, weights_of(trainer)


def weights_of(trainer: Trainer[Any]) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in trainer.policy.parameters()])


def outcome(phases: Sequence[Phase]) -> list[tuple[Any, ...]]:
    """Everything in the records but wall times."""
    return [
        (phase.env_step, phase.update_step, phase.episode_returns, dict(phase.metrics))
        for phase in phases
    ]
