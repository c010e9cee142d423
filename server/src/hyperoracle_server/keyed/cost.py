"""What studies cost that decide by keys of hyper-states: seconds per call, memory, disk.

The constants were measured on one core of a cloud machine (`tests/server/oracle/test_study_cost.py`
holds the figures beside what is computed for them).

Pure functions: they know neither studies at work nor settings of a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple

from hyperoracle_protocol.hyper_state import STATISTICS_FEATURES, HyperStateLayout
from hyperoracle_protocol.space import bins_per_hyperparameter
from hyperoracle_protocol.strategies import KeyedStrategy, QLearningSetting
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.strategies.base import SECONDS_PER_HYPER_ACTION, StudyCost

SECONDS_PER_PRODUCT = 1.2e-10
"""Of a multiplication and addition in a large matrix product."""

SECONDS_PER_ACTIVATION = 1e-8
"""Of a number of a layer's output: rectifier, its slope, sums."""

SECONDS_PER_PARAMETER = 1.6e-8
"""Of a number that Adam moves."""

SECONDS_PER_STEP = 4e-4
"""Of a gradient step, whatever its size: drawing from the replay, a hundred calls of NumPy."""

SECONDS_PER_STORED_PARAMETER = 2e-7
"""Of a network's parameter in each report that taught it: 16 bytes as safetensors, into the write-
ahead log and into the file."""

SECONDS_PER_WEIGHT = 6e-10
"""Of a weight of a matrix that is read once, from memory: an encoder's first layer."""

SECONDS_PER_KEY_COMPONENT = 6e-10
"""Of a component of a remembered key in a scan."""

SECONDS_PER_KEY = 3e-8
"""Of a remembered key in a scan, besides."""

BYTES_PER_ENTRY = 800
"""Of a remembered entry beside its key: values, ids, whose it is, a search graph's links."""

BYTES_PER_FEATURE_AND_UNIT = 26
"""Of an encoder while it is made, for each feature and hidden unit: float64 copies of the folded
first layer, the decoder, room for Adam."""


STORED_BYTES_PER_FEATURE_AND_UNIT = 18
"""Of an encoder on disk: its weights and Adam's two moments of each."""


class FullSize(NamedTuple):
    """What is kept under the keys of a layout, and what that takes, at its full size.

    Attributes:
        capacity: entries.
        search_seconds: to see what hyper-actions are worth at a key.
        learn_seconds: for one credited decision.
        network_bytes: of parameters and of what moves them; kept in memory and on disk twice.
    """

    capacity: int
    search_seconds: float
    learn_seconds: float
    network_bytes: int


def keyed_cost(
    definition: StudyDefinition,
    strategy: KeyedStrategy,
    layouts: Sequence[HyperStateLayout],
    full: FullSize,
) -> StudyCost:
    """What a study costs whose jobs have these hyper-states.

    Args:
        definition: the study's.
        strategy: of the definition.
        layouts: of its jobs, each once; none before the first job: what any layout costs counts.
        full: of each layout.
    """
    if not layouts and strategy.hyper_state.kind == "statistics":
        layouts = [HyperStateLayout(kind="statistics", dtype=strategy.hyper_state.dtype)]
    deciding = actions_of(definition) * SECONDS_PER_HYPER_ACTION
    units = 0 if strategy.encoder.kind == "plain" else strategy.encoder.hidden_size
    largest = max((layout.feature_count for layout in layouts), default=0)
    deciding += encode_seconds(largest, units)
    deciding += full.search_seconds
    kept = full.capacity + 2 * strategy.encoder.replay
    entries = entries_bytes(full.capacity, key_size_of(strategy))
    memory = max(1, len(layouts)) * (entries + 2 * full.network_bytes)
    disk = max(1, len(layouts)) * 2 * full.network_bytes
    for layout in layouts:
        memory += layout.feature_count * max(1, units) * BYTES_PER_FEATURE_AND_UNIT
        disk += kept * layout.feature_count * (2 if layout.dtype == "float16" else 4)
        disk += 2 * layout.feature_count * units * STORED_BYTES_PER_FEATURE_AND_UNIT
    return StudyCost(deciding, full.learn_seconds, memory, disk)


def remedies(capacity: str, learning: str) -> tuple[str, str, str, str]:
    """Which settings to lower where a study costs too much; see `HyperAgent.remedies`.

    Args:
        capacity: the setting that bounds the entries.
        learning: those that bound what learning takes.
    """
    encoder = "strategy.encoder.hidden_size or strategy.hyper_state.width"
    return (
        f"{encoder}, or {capacity}",
        learning,
        f"{encoder}, or {capacity}",
        f"strategy.hyper_state.width, or {capacity}",
    )


def gradient_step_seconds(key_size: int, actions: int, setting: QLearningSetting) -> float:
    """One gradient step of a Q-network: two passes forward, one back, Adam."""
    sizes = _sizes(key_size, actions, setting)
    weights = sum(inputs * outputs for inputs, outputs in pairwise(sizes))
    return (
        SECONDS_PER_STEP
        + setting.batch_size * weights * SECONDS_PER_PRODUCT
        + setting.batch_size * sum(sizes) * SECONDS_PER_ACTIVATION
        + _parameters(sizes) * SECONDS_PER_PARAMETER
    )


def learn_seconds(key_size: int, actions: int, setting: QLearningSetting) -> float:
    """What a report takes a Q-network that credits one decision: its steps, and storing it."""
    stored = _parameters(_sizes(key_size, actions, setting)) * SECONDS_PER_STORED_PARAMETER
    return setting.gradient_steps * gradient_step_seconds(key_size, actions, setting) + stored


def encode_seconds(features: int, units: int) -> float:
    """A key of a hyper-state: the encoder's first layer is read once."""
    return features * units * SECONDS_PER_WEIGHT


def scan_seconds(entries: int, key_size: int) -> float:
    """The nearest of so many keys by an exact scan."""
    return entries * (SECONDS_PER_KEY + key_size * SECONDS_PER_KEY_COMPONENT)


def entries_bytes(entries: int, key_size: int) -> int:
    """Remembered entries with their keys, in memory."""
    return entries * (BYTES_PER_ENTRY + 4 * key_size) + min(entries, 16_384) * 8 * key_size


def network_bytes(key_size: int, actions: int, setting: QLearningSetting) -> int:
    """A Q-network's parameters and what Adam keeps of them."""
    return 16 * _parameters(_sizes(key_size, actions, setting))


def pass_seconds(key_size: int, actions: int, setting: QLearningSetting) -> float:
    """One key through a Q-network."""
    return _parameters(_sizes(key_size, actions, setting)) * SECONDS_PER_WEIGHT


def key_size_of(strategy: KeyedStrategy) -> int:
    """The components of a key."""
    is_plain = strategy.encoder.kind == "plain"
    return len(STATISTICS_FEATURES) if is_plain else strategy.encoder.key_size


def actions_of(definition: StudyDefinition) -> int:
    """How many joint hyper-actions a study has."""
    return prod(bins_per_hyperparameter(definition.space))


def _sizes(key_size: int, actions: int, setting: QLearningSetting) -> tuple[int, ...]:
    return (key_size, *[setting.hidden_size] * setting.hidden_layers, actions)


def _parameters(sizes: Sequence[int]) -> int:
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
