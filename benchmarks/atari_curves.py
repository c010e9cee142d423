"""Learning curves of our PPO and A2C on an Atari game beside a policy that acts by chance.

::

    OMP_NUM_THREADS=1 python benchmarks/atari_curves.py run     # resumable; one process
    python benchmarks/atari_curves.py report                    # table and picture

Each algorithm has its preset for Atari, nothing was tuned. Preprocessing is the classic one: an env
step is four frames, so that 250,000 env steps are a million frames. Returns are the game's own
points over whole games.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from training_curves import Comparison, Episodes, Tick, episodes_of

from hyperoracle_trainers.environments.vector import environments_of
from hyperoracle_trainers.hyperparameters.presets import default_settings

TOTAL_ENV_STEPS = 250_000


def act_by_chance(env_id: str, seed: int, tick: Tick) -> Episodes:
    """Play as the trainers do, but choose every action uniformly."""
    settings = default_settings("ppo", env_id)
    environments = environments_of(settings, settings.number_of_envs, seed)
    generator = np.random.default_rng(seed)
    returns = np.zeros(len(environments))
    episodes: Episodes = []
    for env_step in range(0, TOTAL_ENV_STEPS, len(environments)):
        environments.step(generator.integers(environments.action_space.n, size=len(environments)))
        returns += environments.rewards
        for index in environments.final_observations:
            episodes.append((env_step, float(returns[index])))
            returns[index] = 0.0
        tick(env_step)
    environments.close()
    return episodes


def train(algorithm: str, env_id: str, seed: int, tick: Tick) -> Episodes:
    """Train an algorithm with its settings for Atari."""
    settings = default_settings(algorithm, env_id, seed=seed, total_env_steps=TOTAL_ENV_STEPS)
    return episodes_of(settings, tick)


COMPARISON = Comparison(
    script="atari_curves.py",
    title="PPO and A2C on Atari beside chance",
    explanation="A million frames, each algorithm with its preset for Atari.",
    environments=("ALE/Breakout-v5",),
    seeds=(0, 1),
    total_env_steps=TOTAL_ENV_STEPS,
    trainers={
        "chance": act_by_chance,
        "ppo": partial(train, "ppo"),
        "a2c": partial(train, "a2c"),
    },
    packages=("torch", "numpy", "gymnasium", "ale-py", "hyperoracle-trainers"),
)

if __name__ == "__main__":
    COMPARISON.main()
