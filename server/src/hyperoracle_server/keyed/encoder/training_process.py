"""The parent's handle on the child process that trains encoders."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import asdict
from multiprocessing import Pipe
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from hyperoracle_server.keyed.encoder.state import EncoderState, check_arrays
from hyperoracle_server.keyed.encoder.training import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_GRADIENT_UPDATES,
    TrainingReport,
    TrainingSettings,
)
from hyperoracle_server.keyed.encoder.worker import (
    MESSAGE_LIMIT_BYTES,
    MessageError,
    packed,
    unpacked,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

ROUND_TIMEOUT_SECONDS = 300.0
"""Longest round. A round takes seconds of CPU, but a low-priority child may wait for its turn."""

_WORKER_MODULE = "hyperoracle_server.keyed.encoder.worker"
_THREAD_LIMITS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_GRACE_SECONDS = 5.0
_PRINTED_LINES = 20
_PRINTED_LINE_BYTES = 1_000


class EncoderTrainingError(RuntimeError):
    """The child could not finish the round; the encoder stays as it was, the next may succeed."""


class TrainingProcess:
    """Trains encoders in a child process, so that the server neither imports torch nor waits.

    The child starts with the first round, and anew whenever it has died. It keeps no state.
    Threads may share one handle; rounds then queue. The handle is a context manager.

    Args:
        timeout_seconds: A round that takes longer is killed.
        message_limit_bytes: Longest message to or from the child.
    """

    def __init__(
        self,
        timeout_seconds: float = ROUND_TIMEOUT_SECONDS,
        message_limit_bytes: int = MESSAGE_LIMIT_BYTES,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._message_limit_bytes = message_limit_bytes
        self._round_lock = threading.Lock()
        self._child_lock = threading.Lock()  # guards the two below
        self._child: _Child | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """The child's process id, or None where no child was started."""
        child = self._child
        return child.process.pid if child else None

    def train(
        self,
        state: EncoderState,
        samples: Float[np.ndarray, "samples features"],
        seed: int,
        gradient_updates: int = DEFAULT_GRADIENT_UPDATES,
        batch_size: int = DEFAULT_BATCH_SIZE,
        settings: TrainingSettings | None = None,
    ) -> tuple[EncoderState, TrainingReport]:
        """Run one round in the child and wait for it; meant for a background thread.

        Arguments and results are those of `training.train`, to the bit.

        Raises:
            ValueError: What `training.train` refuses, or a round above the limit of a message.
            EncoderTrainingError: The child died or took too long, or the handle is closed.
        """
        request = {
            "architecture": state.architecture.to_json(),
            "seed": seed,
            "gradient_updates": gradient_updates,
            "batch_size": batch_size,
            "settings": asdict(settings or TrainingSettings()),
        }
        with self._round_lock:
            message = packed(request, {**state.arrays, "samples": samples})
            if len(message) > self._message_limit_bytes:
                raise ValueError(
                    f"training round: expected at most {self._message_limit_bytes} bytes, got "
                    f"{len(message)}; train on fewer samples"
                )
            document, arrays = self._exchange(message)
        if "error" in document:
            raise ValueError(document["error"])
        report = TrainingReport(**document["report"])
        if not report.accepted:
            return state, report
        check_arrays(arrays, state.architecture)
        return EncoderState(state.architecture, arrays), report

    def close(self) -> None:
        """End the child, and with it a round in progress; later rounds are refused."""
        with self._child_lock:
            self._closed = True
            if self._child:
                self._child.process.kill()
        with self._round_lock:
            self._discard_child()

    def _exchange(self, message: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        child = self._running_child()
        answer, expired = None, False
        cause: Exception | None = None
        try:
            answer = unpacked(
                child.exchange(message, self._timeout_seconds, self._message_limit_bytes)
            )
        except (TimeoutError, BlockingIOError) as error:
            cause, expired = error, True
            child.process.kill()
        except (OSError, EOFError, MessageError) as error:
            cause = error
        finally:
            if answer is None:
                self._discard_child()
        if answer is None:
            raise EncoderTrainingError(self._failure(child, expired)) from cause
        return answer

    def _failure(self, child: _Child, expired: bool) -> str:
        if self._closed:
            return "encoder training: closed while a round was in progress"
        if expired:
            return (
                f"encoder training: expected a round within {self._timeout_seconds:g} s, "
                f"killed the process; free a core or train on fewer samples"
            )
        return (
            f"encoder training: the process ended with status {child.process.returncode}; "
            f"its last lines: {child.last_lines() or '(none)'}"
        )

    def _running_child(self) -> _Child:
        """Return a live child, started if need be; the caller holds the round lock."""
        if self._child and self._child.process.poll() is not None:
            self._discard_child()
        with self._child_lock:
            if self._closed:
                raise EncoderTrainingError("encoder training: closed; make a new TrainingProcess")
            if self._child is None:
                self._child = _Child()
            return self._child

    def _discard_child(self) -> None:
        """End the child and free what it held; the caller holds the round lock."""
        with self._child_lock:
            child, self._child = self._child, None
        if child:
            child.end()


class _Child:
    """A started worker, the connection to it, and the end of what it printed."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        # -P: the working directory of a user's script must not shadow what the worker imports.
        command = [sys.executable, "-P", "-m", _WORKER_MODULE, str(theirs.fileno())]
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,  # whatever a library prints is told with the errors
                env={**os.environ, **_THREAD_LIMITS},
                pass_fds=[theirs.fileno()],
            )
        except OSError as error:
            self._connection.close()
            raise EncoderTrainingError(
                f"encoder training: expected to start {sys.executable!r}, got {error}"
            ) from error
        finally:
            theirs.close()  # so that the connection ends with the child
        assert self.process.stdout is not None
        self._printed: IO[bytes] = self.process.stdout
        self._lines: deque[bytes] = deque(maxlen=_PRINTED_LINES)
        self._reader = threading.Thread(target=self._read_printed, daemon=True)
        self._reader.start()

    def exchange(self, message: bytes, timeout_seconds: float, limit_bytes: int) -> bytes:
        """Send a round and return its answer.

        Raises:
            TimeoutError, BlockingIOError: The child took too long.
            EOFError, OSError: The child ended without an answer, or the answer is too long.
        """
        deadline = time.monotonic() + timeout_seconds
        self._bound_waits(timeout_seconds)  # a child that hangs takes no message either
        self._connection.send_bytes(message)
        if not self._connection.poll(max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        return self._connection.recv_bytes(limit_bytes)

    def _bound_waits(self, seconds: float) -> None:
        """Let no read or write of the connection wait for longer than this."""
        whole, rest = divmod(max(1e-6, seconds), 1.0)
        timeout = struct.pack("@ll", int(whole), int(rest * 1e6))
        with socket.socket(fileno=os.dup(self._connection.fileno())) as end:
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                end.setsockopt(socket.SOL_SOCKET, option, timeout)

    def last_lines(self) -> str:
        """Return the last lines that it printed as one line; complete after `end`."""
        lines = (line.decode(errors="replace").strip() for line in self._lines)
        return " | ".join(line for line in lines if line)

    def end(self) -> None:
        """End the child by ending the connection, or by force; reap it."""
        self._connection.close()
        try:
            self.process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self._printed.close()

    def _read_printed(self) -> None:
        while line := self._printed.readline(_PRINTED_LINE_BYTES):
            self._lines.append(line)
