from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from hyperoracle_trainers.bench.peers import contenders
from hyperoracle_trainers.bench.peers.contenders import (
    FLOOR,
    OURS,
    PEER,
    Budget,
    budget_for,
    contenders_for,
    measure,
    settings_to_measure,
)
from hyperoracle_trainers.bench.peers.interleaving import Speeds

SMALL = {"number_of_envs": 2, "rollout_length": 16}


@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
def test_the_peer_is_measured_beside_ours_and_the_floor(algorithm: str) -> None:
    pytest.importorskip("stable_baselines3")
    of_peer, of_floor, speed = measure(
        settings_to_measure(algorithm, "CartPole-v1", SMALL), env_steps=64, repeats=3
    )
    assert of_peer.what.endswith(f"of {PEER}")
    assert of_floor.what.endswith(f"of {FLOOR}")
    assert list(speed.beside) == [PEER, FLOOR]
    for figure in (of_peer, of_floor, speed):
        assert len(figure.repeats) == 3
        assert figure.value == sorted(figure.repeats)[1]
        assert figure.ok is None, "no budget is set for this environment"
        json.dumps(figure.as_json())
    assert of_floor.value < 1 < of_peer.value


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "acktr"])
def test_without_the_peer_ours_and_the_floor_are_measured(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contenders, "peer_is_installed", lambda: False)
    settings = settings_to_measure(algorithm, "Pendulum-v1", SMALL)
    of_floor, speed = measure(settings, env_steps=32, repeats=1)
    assert of_floor.what.endswith(f"of {FLOOR}")
    assert list(speed.beside) == [FLOOR]


def test_the_peer_has_no_acktr() -> None:
    assert PEER not in contenders_for(settings_to_measure("acktr", "CartPole-v1", {}))


@pytest.mark.parametrize(
    ("algorithm", "cpu", "ok"),
    [("ppo", 4.9, False), ("ppo", 5.0, True), ("a2c", 3.9, False), ("a2c", 4.0, True)],
)
def test_the_budget_is_judged_by_the_ratio_in_cpu_time(
    algorithm: str, cpu: float, ok: bool
) -> None:
    settings = settings_to_measure(algorithm, "HalfCheetah-v5", {})
    speeds = {OURS: Speeds([1.0], [cpu]), PEER: Speeds([1.0], [1.0])}
    of_peer, _ = contenders._figures(settings, speeds)
    assert of_peer.ok is ok
    assert of_peer.beside == {"in wall time": 1.0}


def test_without_a_peer_no_budget_is_judged() -> None:
    settings = settings_to_measure("ppo", "HalfCheetah-v5", {})
    assert [f.ok for f in contenders._figures(settings, {OURS: Speeds([1.0], [1.0])})] == [None]


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
        advance = contenders._bare_environment(settings, stack)
        assert advance(5) == 6, "whole steps of two games"


def test_the_learning_rate_does_not_fall_so_that_all_turns_are_alike() -> None:
    settings = settings_to_measure("ppo", "HalfCheetah-v5", {"rollout_length": 64})
    assert settings.decayed() == frozenset()
    assert settings.rollout_length == 64
