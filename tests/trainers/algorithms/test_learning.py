"""The trainers solve what they should, with their default settings."""

from __future__ import annotations

import numpy as np
import pytest

from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.runs.run import make_trainer, run


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("algorithm", "env_steps"), [("ppo", 60_000), ("a2c", 150_000), ("acktr", 60_000)]
)
def test_cartpole_is_solved(algorithm: str, env_steps: int, seed: int) -> None:
    settings = default_settings(algorithm, "CartPole-v1", seed=seed, total_env_steps=env_steps)
    summary = run(make_trainer(settings), evaluation_episodes=10)
    assert np.mean(summary.evaluation_returns) >= 475
