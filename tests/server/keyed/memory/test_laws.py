"""Laws that hold whatever is stored."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hyperoracle_server.keyed.memory import EpisodicMemory, MemorySettings

N_ACTIONS = 3
KEYS = hnp.arrays(
    np.float32, 2, elements=st.floats(-100, 100, width=32) | st.integers(-2, 2).map(float)
)
RETURNS = st.floats(allow_nan=False, allow_infinity=False)
WRITES = st.lists(st.tuples(KEYS, st.integers(0, N_ACTIONS - 1), RETURNS), min_size=1, max_size=25)
SETTINGS = st.builds(
    MemorySettings,
    capacity=st.integers(1, 30),
    neighbours_read=st.integers(1, 4),
    neighbours_write=st.integers(1, 4),
    write_rate=st.floats(0.01, 1.0),
    write_rule=st.sampled_from(["average", "max"]),
    reading=st.sampled_from(["per-action", "shared"]),
)
# Drawing arrays is slow on a busy machine; that is no fault of the memory.
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def written(writes: list[Any], chosen: MemorySettings) -> EpisodicMemory:
    memory = EpisodicMemory(2, N_ACTIONS, chosen)
    for entry_id, (key, action, hyper_return) in enumerate(writes):
        memory.write(key, action, hyper_return, entry_id)
    return memory


@few
@given(WRITES, SETTINGS, KEYS)
def test_a_read_lies_between_the_least_and_the_greatest_stored_value(
    writes: list[Any], chosen: MemorySettings, key: np.ndarray
) -> None:
    memory = written(writes, chosen)
    reading = memory.read(key)
    values = memory.entries().values
    assert (values.min() <= reading.q_values).all()
    assert (reading.q_values <= values.max()).all()
    for action in np.flatnonzero(reading.known):
        of_neighbours = reading.values[action][reading.ids[action] >= 0]
        assert of_neighbours.min() <= reading.q_values[action] <= of_neighbours.max()


@few
@given(WRITES, SETTINGS, KEYS, RETURNS)
def test_a_write_moves_values_towards_the_return_and_never_past_it(
    writes: list[Any], chosen: MemorySettings, key: np.ndarray, hyper_return: float
) -> None:
    memory = written(writes, chosen)
    before = memory.entries()
    effect = memory.write(key, 0, hyper_return, len(writes))
    old = dict(zip(before.ids.tolist(), before.values.tolist(), strict=True))
    for entry_id, new in zip(effect.updated_ids.tolist(), effect.updated_values, strict=True):
        low, high = sorted((old[entry_id], hyper_return))
        assert low <= new <= high
    after = memory.entries()
    untouched = ~np.isin(after.ids, effect.updated_ids) & (after.ids < len(writes))
    for entry_id, value in zip(after.ids[untouched].tolist(), after.values[untouched], strict=True):
        assert value == old[entry_id]


@few
@given(WRITES, SETTINGS)
def test_a_write_with_rate_one_to_a_lonely_pair_replaces_its_value(
    writes: list[Any], chosen: MemorySettings
) -> None:
    memory = EpisodicMemory(2, 1, MemorySettings(write_rate=1.0))
    key = writes[0][0]
    for entry_id, (_, _, hyper_return) in enumerate(writes):
        memory.write(key, 0, hyper_return, entry_id)
    assert memory.entries().values.tolist() == [writes[-1][2]]


@few
@given(
    st.lists(KEYS, min_size=1, max_size=20, unique_by=lambda key: (key + 0).tobytes()),
    st.randoms(),
    KEYS,
)
@pytest.mark.parametrize("reading", ["per-action", "shared"])
def test_the_order_of_insertion_does_not_change_a_read(
    reading: Literal["per-action", "shared"],
    keys: list[np.ndarray],
    random: Any,
    query: np.ndarray,
) -> None:
    # All are neighbours, so that no tie decides who is one.
    chosen = MemorySettings(reading=reading, neighbours_read=20)
    triples = [(key, i % N_ACTIONS, float(i)) for i, key in enumerate(keys)]
    memories = []
    for _ in range(2):
        memory = EpisodicMemory(2, N_ACTIONS, chosen)
        memory.load(
            np.arange(len(triples)), *(np.array(part) for part in zip(*triples, strict=True))
        )
        memories.append(memory)
        random.shuffle(triples)
    first, second = (memory.read(query) for memory in memories)
    np.testing.assert_allclose(first.q_values, second.q_values, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(first.known, second.known)


@few
@given(WRITES, SETTINGS, KEYS)
def test_a_read_changes_nothing(writes: list[Any], chosen: MemorySettings, key: np.ndarray) -> None:
    memory = written(writes, chosen)
    before = memory.entries()
    first, second = memory.read(key), memory.read(key)
    np.testing.assert_array_equal(first.q_values, second.q_values)
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(before.values, memory.entries().values)


@few
@given(WRITES, SETTINGS, KEYS)
def test_a_reading_is_a_copy_of_its_time(
    writes: list[Any], chosen: MemorySettings, key: np.ndarray
) -> None:
    memory = written(writes, chosen)
    reading = memory.read(key)
    kept = [part.copy() for part in (reading.q_values, reading.ids, reading.values)]
    memory.write(key, 0, 1e3, len(writes))
    memory.read(key)
    for part, copy in zip((reading.q_values, reading.ids, reading.values), kept, strict=True):
        np.testing.assert_array_equal(part, copy)
