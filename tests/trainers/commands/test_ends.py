"""How a run of `hyperoracle train` ends, what it says, and what its oracle is told."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from hyperoracle_client.cli import main
from hyperoracle_trainers.runs import planned_run

TRAIN = ["--set", "number_of_envs=2", "--set", "rollout_length=32", "--set", "epochs=1", "--set",
         "number_of_minibatches=2", "--set", "hidden_sizes=8", "--oracle", "embedded:oracle.db",
         "--study", "s", "--strategy", "random", "--out", "log"]  # fmt: skip


def reasons() -> list[str]:
    """Why the jobs in the store ended, by the oracle's own record."""
    with closing(sqlite3.connect("oracle.db")) as store:
        return [row[0] for row in store.execute("select finish_reason from jobs")]


@pytest.fixture
def misbehaving() -> Any:
    entry_point = gymnasium.spec("Misbehaving-v0").entry_point
    for wrong in ("raise", "nan reward"):
        name = f"{wrong.title().replace(' ', '')}-v0"
        gymnasium.register(name, entry_point, kwargs={"wrong": wrong, "at": 100, "ends_after": 7})
    yield
    for name in ("Raise-v0", "NanReward-v0"):
        gymnasium.registry.pop(name)


@pytest.mark.usefixtures("misbehaving")
@pytest.mark.parametrize(
    ("env_id", "what"),
    [
        ("Raise-v0", "got ZeroDivisionError: the pole is gone"),
        ("NanReward-v0", "expected a finite reward, got nan"),
    ],
)
def test_an_environment_that_fails_fails_the_job_and_names_log_and_checkpoint(
    env_id: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "ppo", env_id, "--total-env-steps", "640", "--checkpoint-every", "64"]
    assert main([*arguments, *TRAIN]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"hyperoracle train: {env_id}: environment 0, step 2 of its episode, ")
    assert what in told
    assert "learning_rate" not in told
    assert "the log so far is in log, its newest checkpoint is log/" in told
    assert told.count("\n") == 1
    assert reasons() == ["failed"]


@pytest.mark.usefixtures("misbehaving")
def test_a_run_that_fails_before_its_first_checkpoint_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "a2c", "Raise-v0", "--set", "rollout_length=200", "--out", "log"]) == 1
    assert "it has no checkpoint yet" in capsys.readouterr().err


def test_what_fails_before_training_begins_fails_the_job(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("no room")

    monkeypatch.setattr(planned_run, "make_writer", broken)
    assert main(["train", "ppo", "CartPole-v1", "--log", "picture", *TRAIN]) == 1
    assert "--log picture: expected a writer that starts" in capsys.readouterr().err
    assert reasons() == ["failed"]


def test_a_full_disk_under_the_log_fails_the_job(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(planned_run.RunLog, "record", full)
    assert main(["train", "ppo", "CartPole-v1", *TRAIN]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert reasons() == ["failed"]


def test_a_run_that_diverges_has_failed_and_a_whole_one_is_completed() -> None:
    wild = ["--set", "learning_rate=1e30", "--set", "max_grad_norm=1e30"]
    arguments = ["train", "ppo", "CartPole-v1", "--total-env-steps", "256", "--evaluate", "0"]
    assert main([*arguments, *TRAIN, *wild]) == 1
    assert main([*arguments, *TRAIN[:-1], "other"]) == 0
    assert sorted(reasons()) == ["completed", "failed"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_is_interrupted(number: signal.Signals) -> None:
    assert main(["train", "ppo", f"Interrupting{number.name}-v0", *TRAIN]) == 130
    assert reasons() == ["interrupted"]


def test_an_evaluation_whose_episodes_do_not_end_says_how_many_did(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    arguments = ["train", "ppo", "Endless-v0", "--total-env-steps", "128", "--evaluate", "3",
                 "--evaluation-steps", "40", *TRAIN]  # fmt: skip
    assert main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["evaluation_episodes"], figures["evaluation_returns"]) == (3, [])
    assert figures["evaluation_return"] is None
    assert figures["last_episode_env_step"] is None
    assert main(["train", "--eval-only", "log", "--evaluate", "2", "--evaluation-steps", "9"]) == 0
    assert "0 of 2" in capsys.readouterr().out
    assert main([*arguments[:-1], "log-2"]) == 0
    assert "evaluation return (0 of 3 episodes)" in capsys.readouterr().out


# What a shell, nohup or a service starts the command with.
_STARTED_IGNORING = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT):
    signal.signal(number, getattr(signal, sys.argv.pop(1)))
import gymnasium
from hyperoracle_client.cli import main
class Hearing(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    steps = 0
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low, {}
    def step(self, action):
        self.steps += 1
        if self.steps == 40:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGINT)
        return self.observation_space.low, 1.0, self.steps % 4 == 0, False, {}
gymnasium.register("Hearing-v0", Hearing)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hangup", "ctrl_c", "code", "status"),
    [
        ("SIG_IGN", "SIG_IGN", 0, "completed"),  # nohup ... & of a script
        ("SIG_IGN", "default_int_handler", 130, "interrupted"),  # nohup in a terminal
        ("SIG_DFL", "SIG_IGN", 130, "interrupted"),  # the terminal closes
    ],
)
def test_a_signal_that_it_was_started_to_ignore_does_not_stop_it(
    hangup: str, ctrl_c: str, code: int, status: str
) -> None:
    arguments = ["train", "a2c", "Hearing-v0", "--total-env-steps", "128", "--evaluate", "0",
                 "--set", "number_of_envs=1", "--json"]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-c", _STARTED_IGNORING, hangup, ctrl_c, *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    figures = json.loads(ended.stdout)
    assert figures["status"] == status
    assert (figures["env_steps"] >= 128) == (status == "completed")


def test_an_old_name_of_a_game_is_told_and_trained_as_todays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "ppo", "PongNoFrameskip-v4", "--dry-run"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["settings"]["env_id"] == "ALE/Pong-v5"
    assert "ALE-Pong-v5" in plan["folder"]


@pytest.mark.slow
def test_an_environment_of_a_module_beside_is_trained_and_taken_up_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "beside_here.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v0', 'gymnasium.envs.classic_control.cartpole:CartPoleEnv',"
        " max_episode_steps=20)\n"
    )
    arguments = ["train", "ppo", "beside_here:Mine-v0", "--total-env-steps", "128", *TRAIN]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["evaluation_return"] <= 20
    code = "import sys; from hyperoracle_client.cli import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code, "train", "--eval-only", "log", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["env_id"] == "beside_here:Mine-v0"
    gymnasium.registry.pop("Mine-v0")
