"""Loading, paging, re-keying, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hyperoracle_server.keyed.memory import Entries, EpisodicMemory, MemorySettings

READINGS = pytest.mark.parametrize("reading", ["per-action", "shared"])
INDICES = pytest.mark.parametrize("index", ["exact", "hnsw"])


def filled(n: int, seed: int = 0, **settings: Any) -> EpisodicMemory:
    """A memory of 3-d keys and 4 hyper-actions, written to n times, with repeats."""
    rng = np.random.default_rng(seed)
    memory = EpisodicMemory(3, 4, MemorySettings(**settings))
    for entry_id in range(10, 10 + 3 * n, 3):
        key = rng.integers(-4, 5, 3).astype(np.float32) / 2
        memory.write(key, int(rng.integers(4)), float(rng.normal()), entry_id)
    return memory


def assert_equal_entries(first: Entries, second: Entries) -> None:
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(first.keys, second.keys)
    np.testing.assert_array_equal(first.actions, second.actions)
    np.testing.assert_array_equal(first.values, second.values)


def assert_equal_behaviour(first: EpisodicMemory, second: EpisodicMemory, seed: int) -> None:
    """Both answer alike now, and after the same 60 further writes."""
    rng = np.random.default_rng(seed)
    entry_id = first.newest_id
    for _ in range(60):
        key = rng.integers(-4, 5, 3) / 2
        one, other = first.read(key), second.read(key)
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_allclose(one.q_values, other.q_values, rtol=1e-9, atol=1e-12)
        entry_id += 1
        action, hyper_return = int(rng.integers(4)), float(rng.normal())
        effects = [m.write(key, action, hyper_return, entry_id) for m in (first, second)]
        np.testing.assert_array_equal(effects[0].updated_ids, effects[1].updated_ids)
        np.testing.assert_allclose(
            effects[0].updated_values, effects[1].updated_values, rtol=1e-9, atol=1e-12
        )
        np.testing.assert_array_equal(effects[0].evicted_ids, effects[1].evicted_ids)
        assert effects[0].inserted == effects[1].inserted
    assert first.size == second.size


@READINGS
@pytest.mark.parametrize("write_rule", ["average", "max"])
@pytest.mark.parametrize("capacity", [40, 500])
def test_a_loaded_memory_goes_on_as_the_one_that_was_written(
    capacity: int, write_rule: str, reading: str
) -> None:
    written = filled(150, capacity=capacity, write_rule=write_rule, reading=reading)
    loaded = EpisodicMemory(3, 4, written.settings)
    stored = written.entries()
    loaded.load(stored.ids, stored.keys, stored.actions, stored.values)
    assert_equal_entries(loaded.entries(), stored)
    assert_equal_behaviour(written, loaded, seed=1)


def test_what_write_reports_is_enough_to_keep_a_copy() -> None:
    rng = np.random.default_rng(0)
    memory = EpisodicMemory(2, 3, MemorySettings(capacity=25))
    copy: dict[int, float] = {}
    for entry_id in range(200):
        hyper_return = float(rng.normal())
        effect = memory.write(rng.integers(-2, 3, 2), int(rng.integers(3)), hyper_return, entry_id)
        copy.update(zip(effect.updated_ids.tolist(), effect.updated_values.tolist(), strict=True))
        if effect.inserted:
            copy[entry_id] = hyper_return
        for gone in effect.evicted_ids.tolist():
            del copy[gone]
        stored = memory.entries()
        assert copy == dict(zip(stored.ids.tolist(), stored.values.tolist(), strict=True))


def test_of_more_entries_than_fit_the_latest_are_loaded() -> None:
    stored = filled(60, capacity=100).entries()
    small = EpisodicMemory(3, 4, MemorySettings(capacity=20))
    small.load(stored.ids, stored.keys, stored.actions, stored.values)
    assert_equal_entries(small.entries(), stored[-20:])


def test_entries_can_be_paged_and_fetched_by_id() -> None:
    memory = filled(200, capacity=50)
    everything = memory.entries()
    assert len(everything) == memory.size == 50
    assert (np.diff(everything.ids) > 0).all()
    assert memory.newest_id == everything.ids[-1]
    assert_equal_entries(memory.entries(10, 20), everything[10:20])
    assert_equal_entries(memory.entries(45, 90), everything[45:])
    assert len(memory.entries(90)) == 0
    assert_equal_entries(memory.entries_after(int(everything.ids[29])), everything[30:])
    assert_equal_entries(memory.entries_after(-1), everything)
    wanted = [int(everything.ids[7]), 11, int(everything.ids[3]), 10**12, -1]
    found = memory.get(wanted)
    assert found.ids.tolist() == [wanted[0], wanted[2]]  # in this order, without those not stored
    np.testing.assert_array_equal(found.keys, everything.keys[[7, 3]])
    np.testing.assert_array_equal(found.values, everything.values[[7, 3]])


def test_entries_are_copies() -> None:
    memory = filled(20)
    before = memory.entries()
    memory.entries().values[:] = 99.0
    memory.entries().keys[:] = 99.0
    memory.get(before.ids).values[:] = 99.0
    assert_equal_entries(memory.entries(), before)


def test_an_empty_memory_has_no_entries() -> None:
    memory = EpisodicMemory(3, 4)
    assert memory.size == 0
    assert memory.newest_id == -1
    assert len(memory.entries()) == len(memory.get([1, 2])) == len(memory.entries_after(-1)) == 0
    memory.load([], np.empty((0, 3)), [], [])
    assert memory.size == 0


@INDICES
@READINGS
@pytest.mark.parametrize("capacity", [60, 500])
def test_a_rekeyed_memory_takes_over_what_was_written_while_it_was_built(
    capacity: int, reading: str, index: str
) -> None:
    settings: dict[str, Any] = {"capacity": capacity, "reading": reading, "index": index}
    live = filled(120, seed=2, **settings)

    def encode(keys: np.ndarray) -> np.ndarray:
        """The new encoder; a one-to-one change, so that the truth can be written down."""
        return np.concatenate([keys[:, ::-1] * 2, keys[:, :1]], axis=1)

    snapshot = live.entries()
    fresh = live.rekeyed(replace(snapshot, keys=encode(snapshot.keys)))
    fresh.build_index()
    rng = np.random.default_rng(3)
    before = live.entries()
    for _ in range(40):
        live.write(
            rng.normal(size=3), int(rng.integers(4)), float(rng.normal()), live.newest_id + 1
        )
    assert_equal_entries(fresh.entries(), replace(before, keys=encode(before.keys)))
    late = live.entries_after(fresh.newest_id)
    assert len(late) == 40
    fresh.take_over(live, encode(late.keys))
    stored = live.entries()
    assert_equal_entries(fresh.entries(), replace(stored, keys=encode(stored.keys)))
    truth = EpisodicMemory(4, 4, MemorySettings(capacity=capacity, reading=reading))  # type: ignore[arg-type]  # parametrised
    truth.load(stored.ids, encode(stored.keys), stored.actions, stored.values)
    for query in rng.normal(size=(20, 4)):
        np.testing.assert_allclose(
            fresh.read(query).q_values, truth.read(query).q_values, rtol=1e-9
        )


def test_a_memory_of_other_entries_cannot_take_over() -> None:
    live, other = filled(20), filled(30, seed=5)
    before = other.entries()
    late = live.entries_after(other.newest_id)
    with pytest.raises(ValueError, match="made by rekeyed"):
        other.take_over(live, late.keys)
    assert_equal_entries(other.entries(), before)


@READINGS
def test_an_encoder_that_makes_all_keys_equal_does_not_break_the_memory(reading: str) -> None:
    live = filled(100, capacity=60, reading=reading)
    stored = live.entries()
    fresh = live.rekeyed(replace(stored, keys=np.zeros_like(stored.keys)))
    assert fresh.size == 60
    reading_at_zero = fresh.read(np.zeros(3))
    assert reading_at_zero.known.all()
    assert (reading_at_zero.q_values >= stored.values.min()).all()
    assert (reading_at_zero.q_values <= stored.values.max()).all()
    for _ in range(200):  # turns everything over
        effect = fresh.write(np.zeros(3), 0, 1.0, fresh.newest_id + 1)
        assert not effect.inserted
        fresh.write(np.random.default_rng(0).normal(size=3), 1, 1.0, fresh.newest_id + 1)


GOOD_WRITE: dict[str, Any] = {
    "key": [1.0, 2.0, 3.0],
    "action": 1,
    "hyper_return": 1.0,
    "entry_id": 10_000,
}


@READINGS
@INDICES
@pytest.mark.parametrize(
    "wrong",
    [
        {"key": [1.0, 2.0]},
        {"key": [[1.0, 2.0, 3.0]]},
        {"key": 1.0},
        {"key": [1.0, np.nan, 3.0]},
        {"key": [1.0, np.inf, 3.0]},
        {"key": [1.0, -np.inf, 3.0]},
        {"key": [1.0, 1e300, 3.0]},
        {"key": [1.0, 1e16, 3.0]},
        {"action": -1},
        {"action": 4},
        {"action": 1.0},
        {"action": None},
        {"hyper_return": np.nan},
        {"hyper_return": np.inf},
        {"hyper_return": -np.inf},
        {"entry_id": 0},
        {"entry_id": 2**63},
        {"entry_id": 1.5},
    ],
    ids=str,
)
def test_a_write_that_makes_no_sense_changes_nothing(
    wrong: dict[str, Any], index: str, reading: str
) -> None:
    memory = filled(40, index=index, reading=reading)
    before = memory.entries()
    answer = memory.read([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="expected"):
        memory.write(**(GOOD_WRITE | wrong))
    assert_equal_entries(memory.entries(), before)
    np.testing.assert_array_equal(memory.read([0.1, 0.2, 0.3]).q_values, answer.q_values)
    memory.write(**GOOD_WRITE)  # what was not wrong is accepted


def test_an_id_must_be_new_even_when_nothing_is_inserted() -> None:
    memory = EpisodicMemory(1, 1)
    memory.write([0.0], 0, 1.0, 5)
    with pytest.raises(ValueError, match="above 5"):
        memory.write([0.0], 0, 1.0, 5)


@pytest.mark.parametrize(
    "key", [[1.0], [[1.0, 2.0, 3.0]], [np.nan, 0, 0], [np.inf, 0, 0], [1e39, 0, 0]], ids=str
)
def test_a_read_that_makes_no_sense_is_refused(key: Any) -> None:
    memory = filled(10)
    with pytest.raises(ValueError, match="expected"):
        memory.read(key)
    with pytest.raises(ValueError, match="expected"):
        memory.index_recall(key)


def test_float16_and_strided_keys_are_understood() -> None:
    memory = filled(30)
    query = np.array([0.5, -1.0, 1.5], np.float32)
    expected = memory.read(query).q_values
    np.testing.assert_array_equal(memory.read(query.astype(np.float16)).q_values, expected)
    strided = np.repeat(query, 2)[::2]
    np.testing.assert_array_equal(memory.read(strided).q_values, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [1, 1]}, "strictly increasing"),
        ({"ids": [2, 1]}, "strictly increasing"),
        ({"ids": [-1, 1]}, "strictly increasing"),
        ({"ids": [1]}, "one id, action and value"),
        ({"keys": [[0.0], [1.0]]}, "expected keys of shape"),
        ({"keys": [[0.0, 0, 0], [np.nan, 0, 0]]}, "finite key"),
        ({"actions": [0, 4]}, "actions from 0 to 3"),
        ({"actions": [0, -1]}, "actions from 0 to 3"),
        ({"values": [0.0, np.inf]}, "finite values"),
    ],
)
def test_a_load_that_makes_no_sense_changes_nothing(change: dict[str, Any], message: str) -> None:
    good = {"ids": [1, 2], "keys": np.zeros((2, 3)), "actions": [0, 1], "values": [0.0, 1.0]}
    memory = EpisodicMemory(3, 4)
    with pytest.raises(ValueError, match=message):
        memory.load(**(good | change))
    assert memory.size == 0
    memory.load(**good)
    with pytest.raises(ValueError, match="empty memory"):
        memory.load(**good)


@pytest.mark.parametrize(
    "wrong",
    [
        {"capacity": 0},
        {"capacity": 2**31},
        {"neighbours_read": 0},
        {"neighbours_write": 0},
        {"write_rate": 0.0},
        {"write_rate": 1.1},
        {"write_rate": float("nan")},
        {"write_rule": "mean"},
        {"reading": "both"},
        {"unknown": "one"},
        {"index": "faiss"},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"expected.*{next(iter(wrong))}"):
        MemorySettings(**wrong)


def test_sizes_below_one_are_refused() -> None:
    for sizes in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            EpisodicMemory(*sizes)
