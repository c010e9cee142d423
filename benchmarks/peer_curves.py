"""Learning curves and speed of our PPO beside Stable-Baselines3's, same hyperparameters.

::

    OMP_NUM_THREADS=1 python benchmarks/peer_curves.py run      # resumable; one process
    python benchmarks/peer_curves.py report                     # table and picture

Our settings for MuJoCo: 1 environment x 2048 steps, 10 epochs x 32 minibatches of 64, Adam (epsilon
1e-5), a learning rate that falls linearly from 3e-4 to 0, gamma 0.99, lambda 0.95, clip range 0.2,
no entropy bonus, value coefficient 0.5, gradient norm 0.5, separate 64 x 64 tanh networks,
orthogonal weights, advantages normalised per minibatch, observations and rewards normalised by
running statistics and clipped to +-10. What is equal in both and what is not:
`hyperoracle_trainers.bench.peers.peer`.
"""

from __future__ import annotations

import torch
from training_curves import Comparison, Episodes, Tick, episodes_of

from hyperoracle_trainers.bench.peers.peer import peer_model
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.settings import PPOSettings

TOTAL_ENV_STEPS = 200_000


def settings_for(env_id: str, seed: int) -> PPOSettings:
    """Return what both are made from."""
    return default_settings("ppo", env_id, seed=seed, total_env_steps=TOTAL_ENV_STEPS)


def train_ours(env_id: str, seed: int, tick: Tick) -> Episodes:
    """Train our PPO."""
    return episodes_of(settings_for(env_id, seed), tick)


def train_peer(env_id: str, seed: int, tick: Tick) -> Episodes:
    """Train Stable-Baselines3's PPO with the same hyperparameters."""
    from stable_baselines3.common.callbacks import BaseCallback

    torch.set_num_threads(1)
    episodes: Episodes = []

    class Record(BaseCallback):
        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info:
                    episodes.append((self.num_timesteps, float(info["episode"]["r"])))
            return True

        def _on_rollout_end(self) -> None:
            tick(self.num_timesteps)

    peer_model(settings_for(env_id, seed)).learn(TOTAL_ENV_STEPS, callback=Record())
    return episodes


COMPARISON = Comparison(
    script="peer_curves.py",
    title="Our PPO beside Stable-Baselines3's",
    explanation="The same hyperparameters.",
    environments=("HalfCheetah-v5", "Hopper-v5"),
    seeds=(0, 1, 2),
    total_env_steps=TOTAL_ENV_STEPS,
    trainers={"stable-baselines3": train_peer, "hyperoracle": train_ours},
    packages=("torch", "numpy", "gymnasium", "mujoco", "stable-baselines3", "hyperoracle-trainers"),
)

if __name__ == "__main__":
    COMPARISON.main()
