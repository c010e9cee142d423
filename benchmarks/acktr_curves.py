"""Learning curves of our ACKTR beside our A2C's, each with its own settings for MuJoCo.

::

    OMP_NUM_THREADS=1 python benchmarks/acktr_curves.py run     # resumable; one process
    python benchmarks/acktr_curves.py report                    # table and picture

What is equal: the env steps, gamma 0.99, separate 64 x 64 tanh networks, observations and rewards
normalised by running statistics, a learning rate that falls linearly to 0, the seeds and with them
the initial weights where the number of environments is equal too.

What is not: what each algorithm's preset for MuJoCo says. Both were chosen on seeds from 100 on;
docs/results.md tells what was tried. "a2c-7e-4" is A2C with that learning rate, which suits
Walker2d better than its preset's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from training_curves import Comparison, Episodes, Tick, episodes_of

from hyperoracle_trainers.hyperparameters.presets import default_settings

TOTAL_ENV_STEPS = 300_000


def train(algorithm: str, env_id: str, seed: int, tick: Tick, **changes: Any) -> Episodes:
    """Train an algorithm with its settings for MuJoCo, but for ``changes``."""
    changes |= {"seed": seed, "total_env_steps": TOTAL_ENV_STEPS}
    settings = default_settings(algorithm, env_id, **changes)
    return episodes_of(settings, tick)


COMPARISON = Comparison(
    script="acktr_curves.py",
    title="ACKTR beside A2C",
    explanation="Each with its preset for MuJoCo.",
    environments=("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"),
    seeds=(0, 1, 2),
    total_env_steps=TOTAL_ENV_STEPS,
    trainers={
        "a2c": partial(train, "a2c"),
        "a2c-7e-4": partial(train, "a2c", learning_rate=7e-4),
        "acktr": partial(train, "acktr"),
    },
    packages=("torch", "numpy", "gymnasium", "mujoco", "hyperoracle-trainers"),
)

if __name__ == "__main__":
    COMPARISON.main()
