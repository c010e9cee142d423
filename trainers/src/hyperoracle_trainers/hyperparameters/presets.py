"""Settings that come with the trainers, as data: those of families of environments and the paper's.

`defaults.toml` says what `hyperoracle train ALGORITHM ENV` takes; `papers.toml` has the presets of
the paper's experiments, in which every value names its origin.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, overload

from hyperoracle_protocol.names import did_you_mean
from hyperoracle_protocol.strategies import STRATEGIES
from hyperoracle_trainers.hyperparameters.environment_names import game_of, specification_of
from hyperoracle_trainers.hyperparameters.settings import (
    SETTINGS_CLASSES,
    A2CSettings,
    ACKTRSettings,
    AnySettings,
    PPOSettings,
    SettingsError,
)


def _read(name: str) -> dict[str, Any]:
    """Return what a TOML file of this package says."""
    return tomllib.loads(
        files("hyperoracle_trainers.hyperparameters").joinpath(name).read_text(encoding="utf-8")
    )


_DEFAULTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = _read("defaults.toml")


def family_settings(algorithm: str) -> Mapping[str, Mapping[str, Any]]:
    """Return, by family of environments, the settings that differ from the algorithm's own."""
    return _DEFAULTS[algorithm]


def family_of(env_id: str) -> str:
    """Return ``"classic_control"``, ``"box2d"``, ``"mujoco"``, ``"atari"`` or ``"other"``."""
    if game_of(env_id) is not None:
        return "atari"
    entry_point = str(specification_of(env_id).entry_point)
    return next((family for family in _DEFAULTS["ppo"] if f".{family}" in entry_point), "other")


@overload
def default_settings(algorithm: Literal["ppo"], env_id: str, **overrides: Any) -> PPOSettings: ...
@overload
def default_settings(algorithm: Literal["a2c"], env_id: str, **overrides: Any) -> A2CSettings: ...
@overload
def default_settings(
    algorithm: Literal["acktr"], env_id: str, **overrides: Any
) -> ACKTRSettings: ...
@overload
def default_settings(algorithm: str, env_id: str, **overrides: Any) -> AnySettings: ...
def default_settings(algorithm: str, env_id: str, **overrides: Any) -> AnySettings:
    """Return sensible settings for an algorithm on an environment.

    Args:
        algorithm: ``"ppo"``, ``"a2c"`` or ``"acktr"``.
        env_id: a registered Gymnasium environment; its family decides the settings.
        **overrides: settings that replace the preset's.

    Raises:
        SettingsError: an unknown algorithm, environment or setting, or a meaningless value.
    """
    if algorithm not in SETTINGS_CLASSES:
        known = ", ".join(map(repr, SETTINGS_CLASSES))
        raise SettingsError(f"algorithm: expected one of {known}, got {algorithm!r}; choose one")
    settings_class: Any = SETTINGS_CLASSES[algorithm]
    _check_names(settings_class, overrides)
    # An unknown environment has no family: say so first.
    asked = {name: overrides[name] for name in ("preprocessing",) if name in overrides}
    env_id = settings_class(env_id=env_id, **asked).env_id
    family = _DEFAULTS[algorithm].get(family_of(env_id), {})
    settings: AnySettings = settings_class(env_id=env_id, **{**family, **overrides})
    return settings


@dataclass(frozen=True)
class Sourced:
    """A value and where it comes from."""

    value: Any
    origin: str


@dataclass(frozen=True, kw_only=True)
class PaperPreset:
    """One setting of the paper's experiments.

    Attributes:
        name: on the command line.
        experiment: where in the paper, and for what.
        algorithm: ``"ppo"``, ``"a2c"`` or ``"acktr"``.
        env_id: the environment if none is given.
        other_env_ids: environments that the paper trains in the same setting.
        trainer: values by name of a setting; settings that are left out keep the algorithm's
            default.
        space: bins by hyperparameter, as `--space` takes them.
        study: values by name within the study's definition, such as ``"memory.capacity"`` of
            the strategy, or ``"returns"``, which number is the return.
    """

    name: str
    experiment: str
    algorithm: str
    env_id: str
    other_env_ids: tuple[str, ...] = ()
    trainer: Mapping[str, Sourced]
    space: Mapping[str, Sourced]
    study: Mapping[str, Sourced]

    def settings(self, env_id: str | None = None, **overrides: Any) -> AnySettings:
        """Return the trainer's settings.

        Args:
            env_id: None takes the preset's environment.
            **overrides: settings that replace the preset's.

        Raises:
            SettingsError: an unknown environment or setting, or a meaningless value.
        """
        settings_class: Any = SETTINGS_CLASSES[self.algorithm]
        values = {name: each.value for name, each in self.trainer.items()} | overrides
        _check_names(settings_class, values)
        settings: AnySettings = settings_class(env_id=env_id or self.env_id, **values)
        return settings

    def space_entries(self) -> list[str]:
        """Return the search space as `--space` takes it."""
        return [f"{name}={each.value}" for name, each in self.space.items()]

    def strategy(self, name: str = "epgt") -> dict[str, Any]:
        """Return the definition of the strategy, for `hyperoracle_client.Oracle.start_job`.

        Args:
            name: one that decides by hyper-states; of the study's settings it gets the sections
                that it has, ``"dqn"`` for one no memory.
        """
        sections = STRATEGIES[name].model_fields
        strategy: dict[str, Any] = {"name": name}
        for path, each in self.study.items():
            section, dot, field = path.partition(".")
            if dot and section in sections:
                strategy.setdefault(section, {})[field] = each.value
        return strategy

    def returns(self) -> str:
        """Return which number is the study's return."""
        returns: str = self.study["returns"].value
        return returns


def _check_names(settings_class: Any, names: Iterable[str]) -> None:
    """Check that all are settings of the class.

    Raises:
        SettingsError: one is not.
    """
    known = settings_class.__dataclass_fields__
    if unknown := sorted(set(names) - set(known)):
        remedy = did_you_mean(unknown[0], known, "see its documentation for their names")
        raise SettingsError(
            f"{', '.join(unknown)}: expected settings of {settings_class.__name__}; {remedy}"
        )


def _paper_presets() -> Iterator[PaperPreset]:
    """Put each preset together, from the parts that it names and from what it says itself."""
    written = _read("papers.toml")
    for name, own in written["presets"].items():
        trainer: dict[str, Sourced] = {}
        space: dict[str, Sourced] = {}
        study: dict[str, Sourced] = {}
        for part in (*(written["parts"][each] for each in own["parts"]), own):
            trainer.update(_sourced(part.get("trainer", {})))
            space |= {each: Sourced(*pair) for each, pair in part.get("space", {}).items()}
            study.update(_sourced(part.get("study", {})))
        yield PaperPreset(
            name=name,
            experiment=own["experiment"],
            algorithm=own["algorithm"],
            env_id=own["env_id"],
            other_env_ids=tuple(own.get("other_env_ids", ())),
            trainer=trainer,
            space=space,
            study=study,
        )


def _sourced(by_origin: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Sourced]]:
    """The values of tables that are named by their origin; those of a section as SECTION.NAME."""
    for origin, values in by_origin.items():
        for name, value in values.items():
            if isinstance(value, dict):
                for field, inner in value.items():
                    yield f"{name}.{field}", Sourced(inner, origin)
            else:
                # TOML has no tuples, and settings have no lists.
                yield name, Sourced(tuple(value) if isinstance(value, list) else value, origin)


PAPER_PRESETS: Mapping[str, PaperPreset] = MappingProxyType(
    {preset.name: preset for preset in _paper_presets()}
)
"""All presets by name."""
