"""Hyper-states that are kept for training, against a list of all that ever came."""

from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.ledger.rows import Samples


def test_they_are_thinned_when_there_are_twice_as_many_as_needed():
    samples = Samples(2)
    assert [samples.add("a", n) for n in (1, 3, 5)] == [False, False, False]
    assert not samples.add("b", 6), "another layout counts for itself"
    assert samples.add("a", 7)
    assert samples.thin("a", [4, 9]) == 4, "it may still be credited"
    assert list(samples.of("a")) == [5, 7]
    assert samples.thin("a", []) == 5
    assert list(samples.of("c")) == []


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=40), st.integers(0, 40))
def test_the_newest_that_training_needs_are_never_let_go(needed, is_open, restart_after):
    """A restart takes back the newest only, as `recovery` does."""
    samples, seen, gone = Samples(needed), [], 0
    for number, opened in enumerate(is_open, 1):
        seen.append((number, opened))
        if samples.add("a", number):
            open_ones = [n for n, o in seen if o]
            below = samples.thin("a", open_ones)
            assert below >= gone, "what is gone stays gone"
            gone = below
            assert all(n >= below for n in open_ones)
        newest = [n for n, _ in seen][-needed:]
        assert list(samples.of("a"))[-needed:] == newest
        assert all(n >= gone for n in newest)
        assert len(samples.of("a")) < 2 * needed
        if number == restart_after:
            samples = Samples(needed)
            samples.restore("a", reversed(newest))
