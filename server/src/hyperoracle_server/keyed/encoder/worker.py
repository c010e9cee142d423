"""The child process that trains: `python -m hyperoracle_server.keyed.encoder.worker DESCRIPTOR`.

Takes rounds from the `multiprocessing` connection that it inherits by that descriptor, trains and
answers, until the connection ends, as it does when the parent dies. Keeps nothing between rounds.
An error of the caller's is answered; any other ends the process, with its traceback on standard
error.

A message is safetensors: named arrays, and a JSON document as the array `document`, in UTF-8.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.state import EncoderState
from hyperoracle_server.keyed.encoder.training import TrainingSettings, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

MESSAGE_LIMIT_BYTES = 512 * 2**20
"""Longest message: 2,048 hyper-states of 65,536 features and the encoder's state fit."""

NICENESS = 10
"""How far the worker steps back behind the threads that answer proposals."""

_DOCUMENT = "document"


class MessageError(Exception):
    """The connection carried something that is no message."""


def packed(document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A message's bytes.

    Args:
        document: What JSON can say.
        arrays: By name; not `document`.
    """
    text = np.frombuffer(json.dumps(document).encode(), np.uint8)
    return safetensors.numpy.save({**arrays, _DOCUMENT: text})


def unpacked(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The document and the arrays of a message.

    Raises:
        MessageError: These bytes are none.
    """
    try:
        arrays = safetensors.numpy.load(content)
        document = json.loads(arrays.pop(_DOCUMENT).tobytes())
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise MessageError(f"expected safetensors with a JSON document, got {error!r}") from error
    return document, arrays


def run_rounds(parent: Connection) -> None:
    """Answer every round that comes, until the parent is gone."""
    while True:
        try:
            request = parent.recv_bytes()  # of any length: the parent checks what it sends
        except EOFError:
            return
        answer = _answer(*unpacked(request))
        try:
            parent.send_bytes(answer)
        except (BrokenPipeError, ConnectionResetError):
            return


def _answer(document: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> bytes:
    started = time.process_time()
    samples = arrays.pop("samples")
    state = EncoderState(Architecture.from_json(document["architecture"]), arrays)
    try:
        trained, report = train(
            state,
            samples,
            document["seed"],
            document["gradient_updates"],
            document["batch_size"],
            TrainingSettings(**document["settings"]),
        )
    except ValueError as error:
        return packed({"error": str(error)}, {})
    report = replace(report, cpu_seconds=time.process_time() - started)
    return packed({"report": asdict(report)}, trained.arrays if report.accepted else {})


def main() -> None:
    """Run the worker on the connection that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to handle
    if sys.platform != "win32":
        os.nice(NICENESS)
    with Connection(int(sys.argv[1])) as parent:
        run_rounds(parent)


if __name__ == "__main__":
    main()
