"""What a study may cost: seconds per call, memory, disk, computed from its definition and layouts.

The constants were measured on one core of a cloud machine (`tests/server/oracle/test_study_cost.py`
holds the figures beside what is computed for them); what is computed lies within a factor of 3 of
what was measured there. That suffices to tell a study that costs a millisecond from one that keeps
the oracle busy for seconds.

Pure functions: they know neither studies at work nor settings of a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.hyper_state import STATISTICS_FEATURES, HyperStateLayout
from hyperoracle_protocol.space import bins_per_hyperparameter
from hyperoracle_protocol.strategies import (
    DqnStrategy,
    EpgtStrategy,
    KeyedStrategy,
    QLearningSetting,
)
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.errors import OracleError

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

SECONDS_PER_HYPER_ACTION = 1.2e-7
"""Of a hyper-action's value at a decision."""

BYTES_PER_ENTRY = 800
"""Of a remembered entry beside its key: values, ids, whose it is, a search graph's links."""

BYTES_PER_FEATURE_AND_UNIT = 26
"""Of an encoder while it is made, for each feature and hidden unit: float64 copies of the folded
first layer, the decoder, room for Adam."""


STORED_BYTES_PER_FEATURE_AND_UNIT = 18
"""Of an encoder on disk: its weights and Adam's two moments of each."""

LONGEST_TEXT = 256
"""Characters of a categorical value: every decision repeats it."""


OPEN_BYTES = 64 << 20
"""What the hyper-states of one job's open proposals may take in memory, as float16."""

REPORT_SECONDS = 30.0
"""What all open proposals of one job may take the report that credits them."""

LEAST_OPEN, MOST_OPEN = 64, 20_000
"""Open proposals of one job, whatever they cost: the bounds of `most_open_proposals`."""


class CostLimits(NamedTuple):
    """What a study may cost; see `StudyCost`, and the settings of the same names."""

    call_seconds: float = 0.25
    memory_bytes: int = 512 << 20
    disk_bytes: int = 16 << 30


class StudyCost(NamedTuple):
    """What a study costs at its full size.

    Attributes:
        decide_seconds: of processor time for one proposal.
        learn_seconds: for one credited decision of a report.
        memory_bytes: networks, encoders of all layouts, remembered entries.
        disk_bytes: hyper-states that are kept, encoders, networks; without the rows of decisions
            and reports, which grow with what jobs do.
    """

    decide_seconds: float
    learn_seconds: float
    memory_bytes: int
    disk_bytes: int


def study_cost(definition: StudyDefinition, layouts: Sequence[HyperStateLayout]) -> StudyCost:
    """What a study costs whose jobs have these hyper-states.

    Args:
        definition: the study's.
        layouts: of its jobs, each once; none before the first job: what any layout costs counts.
    """
    strategy = definition.strategy
    actions = prod(bins_per_hyperparameter(definition.space))
    deciding = actions * SECONDS_PER_HYPER_ACTION
    if not isinstance(strategy, KeyedStrategy):
        return StudyCost(deciding, 0.0, 0, 0)
    if not layouts and strategy.hyper_state.kind == "statistics":
        layouts = [HyperStateLayout(kind="statistics", dtype=strategy.hyper_state.dtype)]
    key_size = _key_size(strategy)
    capacity = _capacity(strategy)
    units = 0 if strategy.encoder.kind == "plain" else strategy.encoder.hidden_size
    largest = max((layout.feature_count for layout in layouts), default=0)
    deciding += encode_seconds(largest, units)
    learning = 0.0
    memory = disk = 0
    if isinstance(strategy, EpgtStrategy):
        deciding += scan_seconds(capacity, key_size)
        learning = SECONDS_PER_STEP + scan_seconds(capacity, key_size)
    network = 0
    if isinstance(strategy, DqnStrategy):
        setting = strategy.q_learning
        learning = learn_seconds(key_size, actions, setting)
        network = 16 * _parameters(_sizes(key_size, actions, setting))
        deciding += _parameters(_sizes(key_size, actions, setting)) * SECONDS_PER_WEIGHT
    kept = capacity + 2 * strategy.encoder.replay
    memory += max(1, len(layouts)) * (entries_bytes(capacity, key_size) + 2 * network)
    disk += max(1, len(layouts)) * 2 * network
    for layout in layouts:
        memory += layout.feature_count * max(1, units) * BYTES_PER_FEATURE_AND_UNIT
        disk += kept * layout.feature_count * (2 if layout.dtype == "float16" else 4)
        disk += 2 * layout.feature_count * units * STORED_BYTES_PER_FEATURE_AND_UNIT
    return StudyCost(deciding, learning, memory, disk)


def check_cost(
    definition: StudyDefinition, layouts: Sequence[HyperStateLayout], limits: CostLimits
) -> None:
    """Refuse a study that costs too much with these layouts.

    Raises:
        OracleError: `invalid_request`, with the bound, what was computed, and what to do.
    """
    cost = study_cost(definition, layouts)
    strategy = definition.strategy
    is_dqn = isinstance(strategy, DqnStrategy)
    network = "strategy.q_learning.gradient_steps, batch_size or hidden_size"
    remedies = {
        "encoder": "strategy.encoder.hidden_size or strategy.hyper_state.width",
        "capacity": "strategy.q_learning.replay_capacity" if is_dqn else "strategy.memory.capacity",
    }
    found = (
        ("a proposal takes", cost.decide_seconds, limits.call_seconds, "call_seconds",
         f"{remedies['encoder']}, or {remedies['capacity']}"),
        ("what one credited decision teaches takes", cost.learn_seconds, limits.call_seconds,
         "call_seconds", network if is_dqn else remedies["capacity"]),
        (f"with {max(1, len(layouts))} hyper-state layouts it takes in memory", cost.memory_bytes,
         limits.memory_bytes, "memory_bytes", f"{remedies['encoder']}, or {remedies['capacity']}"),
        (f"with {max(1, len(layouts))} hyper-state layouts it keeps on disk", cost.disk_bytes,
         limits.disk_bytes, "disk_bytes",
         f"strategy.hyper_state.width, or {remedies['capacity']}"),
    )  # fmt: skip
    for what, computed, bound, name, remedy in found:
        if computed > bound:
            got, most = _said(computed, name), _said(bound, name)
            raise OracleError(
                ErrorCode.INVALID_REQUEST,
                f"the study costs too much: {what} {got}, and at most {most} are admitted; lower "
                f"{remedy}, or let the operator raise --study-{name.replace('_', '-')} "
                f"(HYPERORACLE_STUDY_{name.upper()})",
                expected=f"at most {most}",
                got=got,
            )


def check_texts(definition: StudyDefinition) -> None:
    """Refuse a space whose values are texts that no decision should have to repeat.

    Raises:
        OracleError: `invalid_request`, naming the hyperparameter.
    """
    for name, hyperparameter in definition.space.items():
        longest = max((len(v) for v in hyperparameter.values if isinstance(v, str)), default=0)
        if longest > LONGEST_TEXT:
            raise OracleError(
                ErrorCode.INVALID_REQUEST,
                f"space.{name}: a value is too long; every decision repeats it: give it a short "
                "name",
                expected=f"at most {LONGEST_TEXT} characters",
                got=longest,
            )


def _said(amount: float, name: str) -> str:
    if name == "call_seconds":
        return f"{amount:.3g} s"
    return f"{amount / 2**20:,.0f} MiB"


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


def most_open_proposals(learn_seconds: float, features: int) -> int:
    """How many proposals of a job may wait for a report.

    Args:
        learn_seconds: what one of them takes the report that credits it.
        features: of a hyper-state, which stays in memory meanwhile.
    """
    by_time = REPORT_SECONDS / max(learn_seconds, 1e-9)
    by_size = OPEN_BYTES / max(2 * features, 1)
    return max(LEAST_OPEN, min(MOST_OPEN, int(by_time), int(by_size)))


def _capacity(strategy: KeyedStrategy) -> int:
    if isinstance(strategy, DqnStrategy):
        return strategy.q_learning.replay_capacity
    return strategy.memory.capacity if isinstance(strategy, EpgtStrategy) else 0


def _key_size(strategy: KeyedStrategy) -> int:
    is_plain = strategy.encoder.kind == "plain"
    return len(STATISTICS_FEATURES) if is_plain else strategy.encoder.key_size


def _sizes(key_size: int, actions: int, setting: QLearningSetting) -> tuple[int, ...]:
    return (key_size, *[setting.hidden_size] * setting.hidden_layers, actions)


def _parameters(sizes: Sequence[int]) -> int:
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
