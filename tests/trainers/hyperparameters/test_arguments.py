from __future__ import annotations

import pytest

from hyperoracle_client import Choice, Scale
from hyperoracle_trainers.algorithms.decisions import BaseSchedule
from hyperoracle_trainers.hyperparameters.arguments import (
    ArgumentError,
    default_space,
    parse_settings,
    parse_space,
    whole_number,
)
from hyperoracle_trainers.hyperparameters.presets import default_settings

PPO = BaseSchedule.of(default_settings("ppo", "CartPole-v1")).values
A2C = BaseSchedule.of(default_settings("a2c", "CartPole-v1")).values


def test_every_kind_of_setting_gets_its_type() -> None:
    assert parse_settings(
        "ppo",
        ["learning_rate=1e-3", "rollout_length=1_024", "decay_learning_rate=False",
         "hidden_sizes=32,16", "value_clip_range=0.2", "decisions=minibatch",
         "device=cuda:1", "preprocessing=machado", "shared_trunk=true"],
    ) == {
        "learning_rate": 1e-3,
        "rollout_length": 1024,
        "decay_learning_rate": False,
        "hidden_sizes": (32, 16),
        "value_clip_range": 0.2,
        "decisions": "minibatch",
        "device": "cuda:1",
        "preprocessing": "machado",
        "shared_trunk": True,
    }  # fmt: skip
    assert parse_settings("ppo", ["value_clip_range=none"]) == {"value_clip_range": None}
    assert parse_settings("a2c", ["rmsprop_alpha=0.9"]) == {"rmsprop_alpha": 0.9}


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("learning_rate", "name=value"),
        ("=1", "name=value"),
        (
            "learning_rat=1",
            "expected a setting of ppo, got 'learning_rat'; did you mean learning_rate",
        ),
        ("env_id=Acrobot-v1", "name the environment as ENV"),
        (
            "momentum=0.5",
            "expected a setting of ppo, got 'momentum', which is one of a2c and acktr",
        ),
        ("x=1", "expected a setting of ppo, got 'x'; --dry-run prints them all"),
        ("learning_rate=fast", "expected a number, got 'fast'"),
        ("rollout_length=2.5", "expected a whole number, got '2.5'"),
        ("hidden_sizes=64,x", "expected a whole number"),
        ("decay_learning_rate=yes", "expected true or false, got 'yes'"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(assignment: str, expected: str) -> None:
    with pytest.raises(ArgumentError) as error:
        parse_settings("ppo", [assignment])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(ArgumentError, match="once"):
        parse_settings("ppo", ["gamma=0.9", "gamma=0.99"])


@pytest.mark.parametrize(("text", "number"), [("7", 7), ("1e6", 1_000_000), ("1_000", 1000)])
def test_whole_numbers_may_be_written_in_three_ways(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["1.5", "x", "", "inf", "nan"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        whole_number(text)


def test_a_space_is_made_of_scales_and_choices() -> None:
    space = parse_space(
        ["learning_rate=scale:0.5,1,2", "clip_range=choice:0.1,0.2,0.3@0.3",
         "gae_lambda=choice:.9,.95", "epochs=choice:5,10"],
        PPO,
    )  # fmt: skip
    assert space == {
        "learning_rate": Scale([0.5, 1, 2], takes_effect="minibatch"),
        "clip_range": Choice([0.1, 0.2, 0.3], default=0.3, takes_effect="minibatch"),
        "gae_lambda": Choice([0.9, 0.95], default=0.95, takes_effect="phase"),
        "epochs": Choice([5, 10], default=10, takes_effect="phase"),
    }
    assert list(space) == ["learning_rate", "clip_range", "gae_lambda", "epochs"]


@pytest.mark.parametrize("name", list(PPO))
def test_any_schedulable_hyperparameter_may_be_scaled(name: str) -> None:
    assert parse_space([f"{name}=scale:0.5,1,1.01"], PPO)[name].values == (0.5, 1.0, 1.01)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("learning_rate", "name=scale:"),
        ("learning_rate=0.5,1,2", "scale:FACTORS or choice:VALUES"),
        ("learning_rate=scal:1,2", "scale:FACTORS or choice:VALUES"),
        ("learning_rate=scale:1,x", "numbers separated by commas"),
        ("learning_rate=scale:", "numbers separated by commas"),
        ("learning_rate=scale:0.5,2", "the default among the values, got 1"),
        ("learning_rate=scale:0,1", "greater than 0"),
        ("gae_lambda=scale:1,2", "products with gae_lambda = 0.95 between 0 and 1, got 1.9"),
        ("learning_rate=scale:1,1", "distinct"),
        ("clip_range=choice:0.1,0.3", "the default among the values, got 0.2"),
        ("gamma=choice:0.9,1.5@0.9", "between 0 and 1, got 1.5"),
        ("epochs=choice:1.5,10", "whole numbers between 1 and inf, got 1.5"),
        ("clip_range=choice:nan,0.2", "got nan"),
        ("hidden_sizes=choice:1,2@1", "those of this algorithm are learning_rate, "),
        (
            "gama=choice:0.9,0.99",
            "expected a hyperparameter that can be scheduled, got 'gama'; did you mean gamma",
        ),
    ],
)
def test_a_wrong_space_is_told_in_one_line(entry: str, expected: str) -> None:
    with pytest.raises(ArgumentError) as error:
        parse_space([entry], PPO)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_hyperparameter_cannot_be_in_the_space_twice() -> None:
    with pytest.raises(ArgumentError, match="once"):
        parse_space(["gamma=scale:0.9,1"] * 2, PPO)


def test_the_default_space_is_what_the_algorithm_can_schedule() -> None:
    assert default_space(PPO) == {
        "learning_rate": Scale([0.5, 1, 2], takes_effect="minibatch"),
        "clip_range": Choice([0.1, 0.2, 0.3], default=0.2, takes_effect="minibatch"),
    }
    assert list(default_space(A2C)) == ["learning_rate"]
