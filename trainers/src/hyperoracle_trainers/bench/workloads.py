"""The study that benchmarks of the oracle measure on; its memory is filled by proposals."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hyperoracle_client import Job, Oracle

Arrays = dict[str, "npt.NDArray[np.float32]"]

OBSERVATIONS, ACTIONS, HIDDEN = 11, 3, 64
"""Of the actor-critic whose hyper-states are sent: Hopper's."""

STUDY = "bench"

NEVER_TRAINS: Mapping[str, Any] = {"publish_seconds": 86_400.0}
"""An encoder that stays as it is while something else is measured."""

_CREDITED_AT_ONCE = 200
_FIRST_REPORT = 10  # a loop that never reports is told so


def model() -> Arrays:
    """The parameters of a 64x64 actor-critic, float32, by name."""
    import numpy as np

    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {}
    for trunk, outputs in (("actor", ACTIONS), ("critic", 1)):
        sizes = ((HIDDEN, OBSERVATIONS), (HIDDEN, HIDDEN), (outputs, HIDDEN))
        for layer, (rows, columns) in enumerate(sizes):
            shapes[f"{trunk}.{layer}.weight"] = (rows, columns)
            shapes[f"{trunk}.{layer}.bias"] = (rows,)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def space(hyperparameters: int) -> dict[str, Any]:
    """One hyperparameter of 7 hyper-actions, or so many of 5 each: 4 make 625."""
    from hyperoracle_client import Choice, Scale

    if hyperparameters == 1:
        return {"learning_rate": Scale([1 / 16, 1 / 11, 1 / 6, 1, 6, 11, 16])}
    return {
        f"hyperparameter_{i}": Choice([1, 2, 3, 4, 5], default=3) for i in range(hyperparameters)
    }


def joint_actions(hyperparameters: int) -> int:
    """How many joint hyper-actions that space has."""
    return 7 if hyperparameters == 1 else int(5**hyperparameters)


def start_job(oracle: Oracle, hyperparameters: int, **given: Any) -> Job:
    """A job in the study of benchmarks that has joined.

    Args:
        oracle: where.
        hyperparameters: see `space`.
        given: arguments of `Oracle.start_job` that replace these.

    Raises:
        Unmeasurable: the oracle does not take it.
    """
    from hyperoracle_trainers.bench.processes import Unmeasurable

    strategy = {"name": "epgt", "memory": {"capacity": 200_000}, "encoder": dict(NEVER_TRAINS)}
    arguments: dict[str, Any] = {
        "study": STUDY, "space": space(hyperparameters), "model": model(), "strategy": strategy,
        "total_env_steps": 10**7, "seed": 1, **given,
    }  # fmt: skip
    job = oracle.start_job(**arguments)
    if not job.wait_until_joined(30):
        raise Unmeasurable(f"{oracle} did not take a job: {job.stats.last_error}")
    return job


def fresh_states(count: int) -> list[Arrays]:
    """Parameters that differ, so that each makes a hyper-state of its own."""
    import numpy as np

    rng, now = np.random.default_rng(2), model()
    return [
        {name: (each + 0.01 * rng.normal(size=each.shape)).astype(np.float32)
         for name, each in now.items()}
        for _ in range(count)
    ]  # fmt: skip


def fill(job: Job, entries: int) -> None:
    """Let a job propose and report until its study remembers so many entries more."""
    import numpy as np

    rng, parameters = np.random.default_rng(1), model()
    names = list(parameters)
    for n in range(1, entries + 1):
        # One tensor moves at a time: drawing them all would take longer than the proposal.
        moved = parameters[names[n % len(names)]]
        moved += rng.normal(scale=0.05, size=moved.shape).astype(np.float32)
        job.propose(env_step=n, params=parameters, grads=parameters)
        if n % _CREDITED_AT_ONCE == 0 or n in (_FIRST_REPORT, entries):
            job.report([float(rng.normal())], env_step=n)
            deadline = time.monotonic() + 60
            while job.stats.reports_pending and time.monotonic() < deadline:
                time.sleep(0.001)  # a job tells of its reports when it is asked


def filled_store(folder: Path, entries: int, hyperparameters: int) -> None:
    """Make `oracle.db` in a folder, in which the study of benchmarks remembers so many entries."""
    from hyperoracle_client import Oracle

    with Oracle(f"embedded:{folder / 'oracle.db'}") as oracle:
        job = start_job(oracle, hyperparameters)
        fill(job, entries)
        job.finish()
