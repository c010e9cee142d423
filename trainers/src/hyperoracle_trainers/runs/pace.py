"""How fast a run would train without its oracle: it goes on for a moment, and nothing is kept."""

from __future__ import annotations

import copy
import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from hyperoracle_trainers.algorithms.trainer import Trainer
from hyperoracle_trainers.runs.log import RunLog
from hyperoracle_trainers.runs.run import make_trainer

logger = logging.getLogger("hyperoracle_trainers")

SHARE = 0.05
"""Of the run's wall time, that is spent on finding out."""
MOST_SECONDS = 10.0
_WARM_UP_SHARE = 0.2
_LEAST_PHASES = 2
_MORE = 4  # so that a run of one phase has phases enough, and none is the last


def seconds_per_env_step_alone(trainer: Trainer[Any], wall_seconds: float) -> float | None:
    """Train on for a moment with nobody to ask, and take the time.

    Another trainer of the same settings begins with this one's policy in fresh environments, and
    is thrown away.

    Args:
        trainer: whose run is over.
        wall_seconds: of that run. It takes a small share of that, and three phases at least.

    Returns:
        Wall time of training and its log; None where that cannot be done.
    """
    try:
        return _measured(trainer, min(SHARE * wall_seconds, MOST_SECONDS))
    except Exception as error:  # an environment raises what it likes, and the run is over
        logger.info("the pace without an oracle is not known: %s", error)
        return None


def _measured(trainer: Trainer[Any], seconds: float) -> float | None:
    settings = trainer.settings
    settings = replace(settings, total_env_steps=_MORE * settings.total_env_steps)
    twin = make_trainer(settings)
    weights = trainer.policy.state_dict()
    twin.restore_policy(
        {
            "policy": {name: each.numpy(force=True).copy() for name, each in weights.items()},
            "observation_normaliser": copy.deepcopy(trainer.observation_normaliser.state()),
        }
    )
    env_steps = counted = 0
    taken = 0.0
    began = last = perf_counter()
    with (
        TemporaryDirectory() as folder,
        RunLog(Path(folder), settings) as log,
        closing(twin.train()) as run,
    ):
        for index, phase in enumerate(run):
            log.record(phase)
            now = perf_counter()
            if index > 0 and last - began >= _WARM_UP_SHARE * seconds:
                taken += now - last
                counted += phase.env_step - env_steps
            env_steps, last = phase.env_step, now
            if index >= _LEAST_PHASES and now - began >= seconds:
                break
    return taken / counted if counted else None
