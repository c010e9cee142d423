"""The child process that trains: `python -m hyperoracle_server.keyed.encoder.worker`.

Reads a round's frame from standard input, trains, writes the answer's frame to standard output,
until the input ends, as it does when the parent dies. Keeps nothing between rounds. An error of
the caller's is answered; any other ends the process, with its traceback on standard error.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.frames import frame_bytes, read_frame
from hyperoracle_server.keyed.encoder.state import EncoderState
from hyperoracle_server.keyed.encoder.training import TrainingSettings, train

if TYPE_CHECKING:
    from numpy.typing import NDArray

NICENESS = 10
"""How far the worker steps back behind the threads that answer proposals."""

_FRAME_LIMIT_BYTES = 2**63  # the parent, which the worker trusts, checks what it sends


def run_rounds(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer every round that comes, until the requests end or nobody reads the answers."""
    while (request := read_frame(requests, _FRAME_LIMIT_BYTES)) is not None:
        answer = _answer(*request)
        try:
            answers.write(answer)
            answers.flush()
        except BrokenPipeError:
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
        return frame_bytes({"error": str(error)}, {})
    report = replace(report, cpu_seconds=time.process_time() - started)
    return frame_bytes({"report": asdict(report)}, trained.arrays if report.accepted else {})


def main() -> None:
    """Run the worker on this process's standard streams."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to handle
    if sys.platform != "win32":
        os.nice(NICENESS)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library prints must not land between the frames.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    run_rounds(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
