"""What an environment does wrong is told of it, and reaches the oracle as a failure."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from trainers.short_runs import ALGORITHMS, Scripted, small_trainer

from hyperoracle_trainers.environments.failures import EnvironmentFailed, TrainingDivergedError
from hyperoracle_trainers.environments.vector import make_environments
from hyperoracle_trainers.runs.evaluation import evaluate
from hyperoracle_trainers.runs.run import run


@pytest.fixture
def misbehaving() -> Any:
    """Registers an environment that does something wrong, and gives its name."""
    names = []

    def register(wrong: str, **arguments: Any) -> str:
        name = f"Misbehaving{len(names)}-v0"
        entry_point = gymnasium.spec("Misbehaving-v0").entry_point
        gymnasium.register(name, entry_point, kwargs={"wrong": wrong, **arguments})
        names.append(name)
        return name

    yield register
    for name in names:
        gymnasium.registry.pop(name)


def _failure(env_id: str, algorithm: str = "ppo", **changes: Any) -> tuple[str, Scripted]:
    source = Scripted()
    with pytest.raises(EnvironmentFailed) as error:
        run(small_trainer(algorithm, env_id, **changes), source)
    assert "\n" not in str(error.value)
    return str(error.value), source


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ("nan reward", "expected a finite reward, got nan"),
        ("nan", r"expected a finite observation, got nan (number 1 of 2)"),
        ("inf", r"expected a finite observation, got inf (number 1 of 2)"),
        ("1e+39", r"expected a finite observation, got 1e+39 (number 1 of 2)"),
    ],
)
def test_what_is_no_number_is_blamed_on_the_environment_and_its_step(
    algorithm: str, normalised: bool, wrong: str, what: str, misbehaving: Any
) -> None:
    env_id = misbehaving(wrong, at=5)
    told, source = _failure(env_id, algorithm, normalise_observations=normalised)
    # The first of two environments, in both of which it is the fifth step.
    assert told == (
        f"environment 0, step 5 of its episode, env step 10 of the run: {what}; "
        "correct the environment"
    )
    assert source.calls[-1] == ("finish", True), "the job has failed"
    assert "report" not in dict(source.calls), "no return of such a phase is credited"


def test_its_step_is_counted_in_its_episode_and_over_rollouts(misbehaving: Any) -> None:
    told, _ = _failure(misbehaving("nan reward", at=39, ends_after=6), normalise_rewards=True)
    assert "step 3 of its episode, env step 78 of the run" in told


def test_a_last_observation_that_is_bootstrapped_from_is_looked_at_too(misbehaving: Any) -> None:
    env_id = misbehaving("nan", at=6, ends_after=6)
    told, _ = _failure(env_id)
    assert "step 6 of its episode" in told
    assert "last observation of an episode, got nan" in told


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ("raise", r"to succeed, got ZeroDivisionError: the pole is gone \(conftest\.py, line"),
        ("no reward", r"truncated, info\) of step, got \(ndarray of shape \(2,\), NoneType, bool"),
        ("word", r"truncated, info\) of step, got \(ndarray of shape \(2,\), str, bool"),
        ("four", r"truncated, info\) of step, got \(ndarray of shape \(2,\), float, bool, bool\)"),
        ("shape", r"\(observation of shape \(2,\), .* of step, got \(ndarray of shape \(1,\),"),
    ],
)  # fmt: skip
def test_an_environment_that_raises_or_answers_otherwise_is_named(
    wrong: str, what: str, misbehaving: Any
) -> None:
    told, source = _failure(misbehaving(wrong, at=5))
    assert re.search(rf"environment 0, step 5 of its episode, .*: expected .*{what}", told), told
    assert source.calls[-1] == ("finish", True)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ("raise", r"^environment 0: expected reset\(\) to succeed, got ZeroDivisionError"),
        ("plain reset", r"^environment 0: expected \(observation of .*, info\) of reset, got nda"),
        ("nan", r"^environment 0, first reset: expected a finite observation, got nan"),
        ("shape", r"^environment 0: expected \(observation of shape \(2,\), info\) of reset, got"),
    ],
)
def test_a_first_reset_that_fails_is_told(wrong: str, what: str, misbehaving: Any) -> None:
    with pytest.raises(EnvironmentFailed, match=what):
        small_trainer("ppo", misbehaving(wrong, at=0))


def test_a_later_reset_that_fails_is_told_with_its_step(misbehaving: Any) -> None:
    told, _ = _failure(misbehaving("plain reset", at=6, ends_after=6))
    assert re.search(r"step 6 of its episode.*of reset, got ndarray", told), told


def test_a_policy_whose_actions_are_no_numbers_is_not_blamed_on_the_environment() -> None:
    trainer = small_trainer("a2c", "Pendulum-v1")
    source = Scripted()
    with torch.no_grad():
        trainer.policy.actor[-1].bias.fill_(torch.nan)
    with pytest.raises(TrainingDivergedError, match=r"finite actions of the policy.*learning_rate"):
        run(trainer, source)
    assert source.calls[-1] == ("finish", True)


def test_an_error_outside_the_trainer_fails_the_run_and_an_interrupt_does_not() -> None:
    for error, failed in ((OSError("no room"), True), (KeyboardInterrupt(), False)):
        source = Scripted()

        def observe(_: Any, error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            run(small_trainer("ppo"), source, observers=[observe])
        assert source.calls[-1] == ("finish", failed)


@pytest.mark.parametrize("wrong", ["nan reward", "nan", "raise"])
def test_an_evaluation_names_the_environment_too(wrong: str, misbehaving: Any) -> None:
    env_id = misbehaving(wrong, at=4)
    trainer = small_trainer("ppo", env_id)
    with pytest.raises(EnvironmentFailed, match=r"^environment 0, step 4 of the evaluation: "):
        evaluate(trainer.policy, trainer.observation_normaliser, trainer.settings)


def test_large_rewards_are_named_where_a_loss_is_no_number() -> None:
    gymnasium.register("Dear-v0", gymnasium.spec("CartPole-v1").entry_point,
                       additional_wrappers=(_rewards_scaled(1e30),))  # fmt: skip
    try:
        with pytest.raises(TrainingDivergedError, match=r"rewards up to 1e\+30; set normalise_re"):
            run(small_trainer("ppo", "Dear-v0", phases=6))
    finally:
        gymnasium.registry.pop("Dear-v0")


def _rewards_scaled(factor: float) -> Any:
    return gymnasium.envs.registration.WrapperSpec(
        "TransformReward",
        "gymnasium.wrappers:TransformReward",
        {"func": lambda reward: factor * reward},
    )


def test_an_observation_is_not_stretched_to_the_shape_it_should_have(misbehaving: Any) -> None:
    environments = make_environments(misbehaving("shape", at=1), 1, seed=0)
    with pytest.raises(EnvironmentFailed):
        environments.step(np.array([0]))
