from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from trainers.experiments.planted import cells_of, plant, tiny

from hyperoracle_trainers.experiments.comparison import compare, scores_by_task
from hyperoracle_trainers.experiments.definition import Experiment, read_definition
from hyperoracle_trainers.experiments.packed import ResultsError
from hyperoracle_trainers.experiments.report import write_report
from hyperoracle_trainers.experiments.results import read_results
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
    row = next(line for line in text.splitlines() if line.startswith("| best_config | 2 | 2 |"))
    _, _, _, _, score, gained, bound, better, so_far, diverged, _ = row.split("|")
    assert score == " 1.494 [1.481, 1.506] "
    # Two memories bound neither much: -1 might have come next.
    assert re.fullmatch(r" \+0.494 \[-0\.\d+, \+0\.\d+\] ", gained)
    assert -1.0 < float(bound) < 0.0
    assert re.fullmatch(r" 1.000 \[0\.\d+, 1.000\] ", better)
    assert so_far.startswith(" +0.494 [")
    assert diverged == " 0 "
    assert "9 of 9" not in text
    assert f"{len(cells_of(experiment))} of {len(cells_of(experiment))} runs are made" in text
    for name in ("learning_curves.png", "gain.png", "profiles.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert [row["ok"] for row in report.figures["rows"]] == [None, None]
    assert report.figures["rows"][0]["value"] == pytest.approx(float(bound), abs=6e-4)


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
    assert "| random | any | 2 | 0.500 [0.500, 0.500] | -0.500 [-" in text
    assert "brief, random: lower bound of gain" in [claim.what for claim in report.claims]


def two_tasks(folder: Path, memories: int = 10) -> Experiment:
    """Return a definition of a task with a default that is off and one with a tuned one."""
    env = 'env = "BriefCartPole-v0"\n'
    return tiny(
        folder,
        ("memories = 2", f'memories = {memories}\nreferences = ["best_config"]'),
        (env, f'{env}default_is = "off"\n[tasks.tuned]\n{env}default_is = "tuned"\n'),
        ("[strategies.best_config]", "[strategies.best_config]\n[strategies.epgt]"),
    )


def plant_contest(folder: Path, experiment: Experiment, epgt_tuned: float) -> None:
    """Plant flat curves: of a return r the score is (r - 20) / 80."""
    returns = {
        ("brief", "best_config"): 120.0,
        ("tuned", "best_config"): 100.0,
        ("brief", "epgt"): 140.0,
        ("tuned", "epgt"): epgt_tuned,
    }
    for cell in cells_of(experiment):
        is_exploring = cell.strategy == "epgt" and not cell.is_measured
        known = returns.get((cell.task, cell.strategy), RETURNS.get(cell.strategy, 0.0))
        plant(folder, cell, 60.0 if is_exploring else known)


def test_a_reference_is_beaten_where_the_planted_scores_say_so(tmp_path: Path) -> None:
    experiment = two_tasks(tmp_path)
    plant_contest(tmp_path, experiment, epgt_tuned=98.4)
    report = write_report(experiment, tmp_path)
    text = report.page.read_text(encoding="utf-8")
    # Gains of 20 / 80 and -1.6 / 80; better on the one task, worse on the other.
    assert "| brief | epgt | 2 | best_config | 10 | +0.250 [" in text
    assert "| tuned | epgt | 2 | best_config | 10 | -0.020 [" in text
    assert "| all tasks | epgt | 2 | best_config | 10 | +0.115 [" in text
    assert [
        line.split(" | ")[6][:5] for line in text.splitlines() if "| best_config | 10 |" in line
    ] == [
        "1.000",
        "0.000",
        "0.500",
    ], "better on the one task, worse on the other"
    assert "| tuned | -0.020 |" in text
    over = [claim for claim in report.claims if " over best_config: " in claim.what]
    assert [claim.what.partition(": ")[2] for claim in over] == [
        "lower bound of probability of improvement",
        "worst task's measured gain (tuned)",
    ]
    assert [claim.ok for claim in over] == [False, True]
    plant_contest(tmp_path, experiment, epgt_tuned=101.0)
    assert [c.ok for c in write_report(experiment, tmp_path).claims if " over " in c.what] == [
        True,
        True,
    ]
    plant_contest(tmp_path, experiment, epgt_tuned=97.0)
    assert [c.ok for c in write_report(experiment, tmp_path).claims if " over " in c.what] == [
        False,
        False,
    ]


def test_learning_has_its_price(tmp_path: Path) -> None:
    experiment = two_tasks(tmp_path, memories=3)
    plant_contest(tmp_path, experiment, epgt_tuned=100.0)
    comparisons = compare(
        experiment, scores_by_task(experiment, read_results(tmp_path, cells_of(experiment)))
    )
    so_far = {
        (each.scope.name, each.strategy, each.earlier_runs): float(each.gain_so_far.value)
        for each in comparisons
        if each.gain_so_far is not None
    }
    assert {strategy for _, strategy, _ in so_far} == {"best_config", "epgt"}
    # Scores of the three runs: 1.5, 0.5 while exploring, 1.5.
    assert so_far["brief", "epgt", 0] == pytest.approx(0.5)
    assert so_far["brief", "epgt", 2] == pytest.approx((0.5 - 0.5 + 0.5) / 3)
    assert so_far["tuned", "epgt", 2] == pytest.approx(-0.5 / 3)
    assert so_far["all tasks", "epgt", 2] == pytest.approx(0.0)


def test_help_is_claimed_only_where_the_default_is_off(tmp_path: Path) -> None:
    experiment = two_tasks(tmp_path)
    text = (tmp_path / "tiny.toml").read_text().replace("[0, 2]", "[0, 16]")
    (tmp_path / "warm.toml").write_text(text)
    experiment = read_definition(tmp_path / "warm.toml")
    plant_contest(tmp_path, experiment, epgt_tuned=100.0)
    claims = write_report(experiment, tmp_path).claims
    helps = [
        claim for claim in claims if claim.unit == "probability" and " over " not in claim.what
    ]
    assert {claim.what for claim in helps} == {
        f"brief, {strategy} after 16 runs: {what}"
        for strategy in ("best_config", "epgt")
        for what in ("probability of improvement", "lower bound of it")
    }
    assert all(claim.ok for claim in helps)
    assert {claim.ok for claim in claims if "lower bound of gain" in claim.what} == {None}


def test_a_partial_experiment_is_reported_with_what_there_is(tmp_path: Path) -> None:
    experiment = two_tasks(tmp_path)
    cells = cells_of(experiment)
    for cell in cells[: len(cells) * 2 // 3]:
        plant(tmp_path, cell, RETURNS.get(cell.strategy, 110.0) + cell.memory % 3)
    report = write_report(experiment, tmp_path)
    claims = {claim.what: claim.memories for claim in report.claims}
    assert claims["brief, epgt after 2 runs: lower bound of gain"] == 7
    assert claims["tuned, epgt after 2 runs: lower bound of gain"] == 6


def test_the_default_alone_is_reported_by_its_areas(tmp_path: Path) -> None:
    env = 'env = "BriefCartPole-v0"\n'
    experiment = tiny(
        tmp_path,
        ("[0, 2]", "[0]"),
        ('[space]\nlearning_rate = "scale:0.5,1,2"', ""),
        ("[strategies.best_config]", ""),
        (env, f"{env}[tasks.fast]\n{env}settings = {{ learning_rate = 0.01 }}\n"),
    )
    returns = {("brief", 0): 100.0, ("brief", 1): 110.0, ("fast", 0): 60.0, ("fast", 1): 60.0}
    for cell in cells_of(experiment):
        is_random = cell.strategy == "random_policy"
        plant(tmp_path, cell, 20.0 if is_random else returns[cell.task, cell.memory])
    report = write_report(experiment, tmp_path)
    text = report.page.read_text(encoding="utf-8")
    assert "| brief | BriefCartPole-v0 | 2 | 105 [100, 110] | 20 | 0 |" in text
    assert "| fast | BriefCartPole-v0 | 2 | 60 [60, 60] | 20 | 0 |" in text
    assert report.claims == []
    for name in ("learning_curves.png", "areas.png"):
        assert f"]({name})" in text
        assert (tmp_path / name).stat().st_size > 1000


def test_few_memories_show_nothing(tmp_path: Path) -> None:
    experiment = tiny(tmp_path, ("[0, 2]", "[16]"))
    for cell in cells_of(experiment):
        if cell.is_measured:
            plant(tmp_path, cell, RETURNS[cell.strategy])
    report = write_report(experiment, tmp_path)
    assert [claim.ok for claim in report.claims] == [None, None, None]
    assert report.page.read_text(encoding="utf-8").count("not shown: n=2") == 3


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
