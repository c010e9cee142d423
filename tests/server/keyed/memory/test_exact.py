"""Exact search against a plain sort of all distances, at sizes where every path is taken."""

from __future__ import annotations

import numpy as np
import pytest

from hyperoracle_server.keyed.memory.base import KeyStore
from hyperoracle_server.keyed.memory.exact import ExactSearch


def truth(
    store: KeyStore, live: np.ndarray, query: np.ndarray, group: int, count: int
) -> list[int]:
    """Slots by distance (by differences, float64), then rank."""
    members = live[store.groups[live] == group]
    squared = ((store.keys[members].astype(np.float64) - query) ** 2).sum(axis=1)
    return members[np.lexsort((store.ranks[members], squared))[:count]].tolist()


def assert_exact(
    search: ExactSearch, store: KeyStore, live: np.ndarray, query: np.ndarray, count: int
) -> None:
    slots, squared = search.nearest(query, count)
    assert slots.shape == squared.shape == (count, search.n_groups)
    for group in range(search.n_groups):
        expected = truth(store, live, query, group, count)
        found = slots[:, group]
        assert found[: len(expected)].tolist() == expected
        assert (found[len(expected) :] == store.capacity).all()
        assert np.isinf(squared[len(expected) :, group]).all()
        exact = store.squared_distances(query, np.array(expected, np.int64))
        np.testing.assert_allclose(squared[: len(expected), group], exact, rtol=1e-9, atol=1e-12)
        in_group, squared_in_group = search.nearest_in_group(query, group, count)
        assert in_group.tolist() == expected
        np.testing.assert_array_equal(squared_in_group, exact)


def skewed(rng: np.random.Generator, n: int, n_groups: int) -> np.ndarray:
    """Groups of which the first has half the keys, the next a quarter, and so on."""
    return np.minimum(rng.geometric(0.5, n) - 1, n_groups - 1)


def uniform(rng: np.random.Generator, n: int, n_groups: int) -> np.ndarray:
    return rng.integers(0, n_groups, n)


@pytest.mark.parametrize("precise_rows", [0, 10_000], ids=["float32", "float64"])
@pytest.mark.parametrize("spread", [skewed, uniform])
@pytest.mark.parametrize("count", [1, 5, 17])
@pytest.mark.parametrize(("n", "n_groups"), [(6000, 3), (1500, 60)])
def test_all_groups_at_once_agree_with_a_plain_sort(
    n: int, n_groups: int, count: int, spread, precise_rows: int
) -> None:
    rng = np.random.default_rng(n + count)
    store = KeyStore(n, 8, precise_rows)
    search = ExactSearch(store, n_groups)
    slots = rng.permutation(n)
    keys = rng.normal(size=(n, 8)).astype(np.float32)
    store.put(slots, keys, spread(rng, n, n_groups), rng.permutation(n))
    search.add_many(slots)
    for query in rng.normal(size=(3, 8)).astype(np.float32).astype(np.float64):
        assert_exact(search, store, slots, query, count)


@pytest.mark.parametrize("precise_rows", [0, 1000], ids=["float32", "float64"])
def test_tight_clusters_far_from_the_origin_are_told_apart(precise_rows: int) -> None:
    # ‖x‖² is 10⁷ times the squared distances: in float32 the product alone would see only noise.
    rng = np.random.default_rng(5)
    store = KeyStore(1000, 4, precise_rows)
    search = ExactSearch(store, 2)
    keys = (100 + rng.normal(size=(1000, 4)) * 0.03).astype(np.float32)
    slots = np.arange(1000)
    store.put(slots, keys, rng.integers(0, 2, 1000), slots)
    search.add_many(slots)
    for query in (100 + rng.normal(size=(5, 4)) * 0.03).astype(np.float32).astype(np.float64):
        assert_exact(search, store, slots, query, 5)


@pytest.mark.parametrize("precise_rows", [0, 400], ids=["float32", "float64"])
def test_ties_beyond_the_wanted_neighbours_go_to_the_lower_rank(precise_rows: int) -> None:
    rng = np.random.default_rng(6)
    store = KeyStore(400, 2, precise_rows)
    search = ExactSearch(store, 2)
    slots = np.arange(400)
    store.put(
        slots,
        rng.integers(-2, 3, (400, 2)).astype(np.float32),
        rng.integers(0, 2, 400),
        rng.permutation(400),
    )
    search.add_many(slots)
    for query in rng.integers(-2, 3, (5, 2)).astype(np.float64):
        assert_exact(search, store, slots, query, 5)


@pytest.mark.parametrize("precise_rows", [0, 300], ids=["float32", "float64"])
def test_keys_that_come_and_go_one_by_one_stay_exact(precise_rows: int) -> None:
    rng = np.random.default_rng(7)
    capacity = 300
    store = KeyStore(capacity, 3, precise_rows)
    search = ExactSearch(store, 4)
    live: list[int] = []
    for rank in range(2000):
        # The share of group 0 sweeps up and down: its rows widen, close up and narrow again.
        if live and (len(live) == capacity or rng.random() < 0.4):
            gone = live.pop(0 if rng.random() < 0.8 else int(rng.integers(len(live))))
            search.remove(gone)
            store.drop(gone)
        slot = int(rng.choice(np.setdiff1d(np.arange(capacity), live)))
        group = 0 if rng.random() < (rank % 500) / 500 else int(rng.integers(4))
        store.put_one(slot, rng.normal(size=3).astype(np.float32), group, rank)
        search.add(slot)
        live.append(slot)
        if rank % 100 == 0:
            assert_exact(search, store, np.array(live), rng.normal(size=3), 5)
    for slot in live:
        search.remove(slot)
        store.drop(slot)
    assert search.groups_in_use == 0
    assert (search.nearest(np.zeros(3), 5)[0] == capacity).all()
