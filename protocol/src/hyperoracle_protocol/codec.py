"""The binary body of the two hot calls: JSON metadata followed by raw numbers.

All integers and floats are little-endian.

    offset  size  what
    0       4     magic "HYOR"
    4       1     frame version, 1
    5       1     dtype: 0 no numbers, 1 float16, 2 float32, 3 float64
    6       2     zero
    8       4     length of the metadata in bytes, padded with spaces so that 16 + length
                  is a multiple of 8
    12      4     count of numbers
    16      ...   metadata: a JSON object in UTF-8 (the JSON body without its numbers)
    ...     ...   the numbers

A proposal's numbers are the hyper-state (float16 or float32), a report's are the episode returns
(float64). Several reports in one body are their frames, one behind the other.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

BINARY_MEDIA_TYPE = "application/vnd.hyperoracle.v1+binary"
MAGIC = b"HYOR"
FRAME_VERSION = 1
_HEADER = struct.Struct("<4sBBHII")
_DTYPES = {"none": 0, "float16": 1, "float32": 2, "float64": 3}
_NAMES = {code: name for name, code in _DTYPES.items()}
_SIZES = {"none": 0, "float16": 2, "float32": 4, "float64": 8}


class FrameError(ValueError):
    """A binary body that is not a frame; the message says what was expected and what came."""


class Frame(NamedTuple):
    """A decoded binary body.

    Attributes:
        metadata: the JSON object's bytes.
        dtype: `none`, `float16`, `float32` or `float64`.
        size: how many numbers.
        numbers: their bytes, little-endian, `size` times the dtype's size, not copied.
    """

    metadata: bytes | memoryview
    dtype: str
    size: int
    numbers: memoryview


def encode_frame(metadata: bytes, dtype: str = "none", numbers: bytes | memoryview = b"") -> bytes:
    """Pack metadata and numbers into one body.

    Args:
        metadata: a JSON object in UTF-8.
        dtype: `none`, `float16`, `float32` or `float64`.
        numbers: the numbers' bytes, little-endian.

    Raises:
        FrameError: an unknown dtype, or a length that does not fit it.
    """
    if dtype not in _DTYPES:
        raise FrameError(f"expected a dtype among {sorted(_DTYPES)}, got {dtype!r}")
    size = _SIZES[dtype]
    length = len(numbers) if isinstance(numbers, bytes) else numbers.nbytes
    if (size == 0 and length) or (size and length % size):
        raise FrameError(f"expected a multiple of {size} bytes of {dtype}, got {length}")
    padding = -len(metadata) % 8
    header = _HEADER.pack(MAGIC, FRAME_VERSION, _DTYPES[dtype], 0, len(metadata) + padding,
                          length // size if size else 0)  # fmt: skip
    return b"".join((header, metadata, b" " * padding, numbers))


def decode_frame(body: bytes | memoryview) -> Frame:
    """Unpack a body that `encode_frame` made.

    Raises:
        FrameError: wrong magic, version, dtype, or lengths that do not add up.
    """
    view = memoryview(body)
    expected = _frame_size(view)
    if len(view) != expected:
        raise FrameError(f"expected a body of {expected} bytes, got {len(view)}")
    _, _, code, _, metadata_length, count = _HEADER.unpack_from(view)
    start = _HEADER.size + metadata_length
    return Frame(bytes(view[_HEADER.size : start]), _NAMES[code], count, view[start:])


def split_frames(body: bytes, most: int) -> list[bytes]:
    """The frames that lie one behind the other in a body.

    Args:
        body: what `b"".join(frames)` made.
        most: that there may be.

    Raises:
        FrameError: none, more than `most`, or something that is no frame.
    """
    view, frames = memoryview(body), list[bytes]()
    while view or not frames:
        if len(frames) == most:
            raise FrameError(f"expected at most {most} frames, got more")
        size = _frame_size(view)
        if len(view) < size:
            raise FrameError(f"expected {size} bytes of frame {len(frames)}, got {len(view)}")
        frames.append(bytes(view[:size]))
        view = view[size:]
    return frames


def _frame_size(view: memoryview) -> int:
    """The length in bytes that the frame at the start of `view` says it has."""
    if len(view) < _HEADER.size:
        raise FrameError(f"expected a frame of at least {_HEADER.size} bytes, got {len(view)}")
    magic, version, code, _, metadata_length, count = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise FrameError(f"expected a frame that starts with {MAGIC!r}, got {magic!r}")
    if version != FRAME_VERSION:
        raise FrameError(f"expected frame version {FRAME_VERSION}, got {version}")
    if code not in _NAMES:
        raise FrameError(f"expected a dtype code in {sorted(_NAMES)}, got {code}")
    if code == _DTYPES["none"] and count:
        raise FrameError(f"expected no numbers of dtype none, got {count}")
    return int(_HEADER.size + metadata_length + count * _SIZES[_NAMES[code]])
