from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from hyperoracle_client.commands.options import add_options
from hyperoracle_trainers.bench import trainers
from hyperoracle_trainers.commands import bench

QUICK = ["--env", "CartPole-v1", "--env-steps", "32", "--repeats", "1", "--set",
         "number_of_envs=2", "--set", "rollout_length=16"]  # fmt: skip


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_options(parser, is_top=True)
    bench.register(parser.add_subparsers())
    args = parser.parse_args(["bench", "trainers", *arguments])
    exit_code: int = args.run(args)
    return exit_code


@pytest.fixture(autouse=True)
def _no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("trainers", "peer"):
        name = f"hyperoracle_trainers.bench.{module}.peer_is_installed"
        monkeypatch.setattr(name, lambda: False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_figures_come_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*QUICK, "--algorithms", "a2c,acktr", "--json") == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert figures["name"] == "trainers"
    assert [row["algorithm"] for row in figures["rows"]] == ["a2c", "acktr"]
    assert figures["packages"].keys() >= {"torch", "hyperoracle-trainers"}
    assert captured.err.count("\n") == 1
    assert "pip install stable-baselines3" in captured.err


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a measurement is said to have found; measuring itself starts a process a contender."""
    figures: dict[str, Any] = {"ok": None, "budget": None, "goal": None, "ratios": {}}

    def measure(settings: Any, **_: Any) -> dict[str, Any]:
        return {
            "algorithm": type(settings).__name__.removesuffix("Settings").lower(),
            "env_id": settings.env_id,
            "number_of_envs": settings.number_of_envs,
            "rollout_length": settings.rollout_length,
            "speeds": {"bare environment": {"wall": 12345.6, "cpu": 23456.7}},
            **figures,
        }

    monkeypatch.setattr(trainers, "measure", measure)
    return figures


@pytest.mark.usefixtures("canned")
def test_figures_come_as_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*QUICK) == 0
    printed = capsys.readouterr().out
    assert "ppo on CartPole-v1, 2 x 16 env steps" in printed
    assert "a2c on CartPole-v1, 2 x 16 env steps" in printed
    assert printed.count("bare environment") == 2


@pytest.mark.parametrize(("ok", "exit_code"), [(True, 0), (False, 1), (None, 0)])
def test_a_budget_that_is_missed_is_told_by_table_and_exit_code(
    ok: bool | None,
    exit_code: int,
    canned: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    canned.update(ok=ok, budget=2.5, goal=4.0)
    assert run(*QUICK, "--algorithms", "a2c") == exit_code
    verdict = {True: "reached", False: "missed", None: "not judged"}[ok]
    assert f"2.5 x the peer (goal 4 x) in CPU time: {verdict}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--algorithms", "ppo,dqn"], "expected ppo or a2c or acktr, got 'dqn'"),
        (["--env", "CartPole-v99"], "expected a registered Gymnasium environment"),
        (["--set", "gama=1"], "did you mean gamma"),
        (["--algorithms", "a2c", "--set", "epochs=1"], "which is one of ppo"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("hyperoracle bench: ")
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("option", ["--repeats", "--env-steps"])
def test_nothing_cannot_be_measured(option: str) -> None:
    with pytest.raises(SystemExit) as error:
        run(option, "0")
    assert error.value.code == 2
