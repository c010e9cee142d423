"""A trainer that is restored from a file goes on as if nothing had happened, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trainers.short_runs import ALGORITHMS, outcome, small_trainer, weights_of

from hyperoracle_trainers.saved_state import read_state, write_state

MANY = {"phases": 12, "number_of_envs": 3}
EVERYTHING = {"normalise_observations": True, "normalise_rewards": True, "rollout_length": 24}


def resumed_and_uninterrupted(
    path: Path, algorithm: str, *, stop_after: int, **changes: Any
) -> tuple[list[Any], list[Any], torch.Tensor, torch.Tensor, list[int]]:
    """The phases after ``stop_after`` and the final weights of both runs."""
    uninterrupted = small_trainer(algorithm, **changes)
    phases = []
    for phase in uninterrupted.train():
        phases.append(phase)
        if phase.index + 1 == stop_after:
            write_state(path, uninterrupted.state())
    resumed = small_trainer(algorithm, **changes)
    anew = resumed.restore(read_state(path))
    rest = list(resumed.train())
    return (
        outcome(phases[stop_after:]),
        outcome(rest),
        weights_of(uninterrupted),
        weights_of(resumed),
        anew,
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Hopper-v5", "Pendulum-v1"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_by_bit(
    tmp_path: Path, algorithm: str, env_id: str
) -> None:
    changes = {**MANY, **EVERYTHING, "env_id": env_id, "decay_learning_rate": True}
    expected, got, weights, weights_again, anew = resumed_and_uninterrupted(
        tmp_path / "state", algorithm, stop_after=5, **changes
    )
    assert anew == []
    assert len(expected) == 7
    assert got == expected
    assert torch.equal(weights, weights_again)


EXACT = ["Acrobot-v1", "MountainCarContinuous-v0", "Walker2d-v5", "LunarLander-v3",
         "BipedalWalker-v3"]  # fmt: skip


@pytest.mark.parametrize("env_id", EXACT)
def test_environments_of_each_family_come_back_to_where_they_were(
    tmp_path: Path, env_id: str
) -> None:
    changes = {"phases": 8, "number_of_envs": 2, "rollout_length": 60, "env_id": env_id}
    expected, got, _, _, anew = resumed_and_uninterrupted(
        tmp_path / "state", "a2c", stop_after=6, **changes
    )
    assert anew == []
    assert got == expected
