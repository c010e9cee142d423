from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from hyperoracle_server.keyed.encoder.frames import FrameError, frame_bytes, read_frame


def test_frames_come_back_in_order_until_the_stream_ends() -> None:
    arrays = {"samples": np.arange(6, dtype=np.float16).reshape(2, 3), "count": np.array(7)}
    stream = io.BytesIO(frame_bytes({"seed": 1}, arrays) + frame_bytes({"error": "é"}, {}))
    first, second = read_frame(stream), read_frame(stream)
    assert first is not None
    assert first[0] == {"seed": 1}
    assert first[1].keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(first[1][name], array, strict=True)
    assert second == ({"error": "é"}, {})
    assert read_frame(stream) is None


def test_a_stream_that_ends_inside_a_frame_is_an_error() -> None:
    frame = frame_bytes({}, {"samples": np.zeros(3)})
    for length in (1, 7, 8, 9, len(frame) - 1):
        with pytest.raises(FrameError, match="expected"):
            read_frame(io.BytesIO(frame[:length]))


def test_a_frame_above_the_limit_is_refused_before_it_is_read() -> None:
    stream = io.BytesIO(struct.pack("<Q", 2**60) + b"x")
    with pytest.raises(FrameError, match="at most 1000 bytes"):
        read_frame(stream, limit_bytes=1000)
    assert stream.tell() == 8


def test_something_that_is_no_frame_is_an_error() -> None:
    for content in (b"", b"hello, world", b"\x00" * 64):
        with pytest.raises(FrameError, match="expected safetensors"):
            read_frame(io.BytesIO(struct.pack("<Q", len(content)) + content))
