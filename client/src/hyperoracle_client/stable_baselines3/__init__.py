"""Stable-Baselines3 under an oracle: a callback for PPO and A2C.

It needs the library: `pip install hyperoracle-client stable-baselines3`.
"""

from hyperoracle_client.stable_baselines3.callback import OracleCallback
from hyperoracle_client.stable_baselines3.hyperparameters import SCHEDULABLE

__all__ = ["SCHEDULABLE", "OracleCallback"]
