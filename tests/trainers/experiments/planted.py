"""A small definition, and results that nobody had to train for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hyperoracle_trainers.experiments.definition import Experiment, read_definition
from hyperoracle_trainers.experiments.plan import Cell, chains_of
from hyperoracle_trainers.experiments.results import provenance, result_file, write_record

TEXT = """
title = "Tiny"
purpose = "reporting"
memories = 2
memory_sizes = [0, 2]

[settings]
total_env_steps = 64
number_of_envs = 2
rollout_length = 16
epochs = 1
number_of_minibatches = 1
hidden_sizes = [4]

[space]
learning_rate = "scale:0.5,1,2"

[tasks.brief]
env = "BriefCartPole-v0"

[strategies.best_config]
"""


def tiny(folder: Path, *changes: tuple[str, str]) -> Experiment:
    """Return the definition with some of its text replaced."""
    text = TEXT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return read_definition(path)


def cells_of(experiment: Experiment) -> list[Cell]:
    return [cell for chain in chains_of(experiment) for cell in chain.cells]


def plant(folder: Path, cell: Cell, mean_return: float, **changes: Any) -> Path:
    """Write a result of a run whose curve is flat."""
    folder.mkdir(exist_ok=True)
    record = {
        **vars(cell),
        "experiment": "tiny",
        "status": "completed",
        "phases": {"env_step": [64], "episodes": [4], "mean_return": [mean_return]},
        "wall_seconds": 1.0,
        "command": "hyperoracle experiment run tiny",
        **provenance(),
        **changes,
    }
    path = result_file(folder, cell)
    write_record(path, record)
    return path
