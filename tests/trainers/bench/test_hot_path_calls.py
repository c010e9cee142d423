"""A guard of the hot path that no busy machine disturbs: how many Python functions a call takes.

Raise a bound only with a reason; `hyperoracle bench propose` says what a change costs in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
import torch
from torch import nn

from hyperoracle_client import Job, Oracle
from hyperoracle_trainers.bench import workloads
from hyperoracle_trainers.bench.propose import calls_of

# Seen on Python 3.11, before the reading of tensors was looked at: 715 with a mapping, 396 with a
# module. Other versions of Python and of the libraries may take some more.
BOUNDS = {"mapping": 312, "module": 342, "held": 15, "report": 36}
SLACK = 1.15


def actor_critic() -> nn.Module:
    def trunk(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(11, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(),
                             nn.Linear(64, outputs))  # fmt: skip

    model = nn.ModuleDict({"actor": trunk(3), "critic": trunk(1)})
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """A job that has been at work for a while."""
    with Oracle(f"embedded:{tmp_path / 'oracle.db'}") as oracle:

        def start(**given: object) -> Job:
            job = workloads.start_job(oracle, 1, **given)
            model = {} if "model" in given else {"params": STATE, "grads": STATE}
            for n in range(10):
                job.propose(env_step=n + 1, **model)
            job.report([1.0], env_step=10)
            return job

        yield start


STATE = workloads.model()


def calls(call: Callable[[int], object]) -> float:
    return median(calls_of(lambda n=n: call(n)) for n in range(11, 20))  # type: ignore[misc]


def measured(kind: str, start: Callable[..., Job]) -> float:
    if kind == "mapping":
        job = start()
        return calls(lambda n: job.propose(env_step=n, params=STATE, grads=STATE))
    if kind == "module":
        job = start(model=actor_critic())
        return calls(lambda n: job.propose(env_step=n))
    if kind == "held":
        job = start(hold=1000)
        return calls(lambda n: job.propose(env_step=n, params=STATE, grads=STATE))
    job = start()
    return calls(lambda n: job.report([1.0], env_step=n))


@pytest.mark.parametrize("kind", BOUNDS)
def test_the_hot_path_is_no_longer_than_it_was(kind: str, start: Callable[..., Job]) -> None:
    found = measured(kind, start)
    assert found <= SLACK * BOUNDS[kind]
    assert 1.5 * found > SLACK * BOUNDS[kind], "half as much again would not be noticed: lower it"
