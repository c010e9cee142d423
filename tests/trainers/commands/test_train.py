from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium
import pytest
import torch

from hyperoracle_client.cli import main
from hyperoracle_client.commands.options import opened_api
from hyperoracle_client.job.delivery import report_sender
from hyperoracle_client.job.delivery.report_sender import ReportSender
from hyperoracle_trainers.runs import planned_run

STORE = argparse.Namespace(url="embedded:oracle.db", token=None)
SHORT = ["train", "ppo", "CartPole-v1", "--total-env-steps", "512", "--set", "number_of_envs=4",
         "--set", "rollout_length=32", "--evaluate", "2"]  # fmt: skip


def figures_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    return figures


def test_a_run_without_an_oracle_prints_its_figures_and_leaves_its_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*SHORT, "--json", "--out", "log"]) == 0
    figures = figures_of(capsys)
    assert figures["status"] == "completed"
    assert figures["oracle"] is None
    assert figures["env_steps"] == 512
    assert figures["update_steps"] == 4 * 10 * 4
    assert len(figures["evaluation_returns"]) == 2
    assert figures["evaluation_return"] == pytest.approx(fmean(figures["evaluation_returns"]))
    lines = [json.loads(line) for line in Path("log/run.jsonl").read_text().splitlines()]
    assert lines[-1] == {"event": "end", **figures}
    returns = [each for line in lines[1:-1] for each in line["episode_returns"]]
    assert figures["episodes"] == len(returns)
    assert figures["final_return"] == pytest.approx(fmean(returns[-20:]))
    assert figures["mean_return"] == pytest.approx(fmean(returns))
    assert figures["env_steps_per_second"] == pytest.approx(512 / figures["wall_seconds"])


def test_a_run_is_logged_in_a_folder_of_its_own_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "a2c", "CartPole-v1", "--total-env-steps", "64", "--seed", "3"]) == 0
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("a2c-CartPole-v1-3-")
    printed = capsys.readouterr().out
    assert str(folder) in printed
    assert "final return" in printed
    assert "oracle" not in printed


@pytest.mark.parametrize("decisions", ["phase", "minibatch"])
def test_a_run_with_an_embedded_oracle_uses_what_it_proposes(
    decisions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--oracle", "embedded:oracle.db", "--decisions", decisions, "--json",
               "--strategy", "epgt"]  # fmt: skip
    assert main([*SHORT, *options, "--out", "log"]) == 0
    oracle = figures_of(capsys)["oracle"]
    decided = 4 if decisions == "phase" else 160
    assert oracle["study"] == "cartpole-v1-ppo"
    assert oracle["stats"]["proposals"] == decided
    assert oracle["stats"]["fallbacks"] == 0
    assert oracle["stats"]["reports_sent"] == 4
    assert oracle["overhead_percent"] > 0
    assert oracle["stats"]["background_seconds"] > 0
    with Path("log/schedule.csv").open(newline="") as file:
        used = [(int(row["update_step"]), float(row["clip_range"])) for row in csv.DictReader(file)]
    with opened_api(STORE) as api:
        told = api.schedule("cartpole-v1-ppo").rows
        assert api.study("cartpole-v1-ppo").credited_proposals > 0
        (job,) = api.jobs("cartpole-v1-ppo").jobs
    assert used == [(row.update_step, row.hyperparameters["clip_range"]) for row in told]
    assert len(used) == decided
    assert job.status == "finished"
    assert job.metadata["environment"] == "CartPole-v1"


@pytest.mark.parametrize("decisions", ["phase", "minibatch"])
def test_the_overhead_that_is_printed_is_made_of_its_parts(
    decisions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--oracle", "embedded:oracle.db", "--decisions", decisions, "--strategy", "epgt"]
    assert main([*SHORT, *options, "--json"]) == 0
    figures = figures_of(capsys)
    oracle = figures["oracle"]
    taken, beside = oracle["overhead_seconds"], oracle["beside_overhead_seconds"]
    assert taken.keys() == {"calls", "start", "finish", "interpreter", "slowed"}
    assert min(taken.values()) >= 0.0, "a short run's start alone is so much that all is measured"
    assert taken["calls"] > 0
    assert taken["start"] > 0
    without = figures["wall_seconds"] - sum(taken.values())
    assert oracle["overhead_percent"] == pytest.approx(100.0 * sum(taken.values()) / without)
    assert 0.0 <= beside["waiting"] <= beside["training"]
    between = beside["training"] + taken["calls"] + taken["start"] + taken["finish"]
    assert between <= figures["wall_seconds"]
    assert beside["oracle_cpu"] is None, "it has no process of its own"


def test_a_background_that_has_the_interpreter_shows_in_the_overhead(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that takes many times as long must not print what its calls alone would make."""
    run = ["train", "a2c", "CartPole-v1", "--total-env-steps", "2000", "--set", "number_of_envs=1",
           "--set", "rollout_length=5", "--evaluate", "0", "--checkpoint-every", "0",
           "--json"]  # fmt: skip
    began = time.thread_time()
    assert main(run) == 0
    alone = time.thread_time() - began
    capsys.readouterr()

    burnt = 0.0
    sends = ReportSender.run

    def burning(sender: ReportSender) -> None:
        nonlocal burnt
        sends(sender)
        began = time.thread_time()
        while time.thread_time() < began + 0.02:
            sum(range(100))
        burnt += time.thread_time() - began

    monkeypatch.setattr(ReportSender, "run", burning)
    monkeypatch.setattr(report_sender, "MOST_REST_SECONDS", 0.0)
    assert main([*run, "--oracle", "embedded:oracle.db", "--strategy", "fixed"]) == 0
    oracle = figures_of(capsys)["oracle"]
    # In processor time, which other processes do not take: at least that much longer it took.
    measured = 100.0 * burnt / alone
    assert oracle["overhead_percent"] >= 0.5 * measured
    assert oracle["stats"]["background_seconds"] >= 0.9 * burnt


def test_a_held_decision_is_asked_for_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--url", "embedded:oracle.db", "--decisions", "minibatch", "--hold", "4"]
    assert main([*SHORT, *options, "--study", "mine", "--strategy", "random", "--json"]) == 0
    oracle = figures_of(capsys)["oracle"]
    assert oracle["study"] == "mine"
    assert oracle["stats"]["proposals"] == 40
    assert oracle["stats"]["held"] == 120


@pytest.mark.parametrize(
    ("strategy", "decisions"),
    [
        ("cautious_config", 1),
        ("best_config", 1),
        ("dqn", 4),
        ("bandit", 4),
        ("kl_adaptive", 4),
        ("random", 4),
        ("fixed", 4),
    ],
)
def test_a_run_is_led_by_any_strategy(
    strategy: str, decisions: int, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--url", "embedded:oracle.db", "--study", "mine", "--strategy", strategy, "--json"]
    assert main([*SHORT, *options]) == 0
    oracle = figures_of(capsys)["oracle"]
    assert oracle["stats"]["proposals"] == decisions
    with opened_api(STORE) as api:
        assert api.study("mine").definition.strategy.name == strategy
        (job,) = api.jobs("mine").jobs
    assert (job.status, job.reports, job.not_applied_proposals) == ("finished", 4, 0)


def test_the_summary_tells_what_was_noticed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*SHORT, "--url", "embedded:oracle.db", "--study", "s"]) == 0
    assert "distributed_rank" in capsys.readouterr().out
    with opened_api(STORE) as api:
        (job,) = api.jobs("s").jobs
    assert job.notices == {"distributed_rank": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_finishes_its_job_and_leaves_what_is_there(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "ppo", f"Interrupting{number.name}-v0", "--set", "rollout_length=64",
                 "--set", "number_of_minibatches=4", "--oracle", "embedded:oracle.db", "--study",
                 "s", "--strategy", "random", "--json", "--out", "log"]  # fmt: skip
    assert main(arguments) == 130
    figures = figures_of(capsys)
    assert figures["status"] == "interrupted"
    assert figures["env_steps"] == 192, "the phase under way was completed"
    assert figures["final_return"] == 4.0
    assert figures["evaluation_returns"] == []
    assert figures["oracle"]["stats"]["reports_sent"] == 3
    lines = [json.loads(line) for line in Path("log/run.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", *["phase"] * 3, "end"]
    with opened_api(STORE) as api:
        (job,) = api.jobs("s").jobs
    assert job.status == "finished"


def test_a_dry_run_prints_the_settings_in_force_and_starts_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--seed", "5", "--oracle", "embedded:oracle.db", "--role", "control", "--prefetch"]
    assert main([*SHORT, *options, "--space", "gamma=choice:0.98,0.99", "--dry-run"]) == 0
    plan = figures_of(capsys)
    assert plan["settings"]["total_env_steps"] == 512
    assert plan["settings"]["rollout_length"] == 32
    assert plan["settings"]["learning_rate"] == 2.5e-3, "the preset of classic control"
    assert plan["settings"]["seed"] == 5
    assert plan["evaluation_episodes"] == 2
    assert plan["oracle"]["role"] == "control"
    assert plan["oracle"]["prefetch"] is True
    assert plan["oracle"]["space"]["gamma"]["values"] == [0.98, 0.99]
    assert plan["oracle"]["space"]["gamma"]["default"] == 0.99
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--decisions", "minibatch", "--oracle", "http://127.0.0.1:1"], True),
        (["--decisions", "minibatch", "--oracle", "http://127.0.0.1:1", "--no-prefetch"], False),
        (["--decisions", "minibatch", "--oracle", "embedded:oracle.db"], False),
        (["--oracle", "http://127.0.0.1:1"], False),
        (["--oracle", "http://127.0.0.1:1", "--prefetch"], True),
    ],
)
def test_a_remote_oracle_that_is_asked_before_every_minibatch_is_asked_ahead(
    options: list[str], expected: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SHORT, *options, "--dry-run"]) == 0
    assert figures_of(capsys)["oracle"]["prefetch"] is expected


def test_the_token_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--oracle", "http://localhost:1", "--token", "not-for-eyes", "--dry-run"]
    assert main([*SHORT, *options]) == 0
    assert "not-for-eyes" not in capsys.readouterr().out


def test_a_named_study_is_asked_where_the_environment_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERORACLE_URL", "http://oracle.example:8080")
    assert main([*SHORT, "--dry-run"]) == 0
    assert figures_of(capsys)["oracle"] is None
    assert main([*SHORT, "--study", "mine", "--dry-run"]) == 0
    assert figures_of(capsys)["oracle"]["url"] == "http://oracle.example:8080"


def test_a_preset_says_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    oracle = ["--oracle", "embedded:oracle.db"]
    assert main(["train", "--preset", "mujoco-ppo", *oracle, "--dry-run"]) == 0
    plan = figures_of(capsys)
    assert (plan["preset"], plan["algorithm"]) == ("mujoco-ppo", "ppo")
    assert plan["settings"]["env_id"] == "HalfCheetah-v5"
    assert plan["settings"]["decisions"] == "minibatch"
    assert plan["oracle"]["study"] == "halfcheetah-v5-mujoco-ppo"
    assert plan["oracle"]["strategy"]["memory"]["capacity"] == 10_000
    assert plan["oracle"]["returns"] == "phase_return"
    assert list(plan["oracle"]["space"]) == [
        "learning_rate", "clip_range", "gae_lambda", "number_of_minibatches",
    ]  # fmt: skip


def test_what_is_given_wins_over_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["a2c", "Pendulum-v1", "--total-env-steps", "64", "--set", "learning_rate=0.1",
             "--space", "gamma=choice:0.98,0.99", "--study", "mine", "--strategy", "random",
             "--oracle", "embedded:oracle.db"]  # fmt: skip
    assert main(["train", "--preset", "bipedalwalker-a2c", *given, "--dry-run"]) == 0
    plan = figures_of(capsys)
    assert plan["settings"]["env_id"] == "Pendulum-v1"
    assert plan["settings"]["total_env_steps"] == 64
    assert plan["settings"]["learning_rate"] == 0.1
    assert plan["settings"]["number_of_envs"] == 128, "the preset's"
    assert list(plan["oracle"]["space"]) == ["gamma"]
    assert (plan["oracle"]["study"], plan["oracle"]["strategy"]) == ("mine", "random")


def test_a_single_word_beside_a_preset_is_the_environment_or_the_algorithm(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for word, env_id in (("Hopper-v5", "Hopper-v5"), ("PPO", "HalfCheetah-v5")):
        assert main(["train", "--preset", "mujoco-ppo", word, "--dry-run"]) == 0
        plan = figures_of(capsys)
        assert (plan["algorithm"], plan["settings"]["env_id"]) == ("ppo", env_id)


def test_a_presets_study_is_made_as_the_preset_says(capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--total-env-steps", "60", "--set", "number_of_envs=2", "--evaluate", "0", "--json"]
    oracle = ["--oracle", "embedded:oracle.db"]
    assert main(["train", "--preset", "bipedalwalker-a2c", "Pendulum-v1", *short, *oracle]) == 0
    figures = figures_of(capsys)
    assert figures["oracle"]["study"] == "pendulum-v1-bipedalwalker-a2c"
    assert figures["oracle"]["stats"]["proposals"] == 6
    with opened_api(STORE) as api:
        definition = api.study("pendulum-v1-bipedalwalker-a2c").definition
    assert definition.strategy.name == "epgt"
    assert definition.strategy.memory.capacity == 5_000
    assert definition.strategy.learning_episode.write_every == 10
    assert definition.returns.kind == "phase_return"
    assert definition.space["learning_rate"].values[0] == 0.4


def test_a_study_may_remember_otherwise_than_the_preset_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = ["--total-env-steps", "60", "--set", "number_of_envs=2", "--evaluate", "0", "--json"]
    study = ["--oracle", "embedded:oracle.db", "--study", "s", "--study-set", "memory.capacity=70",
             "--study-set", "encoder.kind=random"]  # fmt: skip
    assert main(["train", "--preset", "bipedalwalker-a2c", "Pendulum-v1", *short, *study]) == 0
    with opened_api(STORE) as api:
        strategy = api.study("s").definition.strategy
    assert strategy.name == "epgt"
    assert (strategy.memory.capacity, strategy.encoder.kind) == (70, "random")
    assert strategy.learning_episode.write_every == 10, "the preset's"


def test_the_paper_s_rival_gets_the_preset_but_for_the_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = ["--total-env-steps", "60", "--set", "number_of_envs=2", "--evaluate", "0", "--json"]
    study = ["--oracle", "embedded:oracle.db", "--study", "s", "--strategy", "dqn",
             "--study-set", "q_learning.target_period=70"]  # fmt: skip
    assert main(["train", "--preset", "bipedalwalker-a2c", "Pendulum-v1", *short, *study]) == 0
    with opened_api(STORE) as api:
        strategy = api.study("s").definition.strategy
    assert strategy.name == "dqn"
    assert strategy.q_learning.target_period == 70
    assert strategy.learning_episode.write_every == 10, "the preset's"
    assert strategy.hyper_state.kind == "sketch"


def test_a_study_that_cannot_be_is_told_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = ["--oracle", "embedded:oracle.db", "--study-set", "memory.size=70"]
    assert main([*SHORT, *study, "--out", "log"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("hyperoracle train: ")
    assert "strategy.epgt.memory.size: " in error
    assert error.count("\n") == 1
    assert not Path("log").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["ppo", "--seed", "1", "CartPole-v1"],
        ["--seed", "1", "ppo", "CartPole-v1"],
        ["ppo", "CartPole-v1", "--seed", "1"],
        ["ppo", "--preset", "mujoco-ppo", "CartPole-v1", "--seed", "1"],
    ],
)
def test_options_may_stand_anywhere(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments, "--dry-run"]) == 0
    plan = figures_of(capsys)
    assert (plan["algorithm"], plan["settings"]["env_id"]) == ("ppo", "CartPole-v1")
    assert plan["settings"]["seed"] == 1


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        (["ppo", "CartPole-v1", "more"], "more"),
        (["ppo", "--seed", "1", "CartPole-v1", "more"], "more"),
        (["ppo", "--seed", "1", "CartPole-v1", "--sed", "2"], "--sed 2"),
        (["--sed", "2", "ppo", "CartPole-v1"], "--sed"),
    ],
)
def test_words_and_options_that_nobody_knows_are_refused(
    arguments: list[str], unknown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments, "--dry-run"])
    assert ended.value.code == 2
    assert f"unrecognized arguments: {unknown}" in capsys.readouterr().err


def test_the_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list-presets", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert listed["mujoco-ppo"]["trainer"]["rollout_length"]["value"] == 2048
    assert "exp_run_mjc.py" in listed["mujoco-ppo"]["trainer"]["rollout_length"]["origin"]
    assert main(["train", "--list-presets"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in listed)


def test_a_mistyped_strategy_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "ppo", "CartPole-v1", "--strategy", "kl_adaptiv"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert "one of 9 strategies, got 'kl_adaptiv'; did you mean kl_adaptive?" in told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected ALGORITHM and ENV, got neither"),
        (["ppo"], "expected ALGORITHM and ENV, got ppo"),
        (["--preset", "mujoco"], "did you mean mujoco-ppo or mujoco-a2c?"),
        (["--preset", "mujoco-ppo", "a2c"], "expected ALGORITHM ppo, got a2c"),
        (["--preset", "mujoco-ppo", "Nope-v1"], "expected a registered Gymnasium environment"),
        (["--preset", "mujoco-a2c", "--set", "epochs=3"], "which is one of ppo"),
        (["--preset", "mujoco-ppo", "--set", "rollout_length=100"], "expected a divisor of"),
        (["--preset", "mujoco-ppo", "--oracle", "http://o", "--space", "damping=scale:1,2"],
         "a hyperparameter that can be"),
        (["a2c", "CartPole-v1", "--set", "envs_per_update=9"], "envs_per_update: expected at most"),
        (["ppo", "CartPole-v1", "--oracle", "http://o", "--space", "gamma=scale:1,2"],
         "expected products with gamma = 0.99 between 0 and 1, got 1.98"),
        (["ppo", "CartPole-v1", "--oracle", "http://o", "--space", "gamma=choice:0.9,2@0.9"],
         "expected numbers between 0 and 1, got 2"),
        (["ppo", "CartPole-v1", "--oracle", "http://o", "--study", "a b"], "--study a b: expected"),
        (["dqn", "CartPole-v1"], "expected ppo or a2c or acktr, got 'dqn'"),
        (["ppo", "CartPole-v99"], "expected a registered Gymnasium environment"),
        (["ppo", "CartPole-v1", "--seed", "-1"], "seed: expected a whole number"),
        (["ppo", "CartPole-v1", "--set", "gamma=2"], "gamma: expected a number between 0 and 1"),
        (["ppo", "CartPole-v1", "--set", "gama=1"], "did you mean gamma"),
        (["ppo", "CartPole-v1", "--set", "seed=1", "--seed", "1"], "expected seed once"),
        (["a2c", "CartPole-v1", "--decisions", "phase"], "an algorithm that has decisions"),
        (["ppo", "CartPole-v1", "--space", "gamma=scale:0.9,1"], "expected --oracle URL"),
        (["ppo", "CartPole-v1", "--strategy", "random"], "--strategy: expected --oracle URL"),
        (["ppo", "CartPole-v1", "--study-set", "memory.capacity=9"], "--study-set: expected --or"),
        (["ppo", "CartPole-v1", "--oracle", "http://o", "--study-set", "capacity=9"],
         "expected SECTION.NAME=VALUE"),
        (["ppo", "CartPole-v1", "--oracle", "http://o", "--study-set", "memory.capacity=9",
          "--strategy", "random"], "expected the strategy epgt or dqn, got random"),
        (["ppo", "CartPole-v1", "--hold", "2"], "--hold: expected --oracle URL"),
        (["ppo", "CartPole-v1", "--prefetch"], "--prefetch: expected --oracle URL"),
        (["ppo", "CartPole-v1", "--oracle", "oracle:8080"], "expected http://"),
        (["a2c", "CartPole-v1", "--url", "http://o", "--space", "clip_range=scale:1,2"],
         "a hyperparameter that can be"),
        (["ppo", "CartPole-v1", "--replay", "absent.csv"], "a file that cannot be read"),
        (["ppo", "CartPole-v1", "--replay", "a.csv", "--url", "http://o"], "expected no oracle"),
        (["ppo", "CartPole-v1", "--replay", "used/a2c.csv"], "got momentum; train with the algo"),
        (["ppo", "CartPole-v1", "--replay", "used/nan.csv"], "expected a finite gamma, got nan"),
        (["ppo", "CartPole-v1", "--set", "torch_threads=1e6"], "torch_threads: expected at most"),
        (["ppo", "CartPole-v1", "--log", "csv"], "JSON and CSV are always written"),
        (["ppo", "CartPole-v1", "--video", "used/run.jsonl/x.gif"], "a folder, got a file"),
        (["ppo", "CartPole-v1", "--job", "j"], "expected --replay beside it"),
        (["ppo", "CartPole-v1", "--out", "used"], "expected a folder without a run"),
        (["ppo", "CartPole-v1", "--out", "used/run.jsonl"], "expected a folder, got a file"),
        (["ppo", "CartPole-v1", "--out", "used/run.jsonl/x/y"], "a path through the file used/run"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_one_line_before_anything_starts(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("used").mkdir()
    Path("used/run.jsonl").write_text("an earlier run\n")
    Path("used/a2c.csv").write_text("update_step,env_step,momentum\n0,0,0.5\n")
    Path("used/nan.csv").write_text("update_step,env_step,gamma\n0,0,nan\n")
    assert main(["train", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hyperoracle train: ")
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["used"]


@pytest.mark.parametrize("count", ["0", "x", "1.5"])
def test_a_number_of_env_steps_that_has_no_meaning_is_refused(
    count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(["train", "ppo", "CartPole-v1", "--total-env-steps", count])
    assert error.value.code == 2
    assert f"{count}" in capsys.readouterr().err


def test_a_study_that_is_defined_differently_stops_the_run_before_it_trains(
    capsys: pytest.CaptureFixture[str],
) -> None:
    oracle = ["--oracle", "embedded:oracle.db", "--study", "s"]
    short = ["train", "a2c", "CartPole-v1", "--total-env-steps", "64"]
    assert main([*short, *oracle, "--strategy", "random"]) == 0
    capsys.readouterr()
    assert main([*short, *oracle, "--strategy", "fixed", "--out", "second"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hyperoracle train: " in captured.err
    assert "study_conflict" in captured.err
    assert not Path("second").exists()


def test_a_folder_that_may_not_be_written_is_told_before_anything_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by the folder's mode: the tests may run as root, who may write anything.
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.F_OK and Path(path).exists())
    assert main([*SHORT, "--out", "locked/log"]) == 2
    assert "a folder that may be written" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_runs_that_are_started_at_once_have_a_folder_each() -> None:
    for _ in range(2):
        assert main(["train", "a2c", "CartPole-v1", "--total-env-steps", "5"]) == 0
    assert len(list(Path("runs").iterdir())) == 2


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3.64 TiB for an array"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate ..."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    ],
)
def test_a_lack_of_memory_is_told_in_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_trainer(_: Any) -> Any:
        raise error

    monkeypatch.setattr(planned_run, "make_trainer", make_trainer)
    assert main(SHORT) == 1
    told = capsys.readouterr().err
    assert "expected enough memory" in told
    assert told.count("\n") == 1


def test_an_environment_that_cannot_be_made_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gymnasium.register("Unfinished-v0", _unfinished)
    assert main(["train", "ppo", "Unfinished-v0"]) == 1
    error = capsys.readouterr().err
    assert "got Unfinished-v0 (ModuleNotFoundError: No module named 'its_engine')" in error
    assert error.count("\n") == 1
    assert list(Path().iterdir()) == []


def _unfinished(**_: Any) -> Any:
    raise ModuleNotFoundError("No module named 'its_engine'")


def test_training_that_diverges_is_told_with_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--set", "learning_rate=1e30", "--set", "max_grad_norm=1e30", "--out", "log"]
    assert main([*SHORT, *options]) == 1
    error = capsys.readouterr().err
    assert "expected finite losses" in error
    assert "lower learning_rate" in error
    assert error.count("\n") == 1


def test_without_an_oracle_that_answers_the_run_goes_on_its_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERORACLE_START_DEADLINE_SECONDS", "0.1")
    monkeypatch.setenv("HYPERORACLE_FINISH_DEADLINE_SECONDS", "0.1")
    # Nothing listens on port 1 of the loopback.
    assert main([*SHORT, "--oracle", "http://127.0.0.1:1", "--json", "--out", "log"]) == 0
    figures = figures_of(capsys)
    assert figures["status"] == "completed"
    assert figures["oracle"]["job_id"] is None
    assert figures["oracle"]["stats"]["fallbacks"] == 4
    assert figures["oracle"]["stats"]["reports_pending"] == 4
