from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from hyperoracle_client.cli import main
from hyperoracle_trainers.demo import demonstration
from hyperoracle_trainers.demo import folder as demo_folder
from hyperoracle_trainers.demo.demonstration import DemoFailed, find_program, make_plan


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    assert demo_folder.prepare(tmp_path / "a" / "b") is None
    assert (tmp_path / "a" / "b").is_dir()


def test_an_earlier_demo_is_moved_aside_and_nothing_else(tmp_path: Path) -> None:
    for name in ("oracle.db", "oracle.db-wal", "demo.json", "schedule.png", "mine.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "job-1").mkdir()
    (tmp_path / "job-1" / "run.jsonl").write_text("a log")
    aside = demo_folder.prepare(tmp_path)
    assert aside is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier-demos", "mine.txt"]
    assert {path.name for path in aside.iterdir()} == {
        "oracle.db", "oracle.db-wal", "demo.json", "schedule.png", "job-1"
    }  # fmt: skip
    assert (aside / "job-1" / "run.jsonl").read_text() == "a log"
    assert demo_folder.prepare(tmp_path) is None


def test_two_demos_moved_aside_in_one_second_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_folder.time, "strftime", lambda _: "now")
    moved = []
    for content in ("first", "second"):
        (tmp_path / "demo.json").write_text(content)
        moved.append(demo_folder.prepare(tmp_path))
    assert [(path / "demo.json").read_text() for path in moved if path] == ["first", "second"]


def test_a_store_that_a_server_has_open_stays_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "oracle.db").touch()
    with (tmp_path / "oracle.db.lock").open("w") as lock:
        lock.write("1234")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["demo", "--folder", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "got process 1234, which has it open" in error
    assert error.count("\n") == 1
    assert (tmp_path / "oracle.db").exists()


def test_mujoco_tasks_have_shorter_rollouts_so_that_there_are_more_decisions() -> None:
    plan = make_plan(Path("f"), "Hopper-v5", total_env_steps=40_960, seed=3, compare=False)
    assert plan.settings.rollout_length == 1024
    assert plan.settings.decisions == "minibatch"
    assert plan.seeds == (3, 4)
    assert plan.hyperparameters == ["learning_rate", "clip_range"]


def test_other_tasks_keep_their_preset() -> None:
    plan = make_plan(Path("f"), "CartPole-v1", total_env_steps=2048, seed=0, compare=False)
    assert plan.settings.rollout_length == 128
    assert plan.overrides == {}


def test_without_the_server_there_is_one_line_that_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demonstration, "entry_points", lambda **_: ())
    assert main(["demo", "--folder", str(tmp_path / "demo")]) == 1
    error = capsys.readouterr().err
    assert "install hyperoracle-server" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "demo").exists()


def test_without_the_command_it_is_said_where_it_was_sought(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoFailed, match="install hyperoracle-client"):
        find_program()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--env", "Nowhere-v0"], "expected a registered Gymnasium environment"),
        (["--total-env-steps", "0"], "total_env_steps: expected a whole number"),
        (["--seed", "-1"], "seed: expected a whole number"),
        (["--url", "http://oracle:1"], "the demo starts its own oracle"),
    ],
)
def test_wrong_usage_is_told_in_one_line_before_anything_starts(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert list(Path().iterdir()) == []
