from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_trainers.algorithms.decisions import (
    BaseSchedule,
    in_effect,
    resolve,
    used_instead,
)
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.schedulable import HYPERPARAMETERS

BASE = {"learning_rate": 1e-3, "gae_lambda": 0.95, "rollout_length": 5.0}


def test_the_base_learning_rate_falls_linearly_to_zero_if_wanted() -> None:
    settings = default_settings("ppo", "Hopper-v5", learning_rate=4e-4)
    schedule = BaseSchedule.of(settings)
    assert [schedule.at(progress)["learning_rate"] for progress in (0.0, 0.25, 1.0)] == [
        4e-4,
        pytest.approx(3e-4),
        0.0,
    ]
    assert schedule.at(0.5)["clip_range"] == 0.2
    decaying = default_settings("ppo", "Hopper-v5", decay_clip_range=True)
    assert BaseSchedule.of(decaying).at(0.5)["clip_range"] == 0.1


def test_what_is_not_proposed_keeps_its_base_value() -> None:
    assert resolve(BASE, {}, relative=()) == BASE


def test_an_absolute_value_replaces_and_a_factor_multiplies() -> None:
    proposed = {"learning_rate": 2.0, "gae_lambda": 0.9}
    values = resolve(BASE, proposed, relative={"learning_rate"})
    assert values == {"learning_rate": 2e-3, "gae_lambda": 0.9, "rollout_length": 5.0}


def test_values_are_brought_into_the_range_that_has_a_meaning() -> None:
    values = resolve(BASE, {"gae_lambda": 1.1, "rollout_length": 0.1}, relative=BASE)
    assert values["gae_lambda"] == 1.0  # 0.95 x 1.1 = 1.045
    assert values["rollout_length"] == 1  # 5 x 0.1 rounds to 0


def test_what_had_to_be_brought_into_range_is_told_as_it_was_proposed() -> None:
    base = {"gae_lambda": 0.5, "rollout_length": 5.0, "epochs": 3.0, "learning_rate": 0.0}
    proposed = {"gae_lambda": 3.0, "rollout_length": 7.5, "epochs": 0.5, "learning_rate": 2.0}
    relative = {"gae_lambda", "epochs", "learning_rate"}
    values = resolve(base, proposed, relative)
    assert values == {"gae_lambda": 1.0, "rollout_length": 8, "epochs": 2, "learning_rate": 0.0}
    # 1.5 epochs are meant to be 2; gae_lambda is 1 by the factor 2; 7.5 steps are none.
    assert used_instead(base, proposed, relative, values) == {
        "gae_lambda": 2.0, "rollout_length": 8,
    }  # fmt: skip


@given(st.sampled_from(sorted(HYPERPARAMETERS)), st.floats(-1e9, 1e9))
def test_every_finite_value_becomes_one_that_has_a_meaning(name: str, value: float) -> None:
    definition = HYPERPARAMETERS[name]
    result = definition.brought_into_range(value)
    assert definition.minimum <= result <= definition.maximum
    assert not definition.whole or result == int(result)
    assert definition.brought_into_range(result) == result


def test_unknown_names_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^warmth: expected hyperparameters among gae_lambda"):
        resolve(BASE, {"warmth": 1.0}, relative=())
    with pytest.raises(ValueError, match=r"^gae_lambda: expected a finite number, got nan"):
        resolve(BASE, {"gae_lambda": float("nan")}, relative=())


def test_what_takes_effect_at_the_next_phase_is_not_yet_in_effect() -> None:
    chosen = {"learning_rate": 9.0, "gae_lambda": 0.1, "rollout_length": 7.0}
    assert in_effect(BASE, chosen) == {
        "learning_rate": 9.0,
        "gae_lambda": 0.95,
        "rollout_length": 5.0,
    }
