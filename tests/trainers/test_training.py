"""What PPO and A2C promise alike, and how each hyperparameter changes an update."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperoracle_trainers.evaluation import evaluate
from hyperoracle_trainers.hyperparameter_source import HyperparameterSource, RecordedSource
from hyperoracle_trainers.phase import Phase
from hyperoracle_trainers.presets import default_settings
from hyperoracle_trainers.run import make_trainer
from hyperoracle_trainers.run_log import RunLog
from hyperoracle_trainers.trainer import Trainer, TrainingDivergedError

PPO_SMALL = {"number_of_envs": 2, "rollout_length": 16, "epochs": 2, "number_of_minibatches": 4}
A2C_SMALL = {"number_of_envs": 2, "rollout_length": 8}
SMALL = {"ppo": PPO_SMALL, "a2c": A2C_SMALL}
ALGORITHMS = ["ppo", "a2c"]


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

    def finish(self) -> None:
        self.calls.append(("finish", 0))


def _trainer(
    algorithm: str, env_id: str = "CartPole-v1", *, phases: int = 3, **changes: Any
) -> Trainer[Any]:
    values = SMALL[algorithm] | {"decay_learning_rate": False} | changes
    total = values["number_of_envs"] * values["rollout_length"] * phases
    return make_trainer(
        default_settings(algorithm, env_id, **{"total_env_steps": total, "seed": 7} | values)
    )


def _train(
    algorithm: str, source: HyperparameterSource | None = None, **changes: Any
) -> tuple[list[Phase], torch.Tensor]:
    """Return the phases of a short run and its final parameters as one vector."""
    trainer = _trainer(algorithm, **changes)
    phases = list(trainer.train(source))
    return phases, _weights(trainer)


def _weights(trainer: Trainer[Any]) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in trainer.policy.parameters()])


def _outcome(phases: Sequence[Phase]) -> list[tuple[Any, ...]]:
    """Everything in the records but wall times."""
    return [
        (phase.env_step, phase.update_step, phase.episode_returns, dict(phase.metrics))
        for phase in phases
    ]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_equal_seeds_give_equal_runs_bit_by_bit(algorithm: str, env_id: str) -> None:
    changes: dict[str, Any] = {
        "env_id": env_id,
        "normalise_observations": True,
        "normalise_rewards": True,
    }
    phases, weights = _train(algorithm, **changes)
    np.random.seed(99)  # noqa: NPY002 # global generators must not matter
    torch.manual_seed(99)
    phases_again, weights_again = _train(algorithm, **changes)
    assert torch.equal(weights, weights_again)
    assert _outcome(phases) == _outcome(phases_again)
    _, weights_of_another_seed = _train(algorithm, **changes | {"seed": 8})
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
    trainer = _trainer(algorithm, **changes)
    with RunLog(tmp_path, trainer.settings) as log:
        phases = []
        for phase in trainer.train(source):
            log.record(phase)
            phases.append(phase)
    replay = RecordedSource.from_csv(tmp_path / "schedule.csv")
    phases_again, weights_again = _train(algorithm, replay, **changes)
    assert torch.equal(_weights(trainer), weights_again)
    assert _outcome(phases) == _outcome(phases_again)
    _, weights_of_defaults = _train(algorithm, **changes)
    assert not torch.equal(weights_again, weights_of_defaults)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_phase_reports_what_was_collected_before_it_proposes(algorithm: str) -> None:
    source = Scripted()
    phases, _ = _train(algorithm, source)
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
    phases, _ = _train(algorithm, source)
    assert len({tuple(sorted(signals)) for signals in source.signals}) == 1
    assert [signals["progress"] for signals in source.signals] == [
        phase.env_step / phases[-1].env_step for phase in phases
    ]
    # what the source hears of the last update is what the record of that phase says
    assert source.signals[1]["value_loss"] == phases[0].metrics["value_loss"]
    assert source.signals[0]["value_loss"] == 0.0


def test_ppo_asks_once_per_minibatch_if_told_to() -> None:
    source = Scripted([{"learning_rate": factor} for factor in range(1, 100)], {"learning_rate"})
    phases, _ = _train("ppo", source, decisions="minibatch", phases=2)
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
    trainer = _trainer(algorithm, phases=2, max_grad_norm=1e-3)
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
    phases = _trainer(algorithm).train(source)
    next(phases)
    assert source.calls[-1][0] == "propose"
    phases.close()
    assert source.calls[-1][0] == "finish"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_diverging_is_said_in_one_line_and_ends_the_job(algorithm: str) -> None:
    source = Scripted([{"learning_rate": 1e30}])
    with pytest.raises(TrainingDivergedError, match=r"expected finite losses.*lower learning_rate"):
        _train(algorithm, source, phases=20)
    assert source.calls[-1][0] == "finish"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_evaluation_leaves_training_as_it_is(algorithm: str) -> None:
    changes: dict[str, Any] = {"normalise_observations": True}
    phases, weights = _train(algorithm, **changes)
    trainer = _trainer(algorithm, **changes)
    evaluated = []
    returns = []
    for phase in trainer.train():
        evaluated.append(phase)
        returns.append(
            evaluate(trainer.policy, trainer.observation_normaliser, "CartPole-v1", episodes=2)
        )
    assert torch.equal(_weights(trainer), weights)
    assert _outcome(evaluated) == _outcome(phases)
    assert all(len(each) == 2 and min(each) >= 1 for each in returns)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_evaluation_repeats_itself(algorithm: str) -> None:
    trainer = _trainer(algorithm)
    first, again = (
        evaluate(trainer.policy, trainer.observation_normaliser, "CartPole-v1", seed=4)
        for _ in range(2)
    )
    assert first == again
    assert len(first) == 10


# How each hyperparameter changes the update --------------------------------------------------


def _one_update(
    algorithm: str, values: Mapping[str, float], **changes: Any
) -> tuple[Phase, torch.Tensor]:
    phases, weights = _train(algorithm, Scripted([values]), phases=1, **changes)
    return phases[0], weights


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_learning_rate_zero_leaves_the_parameters(algorithm: str) -> None:
    phase, weights = _one_update(algorithm, {"learning_rate": 0.0})
    assert torch.equal(weights, _weights(_trainer(algorithm)))
    assert phase.metrics["grad_norm"] > 0


def test_a2cs_step_is_proportional_to_the_learning_rate() -> None:
    start = _weights(_trainer("a2c"))
    small, large = (_one_update("a2c", {"learning_rate": rate})[1] - start for rate in (1e-3, 3e-3))
    torch.testing.assert_close(large, 3 * small, atol=1e-6, rtol=1e-3)  # float32 differences


def test_a_wide_clip_range_clips_nothing_and_a_narrow_one_much() -> None:
    rate = {"learning_rate": 0.01}
    wide, _ = _one_update("ppo", rate | {"clip_range": 1e6})
    narrow, _ = _one_update("ppo", rate | {"clip_range": 1e-4})
    assert wide.metrics["clip_fraction"] == 0.0
    assert narrow.metrics["clip_fraction"] > 0.5
    assert narrow.metrics["approx_kl"] < wide.metrics["approx_kl"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_its_coefficient_the_value_loss_does_not_train_the_critic(algorithm: str) -> None:
    def moved(coefficient: float) -> tuple[bool, bool]:
        trainer, fresh = _trainer(algorithm, phases=1), _trainer(algorithm)
        list(trainer.train(Scripted([{"value_loss_coefficient": coefficient}])))
        pairs = [
            (
                trunk,
                getattr(trainer.policy, trunk)[0].weight,
                getattr(fresh.policy, trunk)[0].weight,
            )
            for trunk in ("actor", "critic")
        ]
        actor, critic = (not torch.equal(after, before) for _, after, before in pairs)
        return actor, critic

    assert moved(0.0) == (True, False)
    assert moved(0.5) == (True, True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_entropy_coefficient_widens_the_policy(algorithm: str) -> None:
    def log_std(coefficient: float) -> float:
        trainer = _trainer(algorithm, "Pendulum-v1", phases=3)
        list(trainer.train(Scripted([{"entropy_coefficient": coefficient}])))
        return float(trainer.policy.distribution.log_std.detach())

    assert log_std(10.0) > max(0.0, log_std(0.0))


def test_a_long_gradient_is_shortened_to_the_max_grad_norm() -> None:
    # RMSprop's first step is lr g / (sqrt(0.01) |g| + eps): where eps dwarfs g it is linear in g.
    start = _weights(_trainer("a2c"))

    def length(norm: float) -> float:
        values = {"max_grad_norm": norm}
        _, weights = _one_update("a2c", values, rmsprop_epsilon=1e3, learning_rate=1e3)
        return float((weights - start).norm())

    assert length(0.1) == pytest.approx(0.1, rel=0.01)
    assert length(0.2) == pytest.approx(0.2, rel=0.01)
    phase, _ = _one_update("a2c", {})
    assert length(1e6) == pytest.approx(phase.metrics["grad_norm"], rel=0.01)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ["gamma", "gae_lambda"])
def test_discounts_change_the_advantages_of_the_next_phase(algorithm: str, name: str) -> None:
    """The first phases are alike; in the second the lowered value lowers the value targets."""
    frozen = {"learning_rate": 0.0}  # so that the phases differ in nothing else
    plain, _ = _train(algorithm, Scripted([frozen]), phases=2)
    lowered, _ = _train(algorithm, Scripted([frozen | {name: 0.0}]), phases=2)
    assert lowered[0].metrics == plain[0].metrics
    # CartPole rewards 1 a step and the fresh critic says about 0: with gamma or lambda 0 a target
    # is about 1, otherwise the sum of many.
    assert plain[1].metrics["value_loss"] > 2 * lowered[1].metrics["value_loss"]
    assert lowered[0].hyperparameters[name] == plain[0].hyperparameters[name]
    assert lowered[1].hyperparameters[name] == 0.0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_phase_return_is_discounted_by_the_base_gamma(algorithm: str) -> None:
    frozen = {"learning_rate": 0.0}
    plain, _ = _train(algorithm, Scripted([frozen]), phases=3)
    lowered, _ = _train(algorithm, Scripted([frozen | {"gamma": 0.0}]), phases=3)
    assert [each.phase_return for each in lowered] == [each.phase_return for each in plain]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_rollout_length_decides_the_env_steps_of_the_next_phase(algorithm: str) -> None:
    base = SMALL[algorithm]["rollout_length"]
    phases, _ = _train(algorithm, Scripted([{"rollout_length": 4.0}, {}]), phases=3)
    env_steps = np.diff([0, *(phase.env_step for phase in phases)])
    assert env_steps[:3].tolist() == [2 * base, 2 * 4, 2 * base]


@pytest.mark.parametrize(
    ("values", "updates"),
    [
        ({"epochs": 3.0}, 3 * 4),
        ({"number_of_minibatches": 2.0}, 2 * 2),
        ({"epochs": 1.0, "number_of_minibatches": 5.0}, 5),  # parts of 6 or 7 of 32
        ({"number_of_minibatches": 1000.0}, 2 * 32),  # one env step each
    ],
)
def test_epochs_and_minibatches_decide_the_updates_of_the_next_phase(
    values: dict[str, float], updates: int
) -> None:
    phases, _ = _train("ppo", Scripted([values]), phases=2)
    assert phases[0].update_step == 2 * 4
    assert phases[1].update_step - phases[0].update_step == updates


def test_every_env_step_is_used_once_per_epoch() -> None:
    trainer = _trainer("ppo")
    rollout = trainer._collector.collect(16)
    batch = trainer._batch(rollout, 0.99, 0.95)  # type: ignore[attr-defined] # PPO's own
    held = {"epochs": 2, "number_of_minibatches": 5}
    parts = list(trainer._minibatches(batch, held))  # type: ignore[attr-defined] # PPO's own
    assert [len(part.advantages) for part in parts] == [7, 7, 6, 6, 6] * 2
    expected = batch.observations.sum(1).sort().values
    for epoch in (parts[:5], parts[5:]):
        seen = torch.cat([part.observations for part in epoch]).sum(1).sort().values
        assert torch.equal(seen, expected)
    assert not torch.equal(parts[0].observations, parts[5].observations)


def test_the_learner_sees_the_log_probabilities_of_the_policy_that_acted() -> None:
    """PPO's ratio is 1 before the first update: no divergence, nothing clipped."""
    phase, _ = _one_update("ppo", {"learning_rate": 0.0}, env_id="Pendulum-v1")
    assert phase.metrics["approx_kl"] == pytest.approx(0.0, abs=1e-6)  # float32
    assert phase.metrics["clip_fraction"] == 0.0


def test_a_clipped_value_keeps_the_critic_near_its_old_opinion() -> None:
    _, free = _one_update("ppo", {"learning_rate": 0.05})
    _, held = _one_update("ppo", {"learning_rate": 0.05}, value_clip_range=1e-3)
    assert not torch.equal(free, held)


# Learning -------------------------------------------------------------------------------------


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
    ],
)
def test_a_bandit_is_learned_in_seconds(
    algorithm: str, env_id: str, threshold: float, changes: dict[str, Any]
) -> None:
    # An untrained policy gets 1/3 on the first and -0.08 (always 0) or less on the second.
    trainer = _trainer(algorithm, env_id, total_env_steps=8_000, number_of_envs=4, **changes)
    before = _mean_evaluation(trainer)
    phases = list(trainer.train())
    assert phases[-1].env_step >= 8_000
    assert before < threshold < _mean_evaluation(trainer)


def _mean_evaluation(trainer: Trainer[Any]) -> float:
    policy, normaliser = trainer.policy, trainer.observation_normaliser
    return float(np.mean(evaluate(policy, normaliser, trainer.settings.env_id, episodes=100)))
