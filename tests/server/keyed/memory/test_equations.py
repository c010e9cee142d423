"""Reads and writes against the paper's equations in plain loops, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from server.keyed.memory.reference import ReferenceMemory

from hyperoracle_server.keyed.memory import EpisodicMemory, HnswSettings, MemorySettings, episodic

THOROUGH = HnswSettings(search_effort=512, recall=0.0)
"""Graph search that looks at everything in memories as small as these."""


def make_pair(
    key_size: int, n_actions: int, **settings: Any
) -> tuple[EpisodicMemory, ReferenceMemory]:
    chosen = MemorySettings(**settings)
    memory = EpisodicMemory(key_size, n_actions, chosen, THOROUGH)
    reference = ReferenceMemory(
        n_actions,
        chosen.capacity,
        chosen.neighbours_read,
        chosen.neighbours_write,
        chosen.write_rate,
        chosen.write_rule,
        chosen.reading,
        chosen.unknown,
    )
    return memory, reference


def as_tuple(key: np.ndarray) -> tuple[float, ...]:
    return tuple(key.astype(np.float64).tolist())


def assert_same_reading(
    memory: EpisodicMemory, reference: ReferenceMemory, key: np.ndarray
) -> None:
    reading = memory.read(key)
    q_values, known, ids = reference.read(as_tuple(key))
    # 1e-6 is the promise; float64 on both sides does much better.
    np.testing.assert_allclose(reading.q_values, q_values, rtol=1e-6, atol=1e-6)
    assert reading.known.tolist() == known
    for action in range(memory.n_actions):
        found = reading.ids[action]
        assert found[found >= 0].tolist() == ids[action]
        assert (found[len(ids[action]) :] == -1).all()
        assert np.isinf(reading.squared_distances[action, len(ids[action]) :]).all()
        stored = memory.get(ids[action])
        differences = stored.keys.astype(np.float64) - key.astype(np.float64)
        np.testing.assert_allclose(
            reading.squared_distances[action, : len(ids[action])],
            (differences**2).sum(axis=1),
            rtol=1e-9,
            atol=1e-12,
        )
        np.testing.assert_array_equal(reading.values[action, : len(stored)], stored.values)


class CasesForEverySearch:
    """What holds for exact and approximate search alike."""

    index = "exact"

    @pytest.mark.parametrize("unknown", ["kernel-mean", "zero"])
    @pytest.mark.parametrize("reading", ["per-action", "shared"])
    @pytest.mark.parametrize("write_rule", ["average", "max"])
    @pytest.mark.parametrize("seed", range(2))
    def test_many_writes_with_eviction_and_repeats_agree_with_the_equations(
        self, seed: int, write_rule: str, reading: str, unknown: str
    ) -> None:
        rng = np.random.default_rng(seed)
        key_size, n_actions = int(rng.integers(1, 6)), int(rng.integers(1, 7))
        memory, reference = make_pair(
            key_size,
            n_actions,
            capacity=int(rng.integers(3, 50)),
            neighbours_read=int(rng.integers(1, 7)),
            neighbours_write=int(rng.integers(1, 5)),
            write_rate=float(rng.uniform(0.05, 1.0)),
            write_rule=write_rule,
            reading=reading,
            unknown=unknown,
            index=self.index,
        )
        seen = [rng.normal(size=key_size).astype(np.float32)]
        for entry_id in range(0, 240, 2):
            key = rng.normal(size=key_size).astype(np.float32)
            if rng.random() < 0.3:
                key = seen[rng.integers(max(0, len(seen) - 20), len(seen))]
            seen.append(key)
            action = int(rng.integers(n_actions))
            hyper_return = float(rng.normal() * 10)
            effect = memory.write(key, action, hyper_return, entry_id)
            updated, inserted, evicted = reference.write(
                as_tuple(key), action, hyper_return, entry_id
            )
            assert effect.updated_ids.tolist() == list(updated)
            np.testing.assert_allclose(
                effect.updated_values, list(updated.values()), rtol=1e-6, atol=1e-6
            )
            assert effect.inserted == inserted
            assert effect.evicted_ids.tolist() == evicted
            assert memory.size == len(reference.triples)
            if entry_id % 10 == 0:
                assert_same_reading(memory, reference, rng.normal(size=key_size).astype("f4"))
                assert_same_reading(memory, reference, seen[-1])
        entries = memory.entries()
        assert entries.ids.tolist() == [t.entry_id for t in reference.triples]
        assert entries.actions.tolist() == [t.action for t in reference.triples]
        np.testing.assert_allclose(
            entries.values, [t.value for t in reference.triples], rtol=1e-6, atol=1e-6
        )

    def test_more_neighbours_wanted_than_stored(self) -> None:
        memory, reference = make_pair(
            2, 3, neighbours_read=40, neighbours_write=30, index=self.index
        )
        rng = np.random.default_rng(0)
        for entry_id in range(20):
            key = rng.normal(size=2).astype(np.float32)
            memory.write(key, entry_id % 2, float(entry_id), entry_id)
            reference.write(as_tuple(key), entry_id % 2, float(entry_id), entry_id)
        assert_same_reading(memory, reference, np.zeros(2, np.float32))

    @pytest.mark.parametrize("reading", ["per-action", "shared"])
    def test_many_hyper_actions_of_which_few_are_known(self, reading: str) -> None:
        memory, reference = make_pair(4, 625, reading=reading, index=self.index)
        rng = np.random.default_rng(1)
        for entry_id in range(200):
            key = rng.normal(size=4).astype(np.float32)
            action, hyper_return = int(rng.integers(625)), float(rng.normal())
            memory.write(key, action, hyper_return, entry_id)
            reference.write(as_tuple(key), action, hyper_return, entry_id)
        assert_same_reading(memory, reference, rng.normal(size=4).astype(np.float32))

    @pytest.mark.parametrize("reading", ["per-action", "shared"])
    def test_few_keys_at_which_many_hyper_actions_were_taken(self, reading: str) -> None:
        memory, reference = make_pair(2, 41, neighbours_read=2, reading=reading, index=self.index)
        rng = np.random.default_rng(3)
        keys = rng.normal(size=(4, 2)).astype(np.float32)
        for entry_id in range(160):
            key, action = keys[entry_id % 4], entry_id // 4
            hyper_return = float(rng.normal())
            memory.write(key, action, hyper_return, entry_id)
            reference.write(as_tuple(key), action, hyper_return, entry_id)
        # Hyper-action 40 is unknown: the 80 entries at the two nearest keys speak for it.
        for query in rng.normal(size=(5, 2)).astype(np.float32):
            assert_same_reading(memory, reference, query)

    def test_an_empty_memory_knows_nothing(self) -> None:
        for unknown in ("kernel-mean", "zero"):
            for reading in ("per-action", "shared"):
                memory, _ = make_pair(3, 2, unknown=unknown, reading=reading, index=self.index)
                answer = memory.read(np.ones(3))
                assert answer.q_values.tolist() == [0.0, 0.0]
                assert answer.known.tolist() == [False, False]
                assert (answer.ids == -1).all()
                assert answer.ids.shape == answer.values.shape == (2, 5)

    def test_a_stored_key_is_at_distance_exactly_zero(self) -> None:
        rng = np.random.default_rng(2)
        keys = (rng.normal(size=(50, 32)) * 30).astype(np.float32)
        memory, _ = make_pair(32, 2, index=self.index)
        for entry_id, key in enumerate(keys):
            memory.write(key, entry_id % 2, 1.0, entry_id)
        for entry_id, key in enumerate(keys):
            reading = memory.read(key)
            assert reading.ids[entry_id % 2, 0] == entry_id
            assert reading.squared_distances[entry_id % 2, 0] == 0.0


class TestExactSearch(CasesForEverySearch):
    @pytest.mark.parametrize("write_rule", ["average", "max"])
    @pytest.mark.parametrize("reading", ["per-action", "shared"])
    @pytest.mark.parametrize("seed", range(2))
    def test_ties_go_to_the_lower_id(self, seed: int, reading: str, write_rule: str) -> None:
        # Small whole numbers: every distance is exact, and very many are equal.
        rng = np.random.default_rng(seed)
        memory, reference = make_pair(
            2, 3, capacity=30, reading=reading, write_rule=write_rule, index=self.index
        )
        for entry_id in range(90):
            key = rng.integers(-3, 4, size=2).astype(np.float32)
            action, hyper_return = int(rng.integers(3)), float(rng.normal())
            effect = memory.write(key, action, hyper_return, entry_id)
            updated, _, _ = reference.write(as_tuple(key), action, hyper_return, entry_id)
            assert effect.updated_ids.tolist() == list(updated)
            assert_same_reading(memory, reference, rng.integers(-3, 4, size=2).astype("f4"))


class TestExactSearchInFloat32(TestExactSearch):
    @pytest.fixture(autouse=True)
    def no_float64_scan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(episodic, "_PRECISE_ROWS", 0)


class TestHnswSearch(CasesForEverySearch):
    index = "hnsw"

    def test_answers_come_from_graphs(self) -> None:
        memory, _ = make_pair(2, 2, index="hnsw")
        memory.write(np.ones(2), 0, 1.0, 0)
        assert memory.approximate


class TestHandComputedRead:
    """Keys on a line; similarities 1 / (d² + 0.001) from the paper's kernel."""

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"neighbours_read": 2, "neighbours_write": 1, "write_rule": "max"}

    def filled(self, settings: dict[str, Any]) -> EpisodicMemory:
        memory = EpisodicMemory(1, 3, MemorySettings(**settings))
        memory.write([1.0], 0, 10.0, 1)
        memory.write([2.0], 0, 20.0, 2)
        memory.write([4.0], 0, 40.0, 3)
        memory.write([3.0], 1, -5.0, 4)
        return memory

    def test_per_action(self, settings: dict[str, Any]) -> None:
        reading = self.filled(settings).read([0.0])
        # Action 0: keys 1 and 2, not 4; d² = 1 and 4. Action 1: its only entry.
        expected = (10 / 1.001 + 20 / 4.001) / (1 / 1.001 + 1 / 4.001)
        assert reading.q_values[0] == pytest.approx(expected, rel=1e-12)
        assert reading.q_values[1] == -5.0
        # Action 2 gets what the two nearest keys know: those of action 0.
        assert reading.q_values[2] == pytest.approx(expected, rel=1e-12)
        assert reading.known.tolist() == [True, True, False]
        assert reading.ids.tolist() == [[1, 2], [4, -1], [-1, -1]]
        assert reading.squared_distances[0].tolist() == [1.0, 4.0]
        assert reading.values[0].tolist() == [10.0, 20.0]

    def test_shared(self, settings: dict[str, Any]) -> None:
        reading = self.filled(settings | {"reading": "shared"}).read([4.0])
        # N(i) is the keys 4 (action 0) and 3 (action 1): each action knows one of them.
        assert reading.q_values[0] == 40.0
        assert reading.q_values[1] == -5.0
        expected = (40 / 0.001 + -5 / 1.001) / (1 / 0.001 + 1 / 1.001)
        assert reading.q_values[2] == pytest.approx(expected, rel=1e-12)
        assert reading.ids.tolist() == [[3, -1], [4, -1], [-1, -1]]

    def test_unknown_as_zero(self, settings: dict[str, Any]) -> None:
        reading = self.filled(settings | {"unknown": "zero"}).read([0.0])
        assert reading.q_values[2] == 0.0

    def test_entries_at_one_key_all_count_in_the_mean_for_the_unknown(self) -> None:
        memory = EpisodicMemory(1, 4, MemorySettings(neighbours_read=1))
        memory.write([1.0], 0, 3.0, 1)
        memory.write([1.0], 1, 6.0, 2)
        memory.write([5.0], 2, 100.0, 3)
        # The nearest distinct key is 1, with values 3 and 6 at one distance.
        assert memory.read([0.0]).q_values[3] == pytest.approx(4.5, rel=1e-12)


class TestHandComputedWrite:
    def test_neighbours_move_in_proportion_to_similarity(self) -> None:
        memory = EpisodicMemory(1, 2, MemorySettings(neighbours_write=2, write_rate=0.5))
        memory.write([1.0], 0, 10.0, 1)
        # Before the second write, 1 is the only neighbour: it moves by all of beta.
        effect = memory.write([3.0], 0, 30.0, 2)
        assert effect.updated_ids.tolist() == [1]
        assert effect.updated_values[0] == pytest.approx(20.0, rel=1e-12)
        assert effect.inserted
        memory.write([9.0], 0, 0.0, 3)
        # The neighbours of 9 were 3 (d² = 36) and 1 (d² = 64), with values 30 and 20.
        near, far = 1 / 36.001, 1 / 64.001
        expected = {
            1: 20 - 0.5 * 20 * far / (near + far),
            2: 30 - 0.5 * 30 * near / (near + far),
            3: 0.0,
        }
        stored = memory.entries()
        assert dict(zip(stored.ids.tolist(), stored.values.tolist(), strict=True)) == (
            pytest.approx(expected, rel=1e-12)
        )

    def test_a_stored_pair_is_its_own_nearest_neighbour_and_not_added_again(self) -> None:
        memory = EpisodicMemory(1, 1, MemorySettings(neighbours_write=2, write_rate=1.0))
        memory.write([0.0], 0, 0.0, 1)
        memory.write([1.0], 0, 0.0, 2)
        effect = memory.write([0.0], 0, 8.0, 3)
        own, other = 1000.0, 1 / 1.001
        assert not effect.inserted
        assert effect.updated_ids.tolist() == [1, 2]
        np.testing.assert_allclose(
            effect.updated_values,
            [8 * own / (own + other), 8 * other / (own + other)],
            rtol=1e-12,
        )
        assert memory.size == 2

    def test_values_that_equal_the_return_stay_exactly(self) -> None:
        rng = np.random.default_rng(0)
        memory = EpisodicMemory(2, 1, MemorySettings(write_rate=0.3))
        for entry_id in range(300):
            memory.write(rng.normal(size=2), 0, 0.1, entry_id)
        # Without care (1 - w) 0.1 + w 0.1 would often come out an ulp off.
        assert (memory.entries().values == 0.1).all()

    def test_the_largest_floats_do_not_overflow(self) -> None:
        rng = np.random.default_rng(0)
        largest = float(np.finfo(np.float64).max)
        memory = EpisodicMemory(2, 1, MemorySettings(write_rate=0.3))
        for entry_id in range(300):
            memory.write(rng.normal(size=2), 0, largest, entry_id)
        assert (memory.entries().values == largest).all()
        effect = memory.write(rng.normal(size=2), 0, -largest, 300)
        assert np.isfinite(effect.updated_values).all()
        assert np.isfinite(memory.read(rng.normal(size=2)).q_values).all()

    def test_only_the_action_taken_is_written(self) -> None:
        memory = EpisodicMemory(1, 2)
        memory.write([0.0], 0, 5.0, 1)
        effect = memory.write([0.0], 1, -5.0, 2)
        assert effect.inserted
        assert effect.updated_ids.tolist() == []
        assert memory.get([1]).values.tolist() == [5.0]

    def test_the_max_rule_keeps_the_best_return_and_leaves_neighbours_alone(self) -> None:
        memory = EpisodicMemory(1, 1, MemorySettings(write_rule="max"))
        memory.write([0.0], 0, 5.0, 1)
        memory.write([0.1], 0, 1.0, 2)
        lower = memory.write([0.0], 0, 4.0, 3)
        assert (lower.inserted, lower.updated_ids.tolist()) == (False, [])
        higher = memory.write([0.0], 0, 7.0, 3)
        assert (higher.updated_ids.tolist(), higher.updated_values.tolist()) == ([1], [7.0])
        assert memory.entries().values.tolist() == [7.0, 1.0]

    def test_the_earliest_added_goes_even_if_it_was_just_updated(self) -> None:
        memory = EpisodicMemory(1, 1, MemorySettings(capacity=2))
        memory.write([0.0], 0, 1.0, 1)
        memory.write([1.0], 0, 1.0, 2)
        effect = memory.write([2.0], 0, 1.0, 3)
        assert 1 in effect.updated_ids.tolist()
        assert effect.evicted_ids.tolist() == [1]
        assert memory.entries().ids.tolist() == [2, 3]
        # Evicted is forgotten: the same pair is new again.
        assert memory.write([0.0], 0, 1.0, 4).inserted

    def test_negative_zero_is_zero(self) -> None:
        memory = EpisodicMemory(1, 1)
        memory.write([0.0], 0, 1.0, 1)
        assert not memory.write([-0.0], 0, 2.0, 2).inserted
