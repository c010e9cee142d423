"""Frames: a JSON document and named arrays through a pipe, as safetensors.

A frame is its length (8 bytes, little-endian) and that many bytes of safetensors. The document
travels as the array `document`, the UTF-8 of its JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME_LIMIT_BYTES = 512 * 2**20
"""Largest frame: 2,048 hyper-states of 65,536 features and the encoder's state fit."""

_LENGTH = struct.Struct("<Q")
_DOCUMENT = "document"


class FrameError(Exception):
    """The pipe ended inside a frame, or carried something that is none."""


def frame_bytes(document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a whole frame.

    Args:
        document: What JSON can say.
        arrays: By name; not `document`.
    """
    text = np.frombuffer(json.dumps(document).encode(), np.uint8)
    content = safetensors.numpy.save({**arrays, _DOCUMENT: text})
    return _LENGTH.pack(len(content)) + content


def read_frame(
    stream: BinaryIO, limit_bytes: int = FRAME_LIMIT_BYTES
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Return the document and the arrays of the next frame, or None at the end of the stream.

    Raises:
        FrameError: The stream ended inside the frame, the frame is too long or malformed.
    """
    prefix = stream.read(_LENGTH.size)
    if not prefix:
        return None
    if len(prefix) < _LENGTH.size:
        raise FrameError(f"expected {_LENGTH.size} bytes of length, got {len(prefix)}")
    (length,) = _LENGTH.unpack(prefix)
    if length > limit_bytes:
        raise FrameError(f"expected a frame of at most {limit_bytes} bytes, got {length}")
    content = stream.read(length)
    if len(content) < length:
        raise FrameError(f"expected a frame of {length} bytes, got {len(content)}")
    try:
        arrays = safetensors.numpy.load(content)
        document = json.loads(arrays.pop(_DOCUMENT).tobytes())
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FrameError(f"expected safetensors with a JSON document, got {error!r}") from error
    return document, arrays
