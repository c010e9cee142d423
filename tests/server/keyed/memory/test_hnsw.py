"""Graphs: recall, turnover, and building them beside a memory that goes on."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from hyperoracle_server.keyed.memory import EpisodicMemory, HnswSettings, MemorySettings
from hyperoracle_server.keyed.memory.hnsw import Graphs


def fill(memory: EpisodicMemory, rng: np.random.Generator, n: int) -> None:
    first = memory.newest_id + 1
    keys = rng.normal(size=(n, memory.key_size)).astype(np.float32)
    actions = rng.integers(0, memory.n_actions, n)
    for entry_id, key, action in zip(range(first, first + n), keys, actions.tolist(), strict=True):
        memory.write(key, action, float(entry_id), entry_id)


def mean_recall(memory: EpisodicMemory, rng: np.random.Generator) -> float:
    queries = rng.normal(size=(50, memory.key_size)).astype(np.float32)
    return float(np.mean([memory.index_recall(query) for query in queries]))


@pytest.mark.parametrize("reading", ["per-action", "shared"])
def test_recall_after_threefold_turnover(reading: str) -> None:
    rng = np.random.default_rng(0)
    settings = MemorySettings(capacity=600, index="hnsw", reading=reading)  # type: ignore[arg-type]  # parametrised
    memory = EpisodicMemory(16, 2, settings)
    fill(memory, rng, 600)
    rebuilt = 0
    for _ in range(18):
        fill(memory, rng, 100)
        if memory.index_build_due:
            memory.build_index()
            rebuilt += 1
    assert rebuilt >= 2
    assert memory.approximate
    assert mean_recall(memory, rng) >= 0.95


def test_recall_after_threefold_turnover_without_rebuilding() -> None:
    rng = np.random.default_rng(1)
    memory = EpisodicMemory(16, 2, MemorySettings(capacity=600, index="hnsw"))
    fill(memory, rng, 2000)
    assert memory.approximate
    assert memory.index_build_due
    assert mean_recall(memory, rng) >= 0.95


def test_graphs_that_nobody_rebuilds_are_given_up_before_they_grow_without_bound() -> None:
    rng = np.random.default_rng(2)
    memory = EpisodicMemory(2, 1, MemorySettings(capacity=50, index="hnsw"))
    fill(memory, rng, 1500)
    assert not memory.approximate
    assert mean_recall(memory, rng) == 1.0
    memory.build_index()
    assert memory.approximate


def test_search_effort_rises_until_the_wanted_recall_is_met() -> None:
    rng = np.random.default_rng(3)
    keys = rng.normal(size=(3000, 24)).astype(np.float32)
    recalls = []
    for wanted in (0.5, 0.99):
        settings = MemorySettings(capacity=3000, index="hnsw")
        memory = EpisodicMemory(24, 1, settings, HnswSettings(recall=wanted))
        memory.load(np.arange(3000), keys, np.zeros(3000, np.int64), np.zeros(3000))
        memory.build_index()
        recalls.append(mean_recall(memory, np.random.default_rng(4)))
    assert recalls[0] < recalls[1]
    # The effort is chosen on 64 other queries: a standard error of about 0.01.
    assert recalls[1] >= 0.96


def test_auto_uses_graphs_only_where_they_pay() -> None:
    rng = np.random.default_rng(5)
    settings = HnswSettings(graphs_pay_from=100, keys_per_candidate=1)
    memory = EpisodicMemory(4, 3, MemorySettings(capacity=1000, index="auto"), settings)
    fill(memory, rng, 250)
    assert not memory.index_build_due
    fill(memory, rng, 100)
    assert memory.index_build_due
    assert not memory.approximate
    memory.build_index()
    assert memory.approximate
    assert not memory.index_build_due
    fill(memory, rng, 50)
    assert mean_recall(memory, rng) >= 0.95


def test_exact_never_wants_graphs() -> None:
    memory = EpisodicMemory(4, 1, MemorySettings(index="exact"), HnswSettings(graphs_pay_from=1))
    fill(memory, np.random.default_rng(6), 20)
    assert not memory.index_build_due


@pytest.mark.parametrize("reading", ["per-action", "shared"])
def test_a_build_catches_up_with_what_was_written_and_evicted_meanwhile(reading: str) -> None:
    rng = np.random.default_rng(7)
    settings = MemorySettings(capacity=400, index="hnsw", reading=reading)  # type: ignore[arg-type]  # parametrised
    thorough = HnswSettings(search_effort=512, recall=0.0)
    memory = EpisodicMemory(4, 2, settings, thorough)
    memory.load(
        np.arange(400), rng.normal(size=(400, 4)), rng.integers(0, 2, 400), rng.normal(size=400)
    )
    build = memory.start_index_build()
    fill(memory, rng, 100)
    assert not build.adopt()  # the copied keys are not in yet
    build.run()
    assert not build.adopt()  # 100 late keys are too many to add under the lock
    fill(memory, rng, 20)
    build.run()
    fill(memory, rng, 10)
    assert build.adopt()
    assert memory.approximate
    exact = EpisodicMemory(4, 2, MemorySettings(capacity=400, index="exact", reading=reading))  # type: ignore[arg-type]  # parametrised
    stored = memory.entries()
    exact.load(stored.ids, stored.keys, stored.actions, stored.values)
    for query in rng.normal(size=(20, 4)):
        np.testing.assert_array_equal(memory.read(query).ids, exact.read(query).ids)
        np.testing.assert_allclose(
            memory.read(query).q_values, exact.read(query).q_values, rtol=1e-9
        )


def test_building_in_a_thread_disturbs_neither_reads_nor_writes() -> None:
    rng = np.random.default_rng(8)
    memory = EpisodicMemory(8, 2, MemorySettings(capacity=2000, index="hnsw"))
    memory.load(
        np.arange(2000), rng.normal(size=(2000, 8)), rng.integers(0, 2, 2000), np.zeros(2000)
    )
    lock = threading.Lock()
    adopted = threading.Event()
    build = memory.start_index_build()

    def build_behind() -> None:
        while not adopted.is_set():
            build.run()
            with lock:
                if build.adopt():
                    adopted.set()

    builder = threading.Thread(target=build_behind)
    builder.start()
    while not adopted.is_set():
        with lock:
            fill(memory, rng, 1)
            reading = memory.read(rng.normal(size=8))
            assert reading.known.all()
        adopted.wait(0.001)  # let the other thread have the lock
    builder.join()
    assert memory.approximate
    assert mean_recall(memory, rng) >= 0.9


def test_equal_histories_give_equal_graphs() -> None:
    answers = []
    for _ in range(2):
        rng = np.random.default_rng(9)
        # So little effort that the answers are not exact.
        memory = EpisodicMemory(
            16, 1, MemorySettings(index="hnsw"), HnswSettings(links=4, search_effort=5, recall=0.0)
        )
        fill(memory, rng, 800)
        assert mean_recall(memory, rng) < 1.0
        answers.append([memory.read(query).ids.tolist() for query in rng.normal(size=(20, 16))])
    assert answers[0] == answers[1]


def test_a_graph_that_cannot_reach_its_keys_leaves_the_answer_to_exact_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(10)
    memory = EpisodicMemory(4, 2, MemorySettings(index="hnsw"))
    fill(memory, rng, 50)
    query = rng.normal(size=4)
    before = memory.read(query)
    # hnswlib raises when it finds fewer than asked for; Graphs then answers None.
    monkeypatch.setattr(Graphs, "nearest", lambda *_: None)
    np.testing.assert_array_equal(memory.read(query).ids, before.ids)


@pytest.mark.parametrize(
    "wrong", [{"links": 1}, {"build_effort": 0}, {"search_effort": 0}, {"recall": 1.5}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        HnswSettings(**wrong)  # type: ignore[arg-type]  # that is the point
