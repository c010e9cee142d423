"""Readable PPO, A2C and ACKTR that ask HyperOracle for their hyperparameters.

A trainer is built from its settings and trains as a generator of phases::

    from hyperoracle_trainers import default_settings, make_trainer

    trainer = make_trainer(default_settings("ppo", "CartPole-v1", seed=1))
    for phase in trainer.train():
        print(phase.env_step, phase.episode_returns)

Importing this package loads neither torch nor Gymnasium; the first use of a name does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperoracle_trainers.algorithms.acktr import ACKTR
    from hyperoracle_trainers.algorithms.actor_critic import A2C
    from hyperoracle_trainers.algorithms.phase import Phase
    from hyperoracle_trainers.algorithms.ppo import PPO
    from hyperoracle_trainers.hyperparameters.presets import default_settings
    from hyperoracle_trainers.hyperparameters.settings import (
        A2CSettings,
        ACKTRSettings,
        PPOSettings,
    )
    from hyperoracle_trainers.runs.checkpoints import (
        load_checkpoint,
        restore_trainer,
        save_checkpoint,
    )
    from hyperoracle_trainers.runs.run import RunSummary, make_trainer, run
    from hyperoracle_trainers.runs.trackers import TensorBoardWriter, TrackerWriter

__all__ = [
    "A2C",
    "ACKTR",
    "PPO",
    "A2CSettings",
    "ACKTRSettings",
    "PPOSettings",
    "Phase",
    "RunSummary",
    "TensorBoardWriter",
    "TrackerWriter",
    "default_settings",
    "load_checkpoint",
    "make_trainer",
    "restore_trainer",
    "run",
    "save_checkpoint",
]

_HOMES = {
    "A2C": "algorithms.actor_critic",
    "A2CSettings": "hyperparameters.settings",
    "ACKTR": "algorithms.acktr",
    "ACKTRSettings": "hyperparameters.settings",
    "PPO": "algorithms.ppo",
    "PPOSettings": "hyperparameters.settings",
    "Phase": "algorithms.phase",
    "RunSummary": "runs.run",
    "TensorBoardWriter": "runs.trackers",
    "TrackerWriter": "runs.trackers",
    "default_settings": "hyperparameters.presets",
    "load_checkpoint": "runs.checkpoints",
    "make_trainer": "runs.run",
    "restore_trainer": "runs.checkpoints",
    "run": "runs.run",
    "save_checkpoint": "runs.checkpoints",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module that is its home."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
