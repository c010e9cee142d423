from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trainers.experiments.planted import cells_of, plant, tiny

from hyperoracle_trainers.experiments.report import write_report
from hyperoracle_trainers.experiments.results import ResultsError
from hyperoracle_trainers.experiments.scores import curve_of, task_scores

RETURNS = {"random_policy": 20.0, "default": 100.0, "best_config": 140.0}


def test_the_report_has_the_planted_scores(tmp_path: Path) -> None:
    experiment = tiny(tmp_path)
    for cell in cells_of(experiment):
        plant(tmp_path, cell, RETURNS[cell.strategy] + 2 * cell.memory)
    report = write_report(experiment, tmp_path)
    text = report.page.read_text(encoding="utf-8")
    # Of the default 100 and 102, mean 101, less 20: a score of 1 is 81 above the random policy.
    assert "Area: random policy 20, default 101" in text
    assert "| best_config | 2 | 2 | 1.494 [1.481, 1.506] | +0.494 [+0.494, +0.494] " in text
    assert "| +0.494 | 1.000 [1.000, 1.000] | 0 |" in text
    assert "9 of 9" not in text
    assert f"{len(cells_of(experiment))} of {len(cells_of(experiment))} runs are made" in text
    for name in ("learning_curves.png", "gain.png", "profiles.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert [row["ok"] for row in report.figures["rows"]] == [None, None]
    assert report.figures["rows"][0]["value"] == pytest.approx(40 / 81)


def test_safety_and_help_are_shown_by_enough_memories(tmp_path: Path) -> None:
    experiment = tiny(tmp_path, ("memories = 2", "memories = 50"), ("[0, 2]", "[16]"))
    for cell in cells_of(experiment):
        if cell.is_measured:
            plant(tmp_path, cell, RETURNS[cell.strategy] + cell.memory % 5)
    report = write_report(experiment, tmp_path)
    assert [claim.ok for claim in report.claims] == [True, True, True]
    for cell in cells_of(experiment):
        if cell.is_measured and cell.strategy == "best_config":
            plant(tmp_path, cell, 80.0 + cell.memory % 5)
    report = write_report(experiment, tmp_path)
    assert [claim.ok for claim in report.claims] == [False, False, False]


def test_what_has_no_memory_is_compared_once_for_any_size(tmp_path: Path) -> None:
    said = "[strategies.best_config]\n[strategies.random]\nmemory_sizes = [0]"
    experiment = tiny(tmp_path, ("[strategies.best_config]", said))
    for cell in cells_of(experiment):
        plant(tmp_path, cell, {**RETURNS, "random": 60.0}[cell.strategy])
    report = write_report(experiment, tmp_path)
    text = report.page.read_text(encoding="utf-8")
    # Half of what the default gains over the random policy.
    assert "| random | any | 2 | 0.500 [0.500, 0.500] | -0.500 [-0.500, -0.500] " in text
    assert "brief, random: lower bound of gain" in [claim.what for claim in report.claims]


def test_few_memories_show_nothing(tmp_path: Path) -> None:
    experiment = tiny(tmp_path, ("[0, 2]", "[16]"))
    for cell in cells_of(experiment):
        if cell.is_measured:
            plant(tmp_path, cell, RETURNS[cell.strategy])
    report = write_report(experiment, tmp_path)
    assert [claim.ok for claim in report.claims] == [None, None, None]
    assert report.page.read_text(encoding="utf-8").count("not shown: too few memories") == 3


def test_without_the_default_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="hyperoracle experiment run tiny"):
        write_report(tiny(tmp_path), tmp_path)


def test_a_curve_holds_the_last_return_and_a_diverged_one_the_least() -> None:
    phases = {"env_step": [100, 200, 300, 400], "mean_return": [None, 5.0, 3.0, 8.0]}
    curve = curve_of({"status": "completed", "phases": phases}, 500)
    assert curve[[0, 20, 29, 30, 39, 49]].tolist() == [5.0, 5.0, 3.0, 3.0, 8.0, 8.0]
    curve = curve_of({"status": "diverged", "phases": phases}, 500)
    assert curve[[39, 40, 49]].tolist() == [8.0, 3.0, 3.0]


def test_a_run_in_which_no_episode_ended_scores_as_the_random_policy(tmp_path: Path) -> None:
    records = []
    for cell in cells_of(tiny(tmp_path)):
        if cell.is_measured:
            phases = {"env_step": [64], "mean_return": [RETURNS[cell.strategy]]}
            if cell.strategy == "best_config":
                phases["mean_return"] = [None]  # type: ignore[list-item] # as a phase without an episode has it
            records.append({**vars(cell), "status": "completed", "phases": phases})
    scores = task_scores(records, 64)
    assert scores is not None
    assert np.array_equal(scores.groups["best_config", 2].scores, [0.0, 0.0])
    assert np.array_equal(scores.groups["default", 0].scores, [1.0, 1.0])
