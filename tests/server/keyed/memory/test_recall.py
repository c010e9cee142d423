"""What graphs find in the worst region of a memory, and who answers where that is too little."""

from __future__ import annotations

import numpy as np
import pytest

from hyperoracle_server.keyed.memory import EpisodicMemory, HnswSettings, MemorySettings
from hyperoracle_server.keyed.memory.hnsw import REGIONS, Graphs, evenly_spaced, least_recall

RUNS, KEY_SIZE = 20, 32


def drifting(count: int, rng: np.random.Generator) -> np.ndarray:
    """Keys of runs that begin close together and move away from each other at growing steps."""
    steps = -(-count // RUNS)
    length = 0.02 * (1.0 + 50.0 * np.arange(steps) / steps)
    walk = rng.normal(size=(steps, RUNS, KEY_SIZE)) * length[:, None, None] / KEY_SIZE**0.5
    return walk.cumsum(axis=0).reshape(-1, KEY_SIZE)[:count].astype(np.float32)


def loaded(keys, actions, index="hnsw", settings=None) -> EpisodicMemory:
    count = len(keys)
    memory = EpisodicMemory(
        keys.shape[1],
        int(actions.max()) + 1,
        MemorySettings(capacity=2 * count, index=index),
        settings,
    )
    memory.load(np.arange(count), keys, actions, np.zeros(count))
    memory.build_index()
    return memory


def recalls(memory: EpisodicMemory, keys, rng: np.random.Generator) -> np.ndarray:
    """Of each tenth of a memory, by age, what graphs find beside its keys."""
    found = []
    for part in np.array_split(np.arange(len(keys)), 10):
        chosen = rng.choice(part, 15)
        beside = 0.5 * (keys[chosen] + keys[np.maximum(0, chosen - RUNS)])
        found.append(np.mean([memory.index_recall(query) for query in beside]))
    return np.array(found)


def test_the_worst_region_counts_and_not_the_mean():
    queries = np.concatenate([np.zeros((120, 2)), np.full((8, 2), 100.0)])
    found = np.ones(128)
    assert least_recall(found, queries) == 1.0
    found[:16] = 0.5  # the oldest eighth
    assert least_recall(found, queries) == 0.5
    found[:] = 1.0
    found[-8:] = 0.0  # far away: half of the sixteen farthest, whatever their age
    assert least_recall(found[np.r_[100:128, 0:100]], queries[np.r_[100:128, 0:100]]) == 0.5
    assert least_recall(np.empty(0), np.empty((0, 2))) == 1.0
    assert least_recall(np.array([0.25]), np.zeros((1, 2))) == 0.25
    assert REGIONS == 8


def test_samples_reach_from_the_earliest_to_the_newest():
    mask = evenly_spaced(1000, 16)
    assert mask.sum() == 16
    assert mask[0]
    assert mask[-1]
    assert evenly_spaced(3, 16).all()


@pytest.mark.parametrize("count", [1500, 4500])
def test_graphs_find_the_neighbours_of_old_new_near_and_far_states(count):
    rng = np.random.default_rng(count)
    keys = drifting(count, rng)
    memory = loaded(keys, rng.integers(0, 3, count))
    assert memory.approximate
    assert recalls(memory, keys, rng).min() >= 0.9
    assert memory.check_recall(64) >= 0.85  # of eight queries each


def test_a_hyper_action_whose_graph_finds_too_little_is_scanned():
    rng = np.random.default_rng(1)
    keys = rng.normal(size=(2000, 16)).astype(np.float32)
    actions = rng.integers(0, 2, 2000)
    keys[actions == 1] *= np.logspace(-3, 0, int((actions == 1).sum()))[:, None]
    keys[actions == 0, 1:] = 0.0  # on a line: even a little effort finds all
    memory = loaded(keys, actions, settings=HnswSettings(recall=0.98, efforts=(5,)))
    assert memory.approximate
    assert len(memory.graph_efforts) == 1
    exact = loaded(keys, actions, "exact")
    for query in keys[::40]:
        np.testing.assert_array_equal(memory.read(query).ids[1], exact.read(query).ids[1])
    newest = 2000
    for action in (0, 1):  # it goes on, written and evicted, without a graph
        memory.write(keys[0] + 0.5, action, 1.0, newest)
        newest += 1
        found = memory.read(keys[0] + 0.5)
        assert found.ids[action][0] == newest - 1
    assert memory.graph_recall >= 0.98


def test_where_no_graph_finds_enough_the_scan_answers_until_there_are_many_more_keys():
    rng = np.random.default_rng(2)
    settings = HnswSettings(links=2, build_effort=2, recall=1.0, efforts=(5,))
    memory = loaded(rng.normal(size=(600, 24)), np.zeros(600, np.int64), settings=settings)
    assert not memory.approximate
    assert not memory.index_build_due
    assert memory.graph_recall == 1.0
    assert memory.check_recall(16) == 1.0
    for entry_id in range(600, 902):
        memory.write(rng.normal(size=24), 0, 0.0, entry_id)
    assert memory.index_build_due


def test_where_graphs_are_slower_than_the_scan_the_scan_answers():
    rng = np.random.default_rng(3)
    keys = rng.normal(size=(1000, 8)).astype(np.float32)
    actions = np.zeros(1000, np.int64)
    answers = {}
    for per_candidate in (1, 1000):
        settings = HnswSettings(graphs_pay_from=100, keys_per_candidate=per_candidate)
        answers[per_candidate] = loaded(keys, actions, "auto", settings).approximate
    assert answers == {1: True, 1000: False}
    assert loaded(keys, actions, "hnsw", settings).approximate  # as was asked for


@pytest.mark.parametrize("reading", ["per-action", "shared"])
def test_a_check_of_the_whole_memory_gives_up_graphs_that_lost_their_way(reading, monkeypatch):
    rng = np.random.default_rng(4)
    settings = MemorySettings(capacity=800, index="hnsw", reading=reading)
    memory = EpisodicMemory(8, 2, settings)
    keys = rng.normal(size=(800, 8)).astype(np.float32)
    memory.load(np.arange(800), keys, rng.integers(0, 2, 800), np.zeros(800))
    memory.build_index()
    assert memory.check_recall(48) >= 0.9
    assert memory.approximate
    nearest = Graphs.nearest

    def lost(graphs, query, group, count):
        """It finds nothing of what is old."""
        found = nearest(graphs, query, group, count)
        return None if found is None else np.where(found & 0xFFFFFFFF < 200, found[-1], found)

    monkeypatch.setattr(Graphs, "nearest", lost)
    assert memory.check_recall(48) < 0.7
    assert not memory.approximate
    assert memory.check_recall(48) == 1.0


def test_what_is_evicted_while_a_check_goes_on_is_left_out():
    rng = np.random.default_rng(5)
    memory = EpisodicMemory(4, 1, MemorySettings(capacity=300, index="hnsw"))
    for entry_id in range(300):
        memory.write(rng.normal(size=4), 0, 0.0, entry_id)
    check = memory.start_recall_check(30)
    assert check.step()
    for entry_id in range(300, 700):
        memory.write(rng.normal(size=4), 0, 0.0, entry_id)
    while check.step():
        pass
    assert 0.9 <= check.finish() <= 1.0


def test_a_memory_that_is_scanned_has_nothing_to_check():
    memory = EpisodicMemory(4, 1, MemorySettings(index="exact"))
    memory.write(np.zeros(4), 0, 0.0, 0)
    check = memory.start_recall_check(30)
    assert not check.step()
    assert check.finish() == 1.0
