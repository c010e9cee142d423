from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.settings import PPOSettings
from hyperoracle_trainers.runs.log import GrowingLog, RunLog, read_history
from hyperoracle_trainers.runs.run import make_trainer


@pytest.fixture
def settings() -> PPOSettings:
    return default_settings(
        "ppo", "CartPole-v1", number_of_envs=1, rollout_length=64, total_env_steps=192, epochs=1,
        decisions="minibatch",
    )  # fmt: skip


@pytest.fixture
def log(settings: PPOSettings, tmp_path: Path) -> Path:
    with RunLog(tmp_path / "log", settings) as log:
        for phase in make_trainer(settings).train():
            log.record(phase)
    return tmp_path / "log"


def test_episodes_are_spread_over_their_phase(log: Path) -> None:
    history = read_history(log, "a run")
    phases = [json.loads(line) for line in (log / "run.jsonl").read_text().splitlines()[1:]]
    assert history.name == "a run"
    assert history.episode_returns == [each for line in phases for each in line["episode_returns"]]
    count = len(phases[0]["episode_returns"])
    assert count > 1
    wanted = [64 * (index + 1) / count for index in range(count)]
    assert history.episode_env_steps[:count] == pytest.approx(wanted)
    assert history.episode_env_steps[-1] == 192


def test_decisions_act_from_the_end_of_their_phase_until_the_next(log: Path) -> None:
    history = read_history(log, "a run", explored={1, 8})
    # Four minibatches per phase, whose decisions act in the 64 env steps after the phase's end.
    assert [each.env_step for each in history.decisions] == [
        64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240
    ]  # fmt: skip
    assert [each.phase for each in history.decisions] == [0] * 4 + [1] * 4 + [2] * 4
    assert [index for index, each in enumerate(history.decisions) if each.explored] == [1, 8]
    assert history.decisions[0].values["clip_range"] == 0.2
    assert history.end_env_step == 256
    assert history.total_env_steps == 192


def test_the_base_schedule_is_that_of_the_settings(log: Path, settings: PPOSettings) -> None:
    base = read_history(log, "a run").base
    assert base.at(0.0)["learning_rate"] == settings.learning_rate
    assert base.at(1.0)["learning_rate"] == 0.0
    assert base.at(0.5)["clip_range"] == settings.clip_range


def test_the_log_of_a_run_that_was_cut_off_is_read_as_far_as_it_goes(log: Path) -> None:
    lines = (log / "run.jsonl").read_text().splitlines()
    (log / "run.jsonl").write_text("\n".join(lines[:2]) + "\n" + lines[2][:30])
    history = read_history(log, "cut off")
    assert {each.phase for each in history.decisions} == {0}
    assert history.end_env_step == 128


def test_a_run_that_has_only_begun_is_empty(log: Path) -> None:
    lines = (log / "run.jsonl").read_text().splitlines()
    (log / "run.jsonl").write_text(lines[0] + "\n")
    history = read_history(log, "begun")
    assert history.episode_returns == history.decisions == []


def test_a_growing_log_gives_each_complete_line_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    log = GrowingLog(path)
    assert log.new_lines() == []
    with path.open("w") as file:
        for text, new in [('{"a": 1}\n{"b"', [{"a": 1}]), (": 2}", []), ("\n", [{"b": 2}])]:
            file.write(text)
            file.flush()
            assert log.new_lines() == new
            assert log.new_lines() == []


def test_a_run_log_grows_while_the_run_goes_on(settings: PPOSettings, tmp_path: Path) -> None:
    growing = GrowingLog(tmp_path / "run.jsonl")
    seen = []
    with RunLog(tmp_path, settings) as log:
        for phase in make_trainer(settings).train():
            log.record(phase)
            seen.append([line["event"] for line in growing.new_lines()])
    assert seen == [["start", "phase"], ["phase"], ["phase"]]
