"""`hyperoracle train --log`."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hyperoracle_client.cli import main

SHORT = ["train", "a2c", "CartPole-v1", "--total-env-steps", "256", "--evaluate", "1", "--out",
         "log", "--json"]  # fmt: skip


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stands for the user's own package."""
    module: Any = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_tensorboard_and_picture_are_written_beside_the_run_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*SHORT, "--log", "tensorboard", "--log", "picture"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "completed"
    names = sorted(path.name for path in Path("log").iterdir() if path.is_file())
    assert names[0].startswith("events.out.tfevents.")
    assert names[1:] == ["phases.csv", "run.jsonl", "schedule.csv", "schedule.png"]
    assert Path("log/schedule.png").read_bytes().startswith(b"\x89PNG")


def test_a_dry_run_says_which_writers_there_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--log", "tensorboard", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["writers"] == ["tensorboard"]


def test_a_tracker_that_fails_in_mid_run_costs_one_line_and_not_the_run(
    wandb: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Down:
        def log(self, data: dict[str, Any], *, step: int) -> None:
            raise ConnectionError("the service is down")

        def finish(self) -> None:
            raise ConnectionError("the service is still down")

    wandb.init = lambda **_: Down()
    assert main([*SHORT, "--log", "wandb"]) == 0
    assert json.loads(capsys.readouterr().out)["env_steps"] == 256
    (record,) = caplog.records
    assert record.message == (
        "TrackerWriter: ConnectionError: the service is down; training goes on without it"
    )


def test_a_tracker_that_does_not_start_ends_the_run_before_it_trains(
    wandb: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def init(**_: Any) -> None:
        raise PermissionError("no account:\nlog in first")

    wandb.init = init
    assert main([*SHORT, "--log", "wandb"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "hyperoracle train: --log wandb: expected a writer that starts, got PermissionError: "
        "no account: log in first; correct that or leave it out\n"
    )
    (start,) = Path("log/run.jsonl").read_text().splitlines()
    assert json.loads(start)["event"] == "start"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["mlflow"], "--log mlflow: expected tensorboard or wandb or picture, got 'mlflow'"),
        (["picture", "picture"], "--log picture: expected picture once, got it twice"),
        (["wandb"], "--log wandb: expected the package wandb, got none; install it with: pip"),
    ],
)  # fmt: skip
def test_a_writer_that_cannot_be_had_is_told_in_one_line_before_anything_starts(
    names: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyperoracle_trainers.runs.writers.find_spec", _without("wandb"))
    options = [part for name in names for part in ("--log", name)]
    assert main([*SHORT, *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"hyperoracle train: {expected}")
    assert captured.err.count("\n") == 1
    assert not Path("log").exists()


def _without(missing: str) -> Any:
    return lambda name: None if name == missing else object()
