import contextlib
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_protocol.codec import FrameError, decode_frame, encode_frame, split_frames


@given(
    metadata=st.binary(max_size=200),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    count=st.integers(0, 50),
    data=st.data(),
)
def test_a_frame_comes_back_as_it_went(metadata, dtype, count, data):
    size = {"float16": 2, "float32": 4, "float64": 8}[dtype]
    numbers = data.draw(st.binary(min_size=count * size, max_size=count * size))
    frame = decode_frame(encode_frame(metadata, dtype, numbers))
    assert bytes(frame.metadata).rstrip(b" ") == metadata.rstrip(b" ")
    assert (frame.dtype, frame.size, bytes(frame.numbers)) == (dtype, count, numbers)


def test_the_layout_of_a_frame_is_the_documented_one():
    body = encode_frame(b'{"a": 1}', "float16", b"\x00\x3c\x00\xc0")  # 1.0, -2.0
    assert body == b"HYOR" + struct.pack("<BBHII", 1, 1, 0, 8, 2) + b'{"a": 1}\x00\x3c\x00\xc0'


def test_the_numbers_are_aligned_for_whoever_maps_them():
    for length in range(20):
        body = encode_frame(b"x" * length, "float64", b"12345678")
        assert (len(body) - 8) % 8 == 0


GOOD = encode_frame(b"{}", "float32", b"\0" * 12)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "at least 16"),
        (GOOD[:15], "at least 16"),
        (b"NOPE" + GOOD[4:], "HYOR"),
        (GOOD[:4] + b"\x02" + GOOD[5:], "frame version 1"),
        (GOOD[:5] + b"\x09" + GOOD[6:], "dtype code"),
        (GOOD[:-1], "36 bytes, got 35"),
        (GOOD + b"\0", "36 bytes, got 37"),
        (GOOD[:12] + struct.pack("<I", 2**32 - 1) + GOOD[16:], "bytes, got 36"),
        (GOOD[:8] + struct.pack("<I", 2**31) + GOOD[12:], "bytes, got 36"),
        (GOOD[:5] + b"\x00" + GOOD[6:], "no numbers of dtype none, got 3"),
    ],
)
def test_a_broken_frame_is_refused_with_what_was_expected(body, says):
    with pytest.raises(FrameError, match=says):
        decode_frame(body)


@given(st.binary(max_size=100))
def test_no_bytes_make_the_decoder_fail_otherwise(body):
    with contextlib.suppress(FrameError):
        decode_frame(body)


def test_numbers_that_do_not_fit_their_dtype_are_refused():
    with pytest.raises(FrameError, match="multiple of 4"):
        encode_frame(b"{}", "float32", b"123")
    with pytest.raises(FrameError, match="dtype"):
        encode_frame(b"{}", "int8", b"1")


FRAMES = st.lists(
    st.builds(
        lambda text, numbers: encode_frame(text, "float64", bytes(8 * numbers)),
        st.binary(max_size=40), st.integers(0, 5),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


@given(FRAMES)
def test_frames_one_behind_the_other_are_told_apart(frames):
    assert split_frames(b"".join(frames), 6) == frames


@given(FRAMES, st.data())
def test_frames_that_end_too_early_are_refused(frames, data):
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole) - 1))
    if cut in itertools.accumulate(map(len, frames)):
        return  # whole frames, only fewer
    with pytest.raises(FrameError):
        split_frames(whole[:cut], 6)


def test_more_frames_than_may_be_are_refused():
    with pytest.raises(FrameError, match="at most 2 frames"):
        split_frames(GOOD * 3, 2)
