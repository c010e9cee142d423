from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from hyperoracle_client.cli import main
from hyperoracle_client.commands.options import opened_api
from hyperoracle_trainers.runs import planned_run
from hyperoracle_trainers.runs.checkpoints import checkpoints_in
from hyperoracle_trainers.runs.log import _kept_from_others
from hyperoracle_trainers.saved_state import read_state, write_state

from .test_train import STORE, figures_of

RUN = ["train", "ppo", "CartPole-v1", "--total-env-steps", "1024", "--set", "number_of_envs=2",
       "--set", "rollout_length=32", "--set", "epochs=2", "--set", "number_of_minibatches=4",
       "--set", "hidden_sizes=8,8", "--evaluate", "2", "--json", "--checkpoint-every",
       "192"]  # fmt: skip
TIMES = ("collect_seconds", "update_seconds", "source_seconds")


class Cut(Exception):
    """Ends a run as a power failure would: nobody is told."""


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command and cuts it off once the phase of an index is in its log."""

    def cut_off(arguments: list[str], phase_index: int) -> None:
        original = planned_run.RunLog.record

        def record(self: Any, phase: Any) -> None:
            original(self, phase)
            if phase.index == phase_index:
                raise Cut

        with monkeypatch.context() as patch:
            patch.setattr(planned_run.RunLog, "record", record)
            with pytest.raises(Cut):
                main(arguments)

    return cut_off


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def lines(folder: str, *events: str) -> list[dict[str, Any]]:
    written = [json.loads(line) for line in (Path(folder) / "run.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name not in TIMES}
        for line in written
        if line["event"] in events
    ]


def compared(figures: dict[str, Any]) -> dict[str, Any]:
    varying = ("wall_seconds", "env_steps_per_second", "folder", "checkpoint", "oracle")
    return {name: value for name, value in figures.items() if name not in varying}


def test_a_run_that_another_process_is_at_is_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*RUN, "--out", "log"]) == 0
    capsys.readouterr()
    before = Path("log/run.jsonl").read_bytes()
    with _kept_from_others(Path("log")):  # a lock is of its file's opening, not of the process
        assert main(["train", "--resume", "log"]) == 1
    captured = capsys.readouterr()
    assert "log: expected a run that no process is at" in captured.err
    assert captured.err.count("\n") == 1
    assert Path("log/run.jsonl").read_bytes() == before
    assert main(["train", "--resume", "log"]) == 0, "the lock is gone"


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "acktr"])
def test_the_log_and_figures_of_a_resumed_run_are_those_of_an_uninterrupted_one(
    algorithm: str, cut_off: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [algorithm if each == "ppo" else each for each in RUN]
    if algorithm != "ppo":
        for name in ("epochs=2", "number_of_minibatches=4"):
            position = arguments.index(name)
            del arguments[position - 1 : position + 1]
    assert main([*arguments, "--out", "whole"]) == 0
    whole = figures_of(capsys)
    cut_off([*arguments, "--out", "cut"], phase_index=10)
    (checkpoint,) = checkpoints_in(Path("cut"))
    assert checkpoint.name == "env-step-000000000576.checkpoint"
    capsys.readouterr()
    assert main(["train", "--resume", "cut", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "", "nothing is inexact"
    resumed = json.loads(printed.out)
    assert compared(resumed) == compared(whole)
    for name in ("phases.csv", "schedule.csv"):
        assert rows(Path("cut") / name) == rows(Path("whole") / name)
    assert lines("cut", "phase") == lines("whole", "phase")
    assert (
        len(lines("cut", "start")) == len(lines("cut", "resume")) == len(lines("cut", "end")) == 1
    )
    ends = [read_state(checkpoints_in(Path(folder))[-1]) for folder in ("cut", "whole")]
    assert str(ends[0]["trainer"]) == str(ends[1]["trainer"])


def test_a_replayed_schedule_goes_on_without_its_file(
    cut_off: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("given.csv").write_text(
        "update_step,env_step,learning_rate\r\n0,0,0.01\r\n40,0,0.001\r\n80,0,0.0003\r\n"
    )
    replay = [*RUN, "--replay", "given.csv"]
    assert main([*replay, "--out", "whole"]) == 0
    cut_off([*replay, "--out", "cut"], phase_index=8)
    Path("given.csv").unlink()
    assert main(["train", "--resume", "cut", "--json"]) == 0
    schedule = rows(Path("cut/schedule.csv"))
    assert schedule == rows(Path("whole/schedule.csv"))
    assert {row["learning_rate"] for row in schedule} == {"0.01", "0.001", "0.0003"}
    assert lines("cut", "phase") == lines("whole", "phase")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_asked_to_stop_goes_on_with_its_job(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "ppo", f"Interrupting{number.name}-v0", "--total-env-steps", "384",
                 "--set", "rollout_length=64", "--set", "number_of_minibatches=4", "--oracle",
                 "embedded:oracle.db", "--study", "s", "--strategy", "random", "--evaluate", "0",
                 "--out", "log"]  # fmt: skip
    assert main(arguments) == 130
    printed = capsys.readouterr()
    assert "hyperoracle train --resume log" in printed.out
    (checkpoint,) = checkpoints_in(Path("log"))
    assert checkpoint.name == "env-step-000000000192.checkpoint"
    with opened_api(STORE) as api:
        (job,) = api.jobs("s").jobs
    assert (job.status, job.reports) == ("finished", 3)

    # The signal comes again with this process's 150th env step, in the last phase.
    assert main(["train", "--resume", "log", "--json"]) == 130
    assert figures_of(capsys)["env_steps"] == 384
    with opened_api(STORE) as api:
        (job_after,) = api.jobs("s").jobs
        assert [row.update_step for row in api.schedule("s").rows] == [0, 40, 80, 120, 160, 200]
    assert job_after.job_id == job.job_id
    assert (job_after.status, job_after.reports) == ("finished", 6)


def test_a_run_may_be_made_longer_where_nothing_depends_on_its_length(
    capsys: pytest.CaptureFixture[str],
) -> None:
    longer = [*RUN, "--set", "decay_learning_rate=false"]
    assert main([*longer, "--out", "short"]) == 0
    assert main(["train", "--resume", "short", "--total-env-steps", "1536", "--json"]) == 0
    longer[longer.index("1024")] = "1536"
    assert main([*longer, "--out", "long"]) == 0
    assert rows(Path("short/phases.csv")) == rows(Path("long/phases.csv"))


def test_a_complete_run_has_nothing_left_to_train(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--out", "log"]) == 0
    before = figures_of(capsys)
    phases = Path("log/phases.csv").read_text()
    assert main(["train", "--resume", "log", "--json"]) == 0
    assert compared(figures_of(capsys)) == compared(before)
    assert Path("log/phases.csv").read_text() == phases


def test_checkpoints_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    without = [*RUN, "--out", "log"]
    without[without.index("192")] = "0"
    assert main(without) == 0
    assert figures_of(capsys)["checkpoint"] is None
    assert not Path("log/checkpoints").exists()


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--resume", "nowhere"], "--resume nowhere: expected the folder of a run"),
        (["--resume", "."], "expected a run folder with checkpoints"),
        (["--resume", "log", "--seed", "3"], "--seed: expected none beside --resume"),
        (["ppo", "CartPole-v1", "--resume", "log"], "ALGORITHM: expected none beside --resume"),
        (["--resume", "log", "--out", "x"], "--out: expected none beside --resume"),
        (["--resume", "log", "--oracle", "http://h"], "of a run without one"),
        (["--resume", "log", "--total-env-steps", "2048"], "learning_rate depends on its length"),
        (["--resume", "log", "--total-env-steps", "8"], "expected at least the 1024 taken"),
        (["--eval-only", "nowhere"], "--eval-only nowhere: expected a run folder or a checkpoint"),
        (["--eval-only", "log", "--set", "gamma=0"], "--set: expected none beside --eval-only"),
        (["--eval-only", "log", "--total-env-steps", "9"], "--total-env-steps: expected none"),
        (["--eval-only", "log/run.jsonl"], "expected a whole checkpoint, got a damaged file"),
        ([], "expected ALGORITHM and ENV"),
        (["ppo"], "expected ALGORITHM and ENV"),
        (["--resume", "log", "--preset", "mujoco-ppo"], "--preset: expected none beside --resume"),
    ],
)
def test_a_wrong_argument_gets_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, "--set", "decay_learning_rate=true", "--out", "log"]) == 0
    capsys.readouterr()
    assert main(["train", *arguments]) == 2
    assert expected in one_line(capsys)


def test_a_log_that_is_shorter_than_it_was_gets_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*RUN, "--out", "log"]) == 0
    phases = Path("log/phases.csv").read_bytes()
    Path("log/schedule.csv").write_text("")
    capsys.readouterr()
    assert main(["train", "--resume", "log"]) == 1
    assert "schedule.csv: expected the run's log" in one_line(capsys)
    assert Path("log/phases.csv").read_bytes() == phases


def test_other_package_versions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--out", "log"]) == 0
    (path,) = checkpoints_in(Path("log"))
    state = read_state(path)
    state["packages"]["torch"] = "1.0"
    write_state(path, state)
    capsys.readouterr()
    assert main(["train", "--resume", "log", "--json"]) == 0
    assert "other versions of torch" in capsys.readouterr().err


def test_a_saved_policy_is_evaluated_as_it_was_after_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*RUN, "--out", "log"]) == 0
    trained = figures_of(capsys)
    (checkpoint,) = checkpoints_in(Path("log"))
    for path in ("log", str(checkpoint)):
        assert main(["train", "--eval-only", path, "--evaluate", "2", "--json"]) == 0
        figures = figures_of(capsys)
        assert figures["evaluation_returns"] == trained["evaluation_returns"]
        assert figures["env_steps"] == 1024
        assert figures["checkpoint"] == str(checkpoint)
    assert main(["train", "--eval-only", "log", "--evaluate", "6", "--seed", "9"]) == 0
    table = capsys.readouterr().out
    assert "mean return" in table
    assert str(checkpoint) in table
