from __future__ import annotations

import pytest

from hyperoracle_protocol.names import FEW, did_you_mean, expected_one_of, nearest
from hyperoracle_protocol.studies import StudyDefinition

MANY = ["learning_rate", "gamma", *(f"setting_{number}" for number in range(FEW))]


def test_the_nearest_of_many_names_is_said_and_no_other() -> None:
    told = expected_one_of(MANY, "learnin_rate", "settings")
    assert told == "expected one of 9 settings, got 'learnin_rate'; did you mean learning_rate?"
    assert expected_one_of(MANY, "xyz", "settings") == "expected one of 9 settings, got 'xyz'"


def test_few_names_are_listed() -> None:
    assert expected_one_of(["ppo", "a2c"], "dqn", "algorithms") == "expected ppo or a2c, got 'dqn'"
    told = expected_one_of(["ppo"], "pppo", "algorithms")
    assert told == "expected ppo, got 'pppo'; did you mean ppo?"


def test_two_that_are_near_are_both_said_and_else_the_remedy() -> None:
    names = ["mujoco-ppo", "mujoco-a2c", "atari"]
    assert did_you_mean("mujoco-pp0", names, "-") == "did you mean mujoco-ppo or mujoco-a2c?"
    assert did_you_mean("xyz", names, "choose one") == "choose one"


def test_upper_and_lower_case_are_one() -> None:
    assert nearest("cartpole-V1", ["CartPole-v1", "Acrobot-v1"]) == ["CartPole-v1"]
    assert nearest("something else", ["CartPole-v1"]) == []


def test_a_strategy_that_is_none_is_told_the_nearest() -> None:
    space = {"a": {"type": "values", "values": [1.0], "default": 1.0}}
    with pytest.raises(ValueError, match=r"9 strategies, got 'bandi'; did you mean bandit\?$"):
        StudyDefinition(space=space, strategy={"name": "bandi"})  # type: ignore[arg-type]
