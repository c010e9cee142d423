from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from trainers.short_runs import small_trainer

from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.runs.run import run
from hyperoracle_trainers.runs.trackers import TrackerWriter, scalars_of, start_weights_and_biases


class FakeRun:
    """What a run of Weights & Biases does, as far as it is used."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.finished = 0

    def log(self, data: dict[str, Any], *, step: int) -> None:
        assert not self.finished
        assert not self.rows or step >= max(self.rows), "steps never go back"
        self.rows.setdefault(step, {}).update(data)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module: Any = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)
    module.run, module.asked = FakeRun(), []

    def init(**arguments: Any) -> FakeRun:
        module.asked.append(arguments)
        return module.run

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return module


def test_a_tracker_gets_every_phase_and_the_summary_and_is_finished() -> None:
    tracked, phases = FakeRun(), list[Phase]()
    trainer = small_trainer("ppo")
    summary = run(
        trainer, observers=[phases.append], writers=[TrackerWriter(tracked, trainer.settings)]
    )
    assert list(tracked.rows) == [phase.env_step for phase in phases]
    for phase in phases:
        row = tracked.rows[phase.env_step]
        assert row.items() >= scalars_of([phase]).items()
    assert row["summary/final_return"] == summary.final_return
    assert tracked.finished == 1


def test_short_phases_that_wait_for_their_point_are_sent_with_the_summary() -> None:
    tracked = FakeRun()
    settings = small_trainer("a2c", total_env_steps=1_000_000).settings
    writer = TrackerWriter(tracked, settings)
    for phase in small_trainer("a2c").train():
        writer.record(phase)
    assert not tracked.rows, "48 env steps of a million are no point yet"
    writer.end({"final_return": 3.0})
    assert tracked.rows[48]["summary/final_return"] == 3.0
    assert "losses/value_loss" in tracked.rows[48]


@pytest.mark.parametrize("project", [None, "mine"])
def test_weights_and_biases_is_told_settings_and_folder_and_minds_its_own_variables(
    project: str | None, wandb: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if project is not None:
        monkeypatch.setenv("WANDB_PROJECT", project)
    settings = small_trainer("ppo").settings
    start_weights_and_biases(tmp_path / "run", settings).close()
    (asked,) = wandb.asked
    assert asked["project"] == (project or "hyperoracle")
    assert asked["name"] == "run"
    assert asked["dir"] == str(tmp_path / "run")
    assert asked["config"]["env_id"] == "CartPole-v1"
    assert wandb.run.finished == 1
