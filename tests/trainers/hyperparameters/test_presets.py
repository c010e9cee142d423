from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from hyperoracle_protocol.space import search_space_adapter
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_trainers.hyperparameters.arguments import parse_space
from hyperoracle_trainers.hyperparameters.presets import (
    PAPER_PRESETS,
    PaperPreset,
    family_settings,
)
from hyperoracle_trainers.hyperparameters.settings import SETTINGS_CLASSES, SettingsError

ALL = list(PAPER_PRESETS.values())


@pytest.mark.parametrize("preset", ALL, ids=lambda preset: preset.name)
def test_a_presets_settings_and_space_are_possible(preset: PaperPreset) -> None:
    for env_id in (preset.env_id, *preset.other_env_ids):
        settings = preset.settings(env_id)
        assert settings.env_id == env_id
    space = parse_space(preset.space_entries(), settings.base_values())
    assert list(space) == list(preset.space)


@pytest.mark.parametrize("preset", ALL, ids=lambda preset: preset.name)
def test_a_presets_study_is_one_that_a_server_knows(preset: PaperPreset) -> None:
    space = {name: {"type": "relative", "values": [1.0]} for name in preset.space}
    definition = StudyDefinition.model_validate(
        {
            "space": search_space_adapter.validate_python(space),
            "strategy": preset.strategy(),
            "returns": {"kind": preset.returns()},
        }
    )
    for path, each in preset.study.items():
        section, dot, name = path.partition(".")
        if dot:
            assert getattr(getattr(definition.strategy, section), name) == each.value
    assert set(preset.study) - {"returns"} == {
        f"{section}.{name}"
        for section, values in preset.strategy().items()
        if section != "name"
        for name in values
    }


@pytest.mark.parametrize("preset", ALL, ids=lambda preset: preset.name)
def test_every_value_of_a_preset_names_its_origin(preset: PaperPreset) -> None:
    for values in (preset.trainer, preset.space, preset.study):
        for each in values.values():
            assert any(each.origin.startswith(known) for known in ("paper", "ours", "authors'"))


def test_the_ppo_preset_of_mujoco_is_the_authors_script() -> None:
    preset = PAPER_PRESETS["mujoco-ppo"]
    settings = preset.settings()
    assert (settings.env_id, settings.total_env_steps) == ("HalfCheetah-v5", 1_000_000)
    assert (settings.number_of_envs, settings.rollout_length) == (1, 2048)
    space = parse_space(preset.space_entries(), settings.base_values())
    assert space["clip_range"].values == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert space["gae_lambda"].values == (0.9, 0.925, 0.95, 0.975, 0.99)
    assert space["learning_rate"].values == space["number_of_minibatches"].values == (0.5, 1.0, 2.0)
    memory = preset.strategy()["memory"]
    assert (memory["capacity"], memory["neighbours_read"], memory["neighbours_write"]) == (
        10_000, 5, 3,
    )  # fmt: skip
    assert preset.strategy()["learning_episode"]["write_every"] == 20


def test_overrides_win_over_a_preset_and_must_be_settings() -> None:
    preset = PAPER_PRESETS["bipedalwalker-a2c"]
    settings = preset.settings("Pendulum-v1", number_of_envs=4, rollout_length=10)
    assert (settings.env_id, settings.number_of_envs, settings.rollout_length) == (
        "Pendulum-v1", 4, 10,
    )  # fmt: skip
    assert settings.learning_rate == 7e-4
    with pytest.raises(SettingsError, match=r"epochs: expected settings of A2CSettings"):
        preset.settings(epochs=3)


def typed(values: Mapping[str, Any]) -> dict[str, tuple[type, Any]]:
    """Values with their types: 1 equals 1.0, but they are not the same setting."""
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
    return {name: (type(value), value) for name, value in plain.items()}


def test_nobody_who_names_a_preset_gets_other_values_than_were_published() -> None:
    published = json.loads((Path(__file__).parent / "published_presets.json").read_text())
    found: dict[str, Mapping[str, Any]] = {}
    for algorithm in SETTINGS_CLASSES:
        for family, values in family_settings(algorithm).items():
            found[f"defaults {algorithm} {family}"] = values
    for preset in ALL:
        for part in ("trainer", "space", "study"):
            sourced = getattr(preset, part)
            found[f"{preset.name} {part}"] = {name: each.value for name, each in sourced.items()}
    assert set(found) == set(published)
    for name, values in published.items():
        assert typed(found[name]) == typed(values), name
        if name.endswith("space"):
            assert list(found[name]) == list(values), "a study numbers its hyperparameters in order"


def is_exactly(value: Any, hint: Any) -> bool:
    """Whether a value has a type that the hint names; an int is no float, and a list no tuple."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(is_exactly(value, each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return type(value) is tuple and all(type(each) is get_args(hint)[0] for each in value)
    return type(value) is hint


@pytest.mark.parametrize("algorithm", SETTINGS_CLASSES)
def test_every_setting_that_a_file_gives_has_the_type_of_that_setting(algorithm: str) -> None:
    hints = get_type_hints(SETTINGS_CLASSES[algorithm])
    names = {field.name for field in dataclasses.fields(SETTINGS_CLASSES[algorithm])}
    given = [*family_settings(algorithm).values()]
    given += [{name: each.value for name, each in preset.trainer.items()}
              for preset in ALL if preset.algorithm == algorithm]  # fmt: skip
    for values in given:
        assert set(values) <= names
        for name, value in values.items():
            assert is_exactly(value, hints[name]), f"{name} = {value!r}"


@pytest.mark.parametrize(
    ("value", "hint"),
    [(1, float), (1.0, int), (True, int), ([64], tuple[int, ...]), ("x", str | None)],
)  # fmt: skip
def test_the_check_of_types_can_fail(value: Any, hint: Any) -> None:
    assert is_exactly(value, hint) == (value == "x")
