import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.strategies.chance import NumberedStreams

WORDS = st.integers(0, 2**64 - 1)


@given(seed=WORDS, numbers=st.lists(WORDS, min_size=1, max_size=5))
def test_each_stream_is_philox_with_this_key_whatever_was_drawn_before(seed, numbers):
    streams = NumberedStreams(seed)
    for number in numbers:
        ours = streams.stream(number)
        key = np.array([seed, number], np.uint64)  # a list would pass through float64
        fresh = np.random.Generator(np.random.Philox(key=key))
        # 32-bit draws leave half a word in the generator's buffer; it must not leak.
        assert ours.integers(7, dtype=np.uint32) == fresh.integers(7, dtype=np.uint32)
        assert ours.random(5).tolist() == fresh.random(5).tolist()
        assert ours.integers(1000, size=3).tolist() == fresh.integers(1000, size=3).tolist()
