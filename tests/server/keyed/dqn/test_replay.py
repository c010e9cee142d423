"""The replay against a plain list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperoracle_server.keyed.dqn.replay import Replay

KEY, ACTIONS = 3, 4


def filled(ends, capacity=8, start=0):
    """Entry i has the key (i, i, i), the action i mod 4, the return 10 i and the reward i."""
    replay = Replay(KEY, ACTIONS, capacity)
    for i, end in enumerate(ends, start):
        replay.add([i] * KEY, i % ACTIONS, 10.0 * i, float(i), ends=end, entry_id=i)
    return replay


def picture(replay):
    steps = replay.entries()
    return [
        array.tolist()
        for array in (steps.ids, steps.keys, steps.actions, steps.values, steps.rewards, steps.ends)
    ] + [replay.size, replay.newest_id, replay.transition_count]


def test_the_next_key_is_that_of_the_following_decision_of_the_episode():
    replay = filled([False, False, True, False, True])
    drawn = replay.sample(400, np.random.default_rng(0))
    place = drawn.keys[:, 0]
    assert set(place) == {0, 1, 2, 3, 4}
    inside = ~drawn.ends
    np.testing.assert_array_equal(drawn.next_keys[inside, 0], place[inside] + 1)
    np.testing.assert_array_equal(drawn.ends, (place == 2) | (place == 4))
    np.testing.assert_array_equal(drawn.rewards, place)
    np.testing.assert_array_equal(drawn.actions, place % ACTIONS)


def test_the_newest_is_no_transition_until_the_next_has_come():
    replay = filled([True, False])
    assert replay.transition_count == 1
    assert set(replay.sample(50, np.random.default_rng(0)).keys[:, 0]) == {0}
    replay.add([2] * KEY, 0, 0.0, 0.0, ends=True, entry_id=2)
    assert replay.transition_count == 3


def test_the_earliest_leaves_and_the_ring_closes_without_a_seam():
    replay = filled([False] * 11, capacity=4)
    assert replay.entries().ids.tolist() == [7, 8, 9, 10]
    assert replay.transition_count == 3
    drawn = replay.sample(200, np.random.default_rng(1))
    np.testing.assert_array_equal(drawn.next_keys, drawn.keys + 1)
    assert replay.add([0] * KEY, 0, 0.0, 0.0, ends=True, entry_id=11) == [7]


def test_draws_are_uniform_over_transitions():
    drawn = filled([True] * 5).sample(20_000, np.random.default_rng(5)).rewards
    shares = np.bincount(drawn.astype(int), minlength=5) / 20_000
    np.testing.assert_allclose(shares, 0.2, atol=0.015)


@settings(max_examples=60)
@given(st.lists(st.booleans(), max_size=20), st.integers(1, 7))
def test_it_holds_the_newest_and_comes_back_by_load(ends, capacity):
    replay = filled(ends, capacity)
    kept = list(range(len(ends)))[-capacity:]
    assert replay.entries().ids.tolist() == kept
    again = Replay(KEY, ACTIONS, capacity)
    again.load(replay.entries())
    assert picture(again) == picture(replay)
    for other in (replay, again):
        other.add([99] * KEY, 1, 5.0, 6.0, ends=True, entry_id=99)
    assert picture(again) == picture(replay)
    one, two = (r.sample(9, np.random.default_rng(2)) for r in (replay, again))
    for mine, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@settings(max_examples=60)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 7))
def test_a_rekeyed_replay_takes_over_what_came_meanwhile(before, late, capacity):
    from dataclasses import replace

    live = filled([i % 3 == 0 for i in range(before)], capacity)
    copied = live.entries()
    other = live.rekeyed(replace(copied, keys=copied.keys + 100))
    for i in range(before, before + late):
        live.add([i] * KEY, i % ACTIONS, 10.0 * i, float(i), ends=i % 3 == 0, entry_id=i)
    other.take_over(live, live.entries_after(other.newest_id).keys + 100)
    wanted, got = picture(live), picture(other)
    wanted[1] = (live.entries().keys + 100).tolist()
    assert got == wanted


@pytest.mark.parametrize(
    "odd",
    [
        {"key": [0.0, 1.0]}, {"key": [np.nan] * KEY}, {"action": ACTIONS}, {"action": -1},
        {"hyper_return": np.inf}, {"reward": np.nan}, {"entry_id": 1},
    ],
)  # fmt: skip
def test_what_is_off_is_refused_and_changes_nothing(odd):
    replay = filled([True, False])
    before = picture(replay)
    given_ = {"key": [0.0] * KEY, "action": 0, "hyper_return": 1.0, "reward": 1.0, "entry_id": 5}
    with pytest.raises(ValueError, match="expected"):
        replay.add(**(given_ | odd), ends=True)
    assert picture(replay) == before
    with pytest.raises(ValueError, match="empty"):
        replay.load(filled([True]).entries())
