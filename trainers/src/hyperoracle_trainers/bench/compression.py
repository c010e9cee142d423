"""What it costs a training job to compress its network into a hyper-state, per update.

The floor, measured in turn with it, reads the same parameters and gradients once: the inner
product of each with itself. The weights change between two repeats, as in training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from hyperoracle_client.hyper_state import make_compressor
from hyperoracle_client.hyper_state.tensors import TensorSource
from hyperoracle_protocol.hyper_state import HyperStateLayout, sketch_layout
from hyperoracle_protocol.strategies import HyperStateSetting
from hyperoracle_trainers.bench.figures import Figure, median_of
from hyperoracle_trainers.policies.networks import ActorCritic

NETWORKS: dict[str, tuple[tuple[int, ...], Box | Discrete, bool, float]] = {
    "64 x 64 actor-critic": ((17,), Box(-1, 1, (6,), np.float32), False, 0.15),
    "Nature CNN": ((84, 84, 4), Discrete(4), True, 2.0),
}
"""Shape of an observation, action space, whether the trunk is shared, budget in ms."""

_WARM_UP = 3
"""The first ones make what is kept."""


def compression_figures(repeats: int = 51) -> list[Figure]:
    """Milliseconds of processor time of each network and layout, beside the floor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [figure for network in NETWORKS for figure in _of_network(network, repeats)]
    finally:
        torch.set_num_threads(threads)


def _of_network(network: str, repeats: int) -> list[Figure]:
    shape, space, shared, budget = NETWORKS[network]
    policy = ActorCritic(shape, space, (64, 64), seed=0, shared_trunk=shared)
    for parameter in policy.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    source = TensorSource(policy)
    setting = HyperStateSetting()
    shapes = source.shapes()
    layouts = {
        "sketch": sketch_layout(shapes, seed=0, width=setting.width, orders=setting.orders),
        "statistics": HyperStateLayout(kind="statistics"),
    }
    figures = []
    for name, layout in layouts.items():
        ours, floor = _milliseconds(policy, source, layout, repeats)
        figures.append(
            median_of(
                f"compression of a {network}, {name}", ours, "ms",
                beside={"read once": float(np.median(floor))}, budget=budget,
            )
        )  # fmt: skip
    return figures


def _milliseconds(
    policy: ActorCritic, source: TensorSource, layout: HyperStateLayout, repeats: int
) -> tuple[list[float], list[float]]:
    """Times of compressing and of reading once, in turn."""
    compressor = make_compressor(layout, source.shapes())
    assert compressor is not None
    matrices: list[Any] = []

    def compress() -> None:
        compressor.compress(source.parameters(), source.gradients(), {}, 0.5)

    def read_once() -> None:
        for matrix in matrices:
            np.vdot(matrix, matrix)

    ours, floor = [], []
    for _ in range(repeats + _WARM_UP):
        with torch.no_grad():
            for parameter in policy.parameters():
                assert parameter.grad is not None
                parameter.mul_(0.999)
                parameter.grad.mul_(0.999)
        matrices = [*source.parameters(), *source.gradients()]
        floor.append(_cpu_milliseconds(read_once))
        ours.append(_cpu_milliseconds(compress))
    return ours[_WARM_UP:], floor[_WARM_UP:]


def _cpu_milliseconds(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return 1e3 * (time.thread_time() - began)
