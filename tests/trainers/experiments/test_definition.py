from __future__ import annotations

from pathlib import Path

import pytest
from trainers.experiments.planted import tiny

from hyperoracle_trainers.experiments.definition import (
    DefinitionError,
    find_definition,
    read_definition,
    shipped_definitions,
)


def test_a_definition_says_everything_about_a_task(tmp_path: Path) -> None:
    experiment = tiny(tmp_path)
    (task,) = experiment.tasks
    assert (task.algorithm, task.settings.env_id) == ("ppo", "BriefCartPole-v0")
    assert task.settings.hidden_sizes == (4,)
    assert list(task.space) == ["learning_rate"]
    assert experiment.strategies == ("default", "best_config")
    assert experiment.strategy_definition("best_config") == {"name": "best_config"}


def test_a_strategy_is_any_word_with_settings(tmp_path: Path) -> None:
    said = '[strategies.wide]\ndefinition = { name = "bandit", window = 10 }\nhold = 4'
    experiment = tiny(tmp_path, ("[strategies.best_config]", said))
    assert experiment.strategy_definition("wide") == {"name": "bandit", "window": 10}
    assert experiment.tables.strategies["wide"].hold == 4


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('title = "Tiny"', "title = ", "expected a TOML file"),
        ("memories = 2", "memories = 0", "memories: Input should be greater"),
        ("memories = 2", "memoriez = 2", "no field 'memoriez'; did you mean memories"),
        ('"reporting"', '"fun"', "purpose: Input should be 'tuning' or 'reporting'"),
        ("[0, 2]", "[2, 0]", "expected growing numbers"),
        ("[0, 2]", "[0, 2]\nconcurrent_jobs = 4", "expected multiples of concurrent_jobs = 4"),
        ("BriefCartPole-v0", "Nothing-v9", "Nothing-v9"),
        ("epochs = 1", "epoks = 1", "epoks: expected settings of PPOSettings"),
        ("epochs = 1", "seed = 1", "expected no seed, which the runner chooses"),
        ("learning_rate =", "momentum =", "expected a hyperparameter that can be"),
        (
            "strategies.best_config",
            "strategies.random_policy",
            "expected none called random_policy",
        ),
        ("[strategies.best_config]", "[strategies.default]\nhold = 2", "expected an empty table"),
        (
            "[strategies.best_config]",
            "[strategies.random]\nmemories = 3",
            "at most the experiment's 2",
        ),
        (
            "[strategies.best_config]",
            "[strategies.random]\nmemory_sizes = [1]",
            "some of the exper",
        ),
        ("[strategies.best_config]", "[strategies.random]\nmemory_sizes = [2, 0]", "in order"),
        (
            '"BriefCartPole-v0"',
            '"BriefCartPole-v0"\nmemories = 3',
            "memories of brief: expected at",
        ),
        ("memories = 2", 'memories = 2\nmeasured_role = { cold = "auto" }', "Field required"),
        (
            '[space]\nlearning_rate = "scale:0.5,1,2"',
            "",
            "expected hyperparameters that strategies",
        ),
        ("memories = 2", 'memories = 2\nreferences = ["epgt"]', "strategies of the definition"),
        ("tasks.brief", 'tasks."a--b"', "expected names of letters"),
    ],
)
def test_what_has_no_meaning_is_told_in_one_line(
    before: str, after: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DefinitionError, match=r"tiny\.toml") as caught:
        tiny(tmp_path, (before, after))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        DefinitionError,
        match="concurrent, four-hyperparameters, mujoco-short, small-tasks, smoke, tune-",
    ):
        find_definition("nothing")


def test_every_shipped_definition_is_read() -> None:
    assert {path.stem for path in shipped_definitions()} == {
        "concurrent",
        "four-hyperparameters",
        "mujoco-short",
        "small-tasks",
        "smoke",
        "tune-small-tasks",
        "wider",
    }
    for path in shipped_definitions():
        assert read_definition(path).tasks
