"""What the algorithms promise alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trainers.short_runs import (
    ALGORITHMS,
    PPO_SMALL,
    Scripted,
    outcome,
    small_trainer,
    train,
    weights_of,
)

from hyperoracle_trainers.algorithms.trainer import Trainer, TrainingDivergedError
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.settings import SettingsError
from hyperoracle_trainers.hyperparameters.sources import RecordedSource
from hyperoracle_trainers.runs.evaluation import evaluate
from hyperoracle_trainers.runs.log import RunLog
from hyperoracle_trainers.runs.run import make_trainer


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_equal_seeds_give_equal_runs_bit_by_bit(algorithm: str, env_id: str) -> None:
    changes: dict[str, Any] = {
        "env_id": env_id,
        "normalise_observations": True,
        "normalise_rewards": True,
    }
    phases, weights = train(algorithm, **changes)
    np.random.seed(99)  # noqa: NPY002 # global generators must not matter
    torch.manual_seed(99)
    phases_again, weights_again = train(algorithm, **changes)
    assert torch.equal(weights, weights_again)
    assert outcome(phases) == outcome(phases_again)
    _, weights_of_another_seed = train(algorithm, **changes | {"seed": 8})
    assert not torch.equal(weights, weights_of_another_seed)


@pytest.mark.parametrize("decisions", ["phase", "minibatch", None])
def test_a_replayed_schedule_gives_the_same_run_bit_by_bit(
    tmp_path: Path, decisions: str | None
) -> None:
    algorithm = "ppo" if decisions else "a2c"
    changes: dict[str, Any] = {"decay_learning_rate": True, "phases": 5}
    if decisions:
        changes["decisions"] = decisions
    source = Scripted(
        [
            {"learning_rate": 0.7, "gamma": 0.9, "rollout_length": 3.0},
            {"learning_rate": 1 / 3, "max_grad_norm": 0.1},
            {"learning_rate": 1.9},
        ],
        relative={"learning_rate", "rollout_length"},
    )
    trainer = small_trainer(algorithm, **changes)
    with RunLog(tmp_path, trainer.settings) as log:
        phases = []
        for phase in trainer.train(source):
            log.record(phase)
            phases.append(phase)
    replay = RecordedSource.from_csv(tmp_path / "schedule.csv")
    phases_again, weights_again = train(algorithm, replay, **changes)
    assert torch.equal(weights_of(trainer), weights_again)
    assert outcome(phases) == outcome(phases_again)
    _, weights_of_defaults = train(algorithm, **changes)
    assert not torch.equal(weights_again, weights_of_defaults)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_phase_reports_what_was_collected_before_it_proposes(algorithm: str) -> None:
    source = Scripted()
    phases, _ = train(algorithm, source)
    expected: list[tuple[str, int]] = []
    updates = 0
    for phase in phases:
        expected += [("report", phase.env_step), ("propose", updates)]
        updates = phase.update_step
    assert source.calls == [*expected, ("finish", 0)]
    assert source.reports == [(phase.episode_returns, phase.phase_return) for phase in phases]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signals_always_have_the_same_names_and_tell_the_progress(algorithm: str) -> None:
    source = Scripted()
    phases, _ = train(algorithm, source)
    assert len({tuple(sorted(signals)) for signals in source.signals}) == 1
    assert [signals["progress"] for signals in source.signals] == [
        phase.env_step / phases[-1].env_step for phase in phases
    ]
    # what the source hears of the last update is what the record of that phase says
    assert source.signals[1]["value_loss"] == phases[0].metrics["value_loss"]
    assert source.signals[0]["value_loss"] == 0.0


def test_ppo_asks_once_per_minibatch_if_told_to() -> None:
    source = Scripted([{"learning_rate": factor} for factor in range(1, 100)], {"learning_rate"})
    phases, _ = train("ppo", source, decisions="minibatch", phases=2)
    per_phase = PPO_SMALL["epochs"] * PPO_SMALL["number_of_minibatches"]
    proposals = [("propose", update_step) for update_step in range(2 * per_phase)]
    assert source.calls == [
        ("report", 32),
        *proposals[:per_phase],
        ("report", 64),
        *proposals[per_phase:],
        ("finish", 0),
    ]
    assert [decision.update_step for decision in phases[1].decisions] == list(
        range(per_phase, 2 * per_phase)
    )
    base = default_settings("ppo", "CartPole-v1").learning_rate
    rates = [each.values["learning_rate"] for phase in phases for each in phase.decisions]
    assert rates == pytest.approx([base * factor for factor in range(1, 2 * per_phase + 1)])
    assert source.signals[3]["approx_kl"] != source.signals[2]["approx_kl"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_source_finds_the_gradients_of_the_last_update(algorithm: str) -> None:
    trainer = small_trainer(algorithm, phases=2, max_grad_norm=1e-3)
    norms: list[float] = []

    class Watching(Scripted):
        def propose(self, **arguments: Any) -> Mapping[str, float]:
            gradients = [each.grad for each in trainer.policy.parameters() if each.grad is not None]
            norms.append(float(torch.cat([each.flatten() for each in gradients]).norm()))
            return super().propose(**arguments)

    list(trainer.train(Watching()))
    assert norms[0] == 0.0
    assert norms[1] == pytest.approx(1e-3, rel=0.01)  # clipped


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_source_is_told_of_the_end_when_training_is_left_early(algorithm: str) -> None:
    source = Scripted()
    phases = small_trainer(algorithm).train(source)
    next(phases)
    assert source.calls[-1][0] == "propose"
    phases.close()
    assert source.calls[-1] == ("finish", 0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_diverging_is_said_in_one_line_and_ends_the_job(algorithm: str) -> None:
    source = Scripted([{"learning_rate": 1e30}])
    with pytest.raises(TrainingDivergedError, match=r"expected finite losses.*lower learning_rate"):
        train(algorithm, source, phases=20)
    assert source.calls[-1] == ("finish", 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_evaluation_leaves_training_as_it_is(algorithm: str) -> None:
    changes: dict[str, Any] = {"normalise_observations": True}
    phases, weights = train(algorithm, **changes)
    trainer = small_trainer(algorithm, **changes)
    evaluated = []
    returns = []
    for phase in trainer.train():
        evaluated.append(phase)
        returns.append(
            evaluate(trainer.policy, trainer.observation_normaliser, trainer.settings, episodes=2)
        )
    assert torch.equal(weights_of(trainer), weights)
    assert outcome(evaluated) == outcome(phases)
    assert all(len(each) == 2 and min(each) >= 1 for each in returns)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_evaluation_repeats_itself(algorithm: str) -> None:
    trainer = small_trainer(algorithm)
    first, again = (
        evaluate(trainer.policy, trainer.observation_normaliser, trainer.settings, seed=4)
        for _ in range(2)
    )
    assert first == again
    assert len(first) == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "env_id", "threshold", "changes"),
    [
        ("ppo", "Identity-v0", 0.99, {"rollout_length": 64, "learning_rate": 3e-3}),
        ("a2c", "Identity-v0", 0.99, {"rollout_length": 16, "learning_rate": 5e-3}),
        ("ppo", "ContinuousIdentity-v0", -0.02, {"rollout_length": 64, "learning_rate": 3e-3}),
        (
            "a2c",
            "ContinuousIdentity-v0",
            -0.02,
            {"learning_rate": 3e-3, "normalise_advantages": True},
        ),
        ("acktr", "Identity-v0", 0.99, {"rollout_length": 16, "kl_clip": 0.01}),
        ("acktr", "ContinuousIdentity-v0", -0.02, {"rollout_length": 16, "kl_clip": 0.01}),
    ],
)
def test_a_bandit_is_learned_in_seconds(
    algorithm: str, env_id: str, threshold: float, changes: dict[str, Any]
) -> None:
    # An untrained policy gets 1/3 on the first and -0.08 (always 0) or less on the second.
    trainer = small_trainer(algorithm, env_id, total_env_steps=8_000, number_of_envs=4, **changes)
    before = _mean_evaluation(trainer)
    phases = list(trainer.train())
    assert phases[-1].env_step >= 8_000
    assert before < threshold < _mean_evaluation(trainer)


def _mean_evaluation(trainer: Trainer[Any]) -> float:
    policy, normaliser = trainer.policy, trainer.observation_normaliser
    return float(np.mean(evaluate(policy, normaliser, trainer.settings, episodes=100)))


@pytest.mark.parametrize("device", ["cuda:99", "no-such-device"])
def test_a_device_that_is_not_there_is_said_in_one_line(device: str) -> None:
    settings = default_settings("ppo", "CartPole-v1", device=device)
    with pytest.raises(SettingsError, match=f"device: expected .* got '{device}'") as raised:
        make_trainer(settings)
    assert "\n" not in str(raised.value)


def test_images_of_any_environment_are_trained_on() -> None:
    settings = default_settings(
        "a2c", "Picture-v0", number_of_envs=2, rollout_length=4, total_env_steps=16,
        shared_trunk=True,
    )  # fmt: skip
    trainer = make_trainer(settings)
    before = [each.detach().clone() for each in trainer.policy.parameters()]
    assert [phase.env_step for phase in trainer.train()] == [8, 16]
    assert all(
        not torch.equal(a, b) for a, b in zip(before, trainer.policy.parameters(), strict=True)
    )
