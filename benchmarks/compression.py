"""What it costs a training job to compress its network into a hyper-state, per update.

::

    OMP_NUM_THREADS=1 python benchmarks/compression.py [--repeats 51] [--json]

Budgets: 0.3 ms for a 64 x 64 actor-critic, 5 ms for the Nature CNN. The floor, measured in turn
with it, reads the same parameters and gradients once: the inner product of each with itself. Times
are of the CPU, medians; the weights change between two repeats, as in training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from rich.console import Console
from rich.table import Table

from hyperoracle_client.hyper_state import make_compressor
from hyperoracle_client.hyper_state.tensors import TensorSource
from hyperoracle_protocol.hyper_state import HyperStateLayout, sketch_layout
from hyperoracle_protocol.strategies import HyperStateSetting
from hyperoracle_trainers.policies.networks import ActorCritic

NETWORKS = {
    "64 x 64 actor-critic": ((17,), Box(-1, 1, (6,), np.float32), False, 0.3),
    "Nature CNN": ((84, 84, 4), Discrete(4), True, 5.0),
}
"""Shape of an observation, action space, whether the trunk is shared, budget in ms."""


def measure(network: str, repeats: int) -> list[dict[str, Any]]:
    """Return a row for each layout."""
    shape, space, shared, budget = NETWORKS[network]
    policy = ActorCritic(shape, space, (64, 64), seed=0, shared_trunk=shared)
    for parameter in policy.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    source = TensorSource(policy)
    setting = HyperStateSetting()
    layouts = {
        "sketch": sketch_layout(
            source.shapes(), seed=0, width=setting.width, orders=setting.orders
        ),
        "statistics": HyperStateLayout(kind="statistics"),
    }
    rows = []
    for name, layout in layouts.items():
        compressor = make_compressor(layout, source.shapes())
        assert compressor is not None
        floor, ours = [], []
        features: Any = None
        for _ in range(repeats + 3):  # the first ones make what is kept
            with torch.no_grad():
                for parameter in policy.parameters():
                    parameter.mul_(0.999)
                    parameter.grad.mul_(0.999)  # type: ignore[union-attr] # given above
            matrices = [*source.parameters(), *source.gradients()]
            floor.append(_milliseconds(lambda: [np.vdot(each, each) for each in matrices]))  # noqa: B023 # called at once
            ours.append(
                _milliseconds(
                    lambda: compressor.compress(source.parameters(), source.gradients(), {}, 0.5)  # noqa: B023 # called at once
                )
            )
        features = compressor.compress(source.parameters(), source.gradients(), {}, 0.5)
        rows.append(
            {
                "network": network,
                "parameters": sum(each.numel() for each in policy.parameters()),
                "layout": name,
                "features": len(features),
                "milliseconds": float(np.median(ours[3:])),
                "floor_milliseconds": float(np.median(floor[3:])),
                "budget_milliseconds": budget,
            }
        )
    return rows


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.thread_time()
    call()
    return 1e3 * (time.thread_time() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=51)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for network in NETWORKS for row in measure(network, arguments.repeats)]
    if arguments.json:
        print(json.dumps(rows))
        return
    table = Table(title="Compression of a hyper-state, CPU time per update", title_justify="left")
    for column in ("network", "layout", "features", "ms", "budget ms", "times the floor"):
        table.add_column(column, justify="left" if column in ("network", "layout") else "right")
    for row in rows:
        table.add_row(
            f"{row['network']} ({row['parameters']:,} parameters)",
            row["layout"],
            f"{row['features']:,}",
            f"{row['milliseconds']:.2f}",
            f"{row['budget_milliseconds']:g}",
            f"{row['milliseconds'] / row['floor_milliseconds']:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
