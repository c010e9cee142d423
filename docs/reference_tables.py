"""The tables of `docs/reference/`, from the code that they describe.

`python docs/reference_tables.py docs/reference` writes them anew, between the
marks in the documents there; a test fails while they are out of date.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hyperoracle_trainers.hyperparameters.presets import (
    PAPER_PRESETS,
    PaperPreset,
    Sourced,
    family_settings,
)
from hyperoracle_trainers.hyperparameters.schedulable import (
    HYPERPARAMETERS,
    SchedulableHyperparameter,
    TakesEffect,
)
from hyperoracle_trainers.hyperparameters.settings import SETTINGS_CLASSES, TrainerSettings

SB3 = "Stable-Baselines3's defaults"
ZOO = "RL-Zoo's settings for Stable-Baselines3"
CODE = "the code that the paper's authors released"
OURS = "ours"

AUTHORS_NAMES = MappingProxyType(
    {
        "learning_rate": "lr",
        "clip_range": "clip",
        "value_loss_coefficient": "vlc",
        "entropy_coefficient": "enc",
        "max_grad_norm": "mgn",
        "gamma": "gamma",
        "gae_lambda": "gae",
        "rollout_length": "nstep",
        "envs_per_update": "np",
        "number_of_minibatches": "mb",
        "rmsprop_alpha": "alpha",
        "kl_clip": "klc",
        "step_size": "mnu; lr of ACKTR",
        "damping": "damp",
        "fisher_coefficient": "fic",
        "statistics_period": "Ts",
        "inversion_period": "Tf",
        "momentum": "kmom",
        "weight_decay": "kwdc",
    }
)
"""What the paper's authors call each hyperparameter that their code can schedule."""

PUBLIC_MODULES = (
    "hyperoracle_client",
    "hyperoracle_client.stable_baselines3",
    "hyperoracle_trainers",
)
"""What programs import; all other modules may move."""

_CONSTANTS = MappingProxyType(
    {
        "DEFAULT_STRATEGY": "The strategy of a study that names none.",
        "SCHEDULABLE": "The hyperparameters that the callback can schedule, by algorithm.",
    }
)
"""What public names stand for that are neither classes nor functions."""

DEFAULT = "default"
"""The settings of environments that belong to no family."""

# What others recommend, by algorithm and family. A value of ours that equals it has this origin.
_RECOMMENDED: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]] = {
    ("ppo", DEFAULT): (SB3, {
        "rollout_length": 2048, "learning_rate": 3e-4, "epochs": 10, "number_of_minibatches": 32,
        "gamma": 0.99, "gae_lambda": 0.95, "clip_range": 0.2, "entropy_coefficient": 0.0,
        "value_loss_coefficient": 0.5, "max_grad_norm": 0.5, "adam_epsilon": 1e-5,
        "normalise_advantages": True, "value_clip_range": None, "number_of_envs": 1,
        "hidden_sizes": (64, 64),
    }),
    ("ppo", "classic_control"): (ZOO, {"number_of_envs": 8, "decay_learning_rate": True}),
    ("ppo", "box2d"): (ZOO, {
        "epochs": 10, "normalise_observations": True, "normalise_rewards": True,
    }),
    ("ppo", "mujoco"): (CODE, {
        "decay_learning_rate": True, "normalise_observations": True, "normalise_rewards": True,
    }),
    ("ppo", "atari"): (ZOO, {
        "number_of_envs": 8, "rollout_length": 128, "epochs": 4, "number_of_minibatches": 4,
        "learning_rate": 2.5e-4, "decay_learning_rate": True, "clip_range": 0.1,
        "decay_clip_range": True, "entropy_coefficient": 0.01, "shared_trunk": True,
        "clip_rewards": True,
    }),
    ("a2c", DEFAULT): (SB3, {
        "number_of_envs": 1, "rollout_length": 5, "learning_rate": 7e-4, "gamma": 0.99,
        "gae_lambda": 1.0, "entropy_coefficient": 0.0, "value_loss_coefficient": 0.5,
        "max_grad_norm": 0.5, "rmsprop_alpha": 0.99, "rmsprop_epsilon": 1e-5, "momentum": 0.0,
        "normalise_advantages": False, "hidden_sizes": (64, 64),
    }),
    ("a2c", "classic_control"): (ZOO, {"number_of_envs": 8}),
    ("a2c", "box2d"): (ZOO, {
        "number_of_envs": 16, "decay_learning_rate": True, "normalise_observations": True,
        "normalise_rewards": True, "rollout_length": 8, "gae_lambda": 0.9,
    }),
    ("a2c", "mujoco"): (ZOO, {
        "number_of_envs": 4, "rollout_length": 8, "gae_lambda": 0.9, "decay_learning_rate": True,
        "normalise_observations": True, "normalise_rewards": True,
    }),
    ("a2c", "atari"): (ZOO, {
        "number_of_envs": 16, "rollout_length": 5, "entropy_coefficient": 0.01,
        "shared_trunk": True, "clip_rewards": True,
    }),
    ("acktr", DEFAULT): (CODE, {
        "kl_clip": 0.0005, "step_size": 0.25, "damping": 0.01, "momentum": 0.9,
        "weight_decay": 0.0, "statistics_period": 1, "inversion_period": 10,
        "statistics_decay": 0.99, "gamma": 0.99, "gae_lambda": 0.95,
        "value_loss_coefficient": 0.5, "rollout_length": 128, "hidden_sizes": (64, 64),
    }),
    ("acktr", "mujoco"): (CODE, {
        "decay_learning_rate": True, "normalise_observations": True, "normalise_rewards": True,
    }),
    ("acktr", "box2d"): (CODE, {
        "decay_learning_rate": True, "normalise_observations": True, "normalise_rewards": True,
    }),
    ("acktr", "atari"): (CODE, {
        "number_of_envs": 32, "decay_learning_rate": True, "entropy_coefficient": 0.01,
        "shared_trunk": True, "clip_rewards": True,
    }),
}  # fmt: skip

_LETTERS = {SB3: "S", ZOO: "Z", CODE: "A", OURS: "o"}
_TECHNICAL = frozenset({"env_id", "seed", "total_env_steps", "device", "torch_threads"})


def hyperparameters_table() -> str:
    """Return what every schedulable hyperparameter is, in Markdown."""
    rows = [
        (
            f"`{each.name}`",
            each.meaning,
            ", ".join(_algorithms_with(each.name)),
            _range(each),
            "minibatch" if each.takes_effect is TakesEffect.AT_MINIBATCH else "next phase",
            f"`{AUTHORS_NAMES[each.name]}`" if each.name in AUTHORS_NAMES else "–",
        )
        for each in HYPERPARAMETERS.values()
    ]
    return _table(("name", "meaning", "algorithms", "range", "takes effect", "authors' name"), rows)


def base_values_table() -> str:
    """Return the default of every schedulable hyperparameter by algorithm, in Markdown."""
    rows = []
    for name in HYPERPARAMETERS:
        cells = []
        for algorithm, settings_class in SETTINGS_CLASSES.items():
            if name in settings_class.schedulable():
                values = _values(algorithm, DEFAULT)
                cells.append(_cell(algorithm, DEFAULT, name, values[name]))
            else:
                cells.append("–")
        rows.append((f"`{name}`", *cells))
    return _table(("name", *SETTINGS_CLASSES), rows) + _legend()


def defaults_table(algorithm: str) -> str:
    """Return an algorithm's settings by family of environments, in Markdown."""
    families = family_settings(algorithm)
    rows = []
    for name, value in _values(algorithm, DEFAULT).items():
        cells = [_cell(algorithm, DEFAULT, name, value)]
        cells += [
            _cell(algorithm, family, name, changes[name]) if name in changes else ""
            for family, changes in families.items()
        ]
        rows.append((f"`{name}`", *cells))
    return _table(("setting", "other", *families), rows) + _legend()


def presets_table() -> str:
    """Return the list of the paper's presets, in Markdown."""
    rows = [
        (
            f"`{preset.name}`",
            preset.experiment,
            preset.algorithm,
            ", ".join(f"`{each}`" for each in (preset.env_id, *preset.other_env_ids)),
            f"{preset.trainer['total_env_steps'].value:,}",
        )
        for preset in PAPER_PRESETS.values()
    ]
    return _table(("preset", "experiment", "algorithm", "environments", "env steps"), rows)


def preset_table(preset: PaperPreset) -> str:
    """Return all values of one preset with their origins, in Markdown."""
    rows = [
        *_sourced_rows("setting", preset.trainer),
        *_sourced_rows("space", preset.space),
        *_sourced_rows("study", preset.study),
    ]
    return _table(("", "name", "value", "origin"), rows)


def names_table(module: str) -> str:
    """Return a table of what a module lets its users import: each name and its first line."""
    found = import_module(module)
    rows = []
    for name in sorted(found.__all__, key=str.lower):
        value = getattr(found, name)
        is_documented = isinstance(value, type) or callable(value)
        documented = inspect.getdoc(value) if is_documented else None
        line = (documented or _CONSTANTS[name]).split("\n\n")[0].replace("\n", " ")
        rows.append((f"`{name}`", line.replace("|", "\\|")))
    return _table(("name", "what it is"), rows)


def sections() -> dict[str, str]:
    """Return the text of every marked section of the documents, by its mark."""
    return {
        "hyperparameters": hyperparameters_table(),
        "base-values": base_values_table(),
        **{f"defaults-{algorithm}": defaults_table(algorithm) for algorithm in SETTINGS_CLASSES},
        **{f"names-{module}": names_table(module) for module in PUBLIC_MODULES},
        "presets": presets_table(),
        "preset-values": "\n".join(
            f"### {preset.name}\n\n{preset_table(preset)}" for preset in PAPER_PRESETS.values()
        ),
    }


def renewed(document: str) -> str:
    """Return a document with the text between its marks written anew.

    Raises:
        ValueError: a mark that names no section.
    """
    texts = sections()

    def replaced(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in texts:
            raise ValueError(f"expected a section among {', '.join(texts)}, got {name!r}")
        return f"<!-- begin {name} -->\n\n{texts[name]}\n<!-- end {name} -->"

    pattern = r"<!-- begin (?P<name>[\w.-]+) -->.*?<!-- end (?P=name) -->"
    return re.sub(pattern, replaced, document, flags=re.DOTALL)


def main(arguments: Sequence[str]) -> None:
    """Write the documents of a folder anew."""
    for path in sorted(Path(arguments[0]).glob("*.md")):
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


def _algorithms_with(name: str) -> list[str]:
    return [
        algorithm
        for algorithm, settings_class in SETTINGS_CLASSES.items()
        if name in settings_class.schedulable()
    ]


def _range(hyperparameter: SchedulableHyperparameter) -> str:
    kind = "whole, " if hyperparameter.whole else ""
    if hyperparameter.maximum == float("inf"):
        return f"{kind}≥ {hyperparameter.minimum:g}"
    return f"{kind}{hyperparameter.minimum:g} … {hyperparameter.maximum:g}"


def _values(algorithm: str, family: str) -> dict[str, Any]:
    """Return the settings of a family, those that only say where and how long left out."""
    settings_class: type[TrainerSettings] = SETTINGS_CLASSES[algorithm]
    values: dict[str, Any] = {
        field.name: field.default
        for field in dataclasses.fields(settings_class)
        if field.name not in _TECHNICAL
    }
    return {**values, **family_settings(algorithm).get(family, {})}


def _cell(algorithm: str, family: str, name: str, value: Any) -> str:
    source, recommended = _RECOMMENDED.get((algorithm, family), (OURS, {}))
    same = name in recommended and recommended[name] == value
    text = "all" if name == "envs_per_update" and value is None else _text(value)
    return f"{text} ({_LETTERS[source if same else OURS]})"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " × ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sourced_rows(kind: str, values: Mapping[str, Sourced]) -> Iterable[tuple[str, ...]]:
    for name, each in values.items():
        yield kind, f"`{name}`", _text(each.value), each.origin


def _legend() -> str:
    named = "; ".join(f"({letter}) {source}" for source, letter in _LETTERS.items())
    return f"\nOrigin: {named}.\n"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
