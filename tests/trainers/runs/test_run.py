from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.runs.log import RunLog
from hyperoracle_trainers.runs.run import make_trainer, run


def _settings(algorithm: str):
    return default_settings(
        algorithm, "CartPole-v1", number_of_envs=2, rollout_length=32, total_env_steps=640
    )


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "acktr"])
def test_a_run_is_summed_up_and_observed_phase_by_phase(algorithm: str) -> None:
    phases: list[Phase] = []
    summary = run(
        make_trainer(_settings(algorithm)), observers=[phases.append], evaluation_episodes=3
    )
    returns = [each for phase in phases for each in phase.episode_returns]
    assert summary.env_steps == phases[-1].env_step == 640
    assert summary.update_steps == phases[-1].update_step
    assert summary.episodes == len(returns) > 5
    assert summary.mean_return == pytest.approx(sum(returns) / len(returns))
    assert summary.final_return == pytest.approx(sum(returns[-20:]) / len(returns[-20:]))
    assert len(summary.evaluation_returns) == 3
    spent = sum(phase.collect_seconds + phase.update_seconds for phase in phases)
    assert 0 < spent <= summary.wall_seconds


def test_a_run_without_a_finished_episode_has_no_return() -> None:
    settings = default_settings("a2c", "Pendulum-v1", total_env_steps=50)
    summary = run(make_trainer(settings))
    assert summary.final_return is None
    assert summary.mean_return is None
    assert summary.evaluation_returns == []


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "acktr"])
def test_the_log_holds_every_phase_in_all_three_files(algorithm: str, tmp_path: Path) -> None:
    settings = _settings(algorithm)
    phases: list[Phase] = []
    with RunLog(tmp_path / "new" / "folder", settings) as log:
        run(make_trainer(settings), observers=[log.record, phases.append])
        log.end({"final_return": 1.0})
    folder = tmp_path / "new" / "folder"
    first, *middle, last = map(json.loads, (folder / "run.jsonl").read_text().splitlines())
    assert first["event"] == "start"
    assert first["algorithm"] == algorithm
    assert first["settings"]["env_id"] == "CartPole-v1"
    assert "torch" in first["packages"]
    assert last == {"event": "end", "final_return": 1.0}
    assert [line["env_step"] for line in middle] == [phase.env_step for phase in phases]
    assert [tuple(line["episode_returns"]) for line in middle] == [
        phase.episode_returns for phase in phases
    ]
    with (folder / "phases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value_loss"]) for row in rows] == [
        phase.metrics["value_loss"] for phase in phases
    ]
    with (folder / "schedule.csv").open(newline="") as file:
        schedule = list(csv.DictReader(file))
    decisions = [each for phase in phases for each in phase.decisions]
    assert [float(row["learning_rate"]) for row in schedule] == [
        each.values["learning_rate"] for each in decisions
    ]


def test_a_run_that_fails_leaves_complete_lines(tmp_path: Path) -> None:
    settings = _settings("a2c")

    def stop(phase: Phase) -> None:
        if phase.index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), RunLog(tmp_path, settings) as log:
        run(make_trainer(settings), observers=[log.record, stop])
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "phase", "phase"]
