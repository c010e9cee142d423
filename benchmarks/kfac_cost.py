"""What ACKTR's update costs, part by part, beside the operations of a widely used K-FAC.

    OMP_NUM_THREADS=1 python benchmarks/kfac_cost.py

The peer is the optimiser of pytorch-a2c-ppo-acktr-gail, whose options are those that the authors
of EPGT schedule. Its operations are repeated here on the same layers and batch, without its code:
biases are layers of their own, so that each layer's output factor is taken and decomposed twice,
statistics at every update, decompositions at every tenth. Statistics include the pass that samples
the Fisher matrix; "rest" (of ours) is values, advantages, the loss, its gradient and the step.
Milliseconds of CPU time, which other processes disturb less; the median of five rounds counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import thread_time
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from hyperoracle_trainers.algorithms.acktr import ACKTR
from hyperoracle_trainers.algorithms.kfac import Kfac
from hyperoracle_trainers.algorithms.kronecker_factors import InvertibleFactors
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.settings import ACKTRSettings

ENV_ID, UPDATES = "HalfCheetah-v5", 200
PARTS = ("statistics", "inversion", "preconditioning", "rest")
Seconds = defaultdict[str, float]
PEER_PERIODS: dict[str, Any] = {"statistics_period": 1, "inversion_period": 10}


def ours(settings: ACKTRSettings) -> Seconds:
    """Return the seconds that each part of a run's updates took."""
    seconds = Seconds(float)

    def timed(part: str, function: Callable[..., Any], start: int = -1, end: int = 1) -> Any:
        def call(*arguments: Any) -> Any:
            seconds[part] += start * thread_time()
            result = function(*arguments)
            seconds[part] += end * thread_time()
            return result

        return call

    factors = InvertibleFactors
    with (  # statistics begin when recording does, and end when all has been observed
        patch.object(Kfac, "recording", timed("statistics", Kfac.recording, end=0)),
        patch.object(Kfac, "observe", timed("statistics", Kfac.observe, start=0)),
        patch.object(factors, "of", timed("inversion", factors.of)),
        patch.object(factors, "precondition", timed("preconditioning", factors.precondition)),
        patch.object(ACKTR, "_update", timed("rest", ACKTR._update)),  # noqa: SLF001 # all of it
    ):
        list(ACKTR(settings).train())
    seconds["rest"] -= sum(seconds[part] for part in PARTS[:-1])
    return seconds


def peer(settings: ACKTRSettings) -> Seconds:
    """Return the seconds that the parts of the peer's K-FAC take on the same layers."""
    trainer = ACKTR(settings)
    policy = trainer.policy
    layers = [each for each in policy.modules() if isinstance(each, nn.Linear)]
    calls: dict[nn.Module, tuple[Any, Any]] = {}
    for each in layers:
        each.register_forward_hook(
            lambda layer, inputs, output: calls.update({layer: (inputs[0].detach(), output)})
        )
    batch = settings.number_of_envs * settings.rollout_length
    observations, ones = torch.randn(batch, layers[0].in_features), torch.ones(batch, 1)
    factors: dict[tuple[nn.Module, str], Any] = {}
    eigen: dict[tuple[nn.Module, str], Any] = {}
    seconds = Seconds(float)
    for update in range(settings.total_env_steps // batch):
        times = [thread_time()]
        outputs = policy.actor(observations), policy.critic(observations).squeeze(1)
        likelihood = trainer._log_likelihood(*outputs, 1.0)  # noqa: SLF001 # both draw it so
        gradients = torch.autograd.grad(likelihood, [calls[layer][1] for layer in layers])
        for layer, gradient in zip(layers, gradients, strict=True):
            inputs = calls[layer][0]
            for name, rows in (("A", inputs), ("G", gradient), ("A1", ones), ("G1", gradient)):
                new = rows.T @ (rows / batch)
                factors.setdefault((layer, name), new).mul_(99.0).add_(new).mul_(0.01)
        times.append(thread_time())
        if update % PEER_PERIODS["inversion_period"] == 0:
            eigen = {each: torch.linalg.eigh(matrix) for each, matrix in factors.items()}
        times.append(thread_time())
        for layer in layers:
            for parameter, suffix in ((layer.weight, ""), (layer.bias, "1")):
                in_values, in_vectors = eigen[layer, f"A{suffix}"]
                out_values, out_vectors = eigen[layer, f"G{suffix}"]
                matrix = parameter.detach().view(len(parameter), -1)
                rotated = out_vectors.T @ matrix @ in_vectors
                rotated /= torch.outer(out_values, in_values) + settings.damping
                out_vectors @ rotated @ in_vectors.T
        times.append(thread_time())
        for part, start, end in zip(PARTS, times, times[1:], strict=False):
            seconds[part] += end - start
    return seconds


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    preset = default_settings("acktr", ENV_ID)
    batch = preset.number_of_envs * preset.rollout_length
    preset = replace(preset, total_env_steps=UPDATES * batch)
    same_periods = replace(preset, **PEER_PERIODS)
    variants = {"ours": (ours, same_periods), "peer": (peer, same_periods)}
    variants["ours, preset's periods"] = (ours, preset)
    rounds = [{name: run(given) for name, (run, given) in variants.items()} for _ in range(5)]
    table = Table("CPU ms per update", *PARTS, title=f"{ENV_ID}, batch {batch}")
    for name in variants:
        of_parts = [[each[name][part] for each in rounds] for part in PARTS]
        table.add_row(name, *(f"{1000 * median(s) / UPDATES:.2f}" for s in of_parts))
    Console().print(table)


if __name__ == "__main__":
    main()
