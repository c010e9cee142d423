from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from hyperoracle_trainers.bench import trainers
from hyperoracle_trainers.bench.interleaving import Speeds
from hyperoracle_trainers.bench.trainers import (
    FLOOR,
    OURS,
    PEER,
    Budget,
    budget_for,
    contenders_for,
    measure,
    settings_to_measure,
)

SMALL = {"number_of_envs": 2, "rollout_length": 16}


@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
def test_the_peer_is_measured_beside_ours_and_the_floor(algorithm: str) -> None:
    pytest.importorskip("stable_baselines3")
    figures = measure(settings_to_measure(algorithm, "CartPole-v1", SMALL), env_steps=64, repeats=3)
    assert list(figures["speeds"]) == [OURS, PEER, FLOOR]
    assert list(figures["ratios"]) == [PEER, FLOOR]
    for speed in figures["speeds"].values():
        assert len(speed["repeats"]["cpu"]) == 3
        assert speed["cpu"] == sorted(speed["repeats"]["cpu"])[1]
    assert figures["ratios"][FLOOR]["cpu"] < 1 < figures["ratios"][PEER]["cpu"]
    assert figures["ok"] is None, "no budget is set for this environment"
    json.dumps(figures)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "acktr"])
def test_without_the_peer_ours_and_the_floor_are_measured(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers, "peer_is_installed", lambda: False)
    settings = settings_to_measure(algorithm, "Pendulum-v1", SMALL)
    figures = measure(settings, env_steps=32, repeats=1)
    assert list(figures["speeds"]) == [OURS, FLOOR]
    assert list(figures["ratios"]) == [FLOOR]


def test_the_peer_has_no_acktr() -> None:
    assert PEER not in contenders_for(settings_to_measure("acktr", "CartPole-v1", {}))


@pytest.mark.parametrize(("cpu", "ok"), [(2.4, False), (2.5, True), (4.5, True)])
def test_the_budget_is_judged_by_the_ratio_in_cpu_time(cpu: float, ok: bool) -> None:
    settings = settings_to_measure("ppo", "HalfCheetah-v5", {})
    speeds = {OURS: Speeds([1.0], [cpu]), PEER: Speeds([1.0], [1.0])}
    figures = trainers._figures(settings, speeds)
    assert figures["ok"] is ok
    assert (figures["budget"], figures["goal"]) == (2.5, 4.0)


def test_without_a_peer_no_budget_is_judged() -> None:
    settings = settings_to_measure("ppo", "HalfCheetah-v5", {})
    assert trainers._figures(settings, {OURS: Speeds([1.0], [1.0])})["ok"] is None


def test_a_budget_is_set_where_the_peer_has_the_algorithm() -> None:
    assert budget_for(settings_to_measure("a2c", "HalfCheetah-v5", {})) is not None
    assert budget_for(settings_to_measure("acktr", "HalfCheetah-v5", {})) is None
    assert budget_for(settings_to_measure("a2c", "Hopper-v5", {})) is None


def test_atari_games_are_measured_and_have_a_budget_for_ppo() -> None:
    pytest.importorskip("ale_py")
    settings = settings_to_measure("ppo", "ALE/Pong-v5", SMALL)
    assert budget_for(settings) == Budget(1.5)
    assert settings.decayed() == frozenset()
    assert budget_for(settings_to_measure("a2c", "ALE/Pong-v5", {})) is None
    with ExitStack() as stack:
        advance = trainers._bare_environment(settings, stack)
        assert advance(5) == 6, "whole steps of two games"


def test_the_learning_rate_does_not_fall_so_that_all_turns_are_alike() -> None:
    settings = settings_to_measure("ppo", "HalfCheetah-v5", {"rollout_length": 64})
    assert settings.decayed() == frozenset()
    assert settings.rollout_length == 64
