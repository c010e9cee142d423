from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hyperoracle_client.cli import main
from hyperoracle_trainers.hyperparameters.sources import ScheduleError, read_schedule

RUN = ["ppo", "CartPole-v1", "--total-env-steps", "512", "--set", "number_of_envs=4", "--set",
       "rollout_length=32", "--decisions", "minibatch", "--evaluate", "0"]  # fmt: skip
EXPORT = """job_id,sequence,update_step,env_step,applied,explored,learning_rate,clip_range,hyper_return
a,1,0,8,True,True,2.0,0.1,1.5
b,1,0,8,True,True,0.5,0.3,
a,2,4,16,False,False,0.5,0.3,
a,4,6,24,True,False,1.0,0.2,
"""  # noqa: E501 # a CSV file's lines are as long as they are


def returns_of(folder: str) -> list[Any]:
    lines = [json.loads(line) for line in Path(folder, "run.jsonl").read_text().splitlines()]
    return [
        (line["episode_returns"], line["metrics"]) for line in lines if line["event"] == "phase"
    ]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with random hyperparameters: its log, and the oracle's export of it."""
    folder = tmp_path_factory.mktemp("recorded")
    url = f"embedded:{folder / 'oracle.db'}"
    oracle = ["--oracle", url, "--study", "s", "--strategy", "random"]
    assert main(["train", *RUN, *oracle, "--out", str(folder / "log")]) == 0
    assert main(["export", "s", "--url", url, "--output", str(folder / "export.csv")]) == 0
    return folder


@pytest.mark.parametrize("file", ["log/schedule.csv", "export.csv"])
def test_a_replay_is_equal_to_the_recorded_run_bit_by_bit(recorded: Path, file: str) -> None:
    assert main(["replay", str(recorded / file), *RUN, "--out", "again"]) == 0
    assert returns_of("again") == returns_of(str(recorded / "log"))


def test_without_its_schedule_the_run_is_another_one(recorded: Path) -> None:
    assert main(["train", *RUN, "--out", "other"]) == 0
    assert returns_of("other") != returns_of(str(recorded / "log"))


def test_train_replays_too(recorded: Path) -> None:
    schedule = str(recorded / "log" / "schedule.csv")
    assert main(["train", *RUN, "--replay", schedule, "--out", "again"]) == 0
    assert returns_of("again") == returns_of(str(recorded / "log"))


def test_an_export_replays_the_named_job_with_its_defaults_where_it_used_them() -> None:
    Path("export.csv").write_text(EXPORT)
    source = read_schedule(Path("export.csv"), job="a", relative=["learning_rate"])
    assert source.relative == {"learning_rate"}
    proposed = [source.propose(env_step=0, update_step=step, signals={}) for step in range(8)]
    assert proposed[0] == proposed[3] == {"learning_rate": 2.0, "clip_range": 0.1}
    assert proposed[4] == proposed[5] == {}
    assert proposed[6] == proposed[7] == {"learning_rate": 1.0, "clip_range": 0.2}


@pytest.mark.parametrize(
    ("text", "job", "expected"),
    [
        (EXPORT, None, "expected --job to be one of a, b; got none"),
        (EXPORT, "c", "expected --job to be one of a, b; got c"),
        ("job_id,update_step\n", None, "got none called applied, env_step"),
        (EXPORT.replace("2.0", "fast"), "a", "update step 0: expected numbers"),
        ("update_step,env_step,gamma\n0,0,0.9\n", "a", "leave --job out"),
        ("what,ever\n", None, "expected the columns update_step"),
    ],
)
def test_a_schedule_that_cannot_be_replayed_is_told_in_one_line(
    text: str, job: str | None, expected: str
) -> None:
    Path("export.csv").write_text(text)
    with pytest.raises(ScheduleError) as error:
        read_schedule(Path("export.csv"), job=job, relative=[])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_replay_asks_no_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "s.csv", *RUN, "--url", "http://oracle:1"]) == 2
    assert capsys.readouterr().err.startswith("hyperoracle replay: --replay: expected no oracle")


@pytest.mark.parametrize(
    "arguments",
    ["FILE ppo --seed 1 CartPole-v1", "FILE --seed 1 ppo CartPole-v1",
     "--seed 1 FILE ppo CartPole-v1", "ppo.csv ppo CartPole-v1 --seed 1"],
)  # fmt: skip
def test_options_may_stand_anywhere(
    arguments: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = (recorded / "log" / "schedule.csv").read_text()
    for name in ("FILE", "ppo.csv"):
        Path(name).write_text(schedule)
    assert main(["replay", *arguments.split(), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["algorithm"], plan["settings"]["env_id"]) == ("ppo", "CartPole-v1")
    assert plan["settings"]["seed"] == 1
    assert plan["replays_a_schedule"]
