"""What is told of a run while it goes on: one small interface, several writers as one.

Beside the run log a command line can ask for more of them by name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Self

from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.hyperparameters.arguments import ArgumentError
from hyperoracle_trainers.hyperparameters.settings import TrainerSettings

logger = logging.getLogger("hyperoracle_trainers")


class RunWriter(Protocol):
    """Writes down a run, wherever to.

    It is told of every phase in turn, of the run's summary if the run comes to its end, and is
    closed whatever happens.
    """

    def record(self, phase: Phase) -> None:
        """Write one phase, as soon as it is over."""
        ...

    def end(self, summary: Mapping[str, Any]) -> None:
        """Write the run's summary, after the last phase.

        Args:
            summary: figures by name, such as ``final_return``; those that are not known are None.
        """
        ...

    def close(self) -> None:
        """Complete what was written; nothing comes afterwards."""
        ...


class RunWriters:
    """Several writers as one, none of which can end the run.

    A writer that raises is closed and dropped with one line of warning, and training goes on: what
    it writes is there to be looked at, and the run's own log holds the same. That log
    (`RunLog`) is not to be among them if it is wanted for
    certain: a run that cannot be replayed or resumed should stop.

    Args:
        writers: told in this order; closed by this object.
    """

    def __init__(self, writers: Iterable[RunWriter] = ()) -> None:
        self._writers = list(writers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def add(self, writer: RunWriter) -> None:
        """Tell this writer too, from now on."""
        self._writers.append(writer)

    def record(self, phase: Phase) -> None:
        """Tell every writer of a phase."""
        self._tell_all(lambda writer: writer.record(phase))

    def end(self, summary: Mapping[str, Any]) -> None:
        """Tell every writer the run's summary."""
        self._tell_all(lambda writer: writer.end(summary))

    def close(self) -> None:
        """Close every writer; a second time does nothing."""
        writers, self._writers = self._writers, []
        for writer in writers:
            self._tell(writer, lambda each: each.close())

    def _tell_all(self, message: Callable[[RunWriter], None]) -> None:
        told = [(writer, self._tell(writer, message)) for writer in self._writers]
        self._writers = [writer for writer, well in told if well]
        for writer, well in told:
            if not well:
                _close_quietly(writer)

    def _tell(self, writer: RunWriter, message: Callable[[RunWriter], None]) -> bool:
        try:
            message(writer)
        except Exception as error:  # whatever a writer does wrong, training goes on
            name, kind = type(writer).__name__, type(error).__name__
            reason = " ".join(str(error).split())
            logger.warning("%s: %s: %s; training goes on without it", name, kind, reason)
            return False
        return True


def _close_quietly(writer: RunWriter) -> None:
    try:
        writer.close()
    except Exception as error:  # it has failed before, and that was said
        logger.debug("%s: %s", type(writer).__name__, error)


WRITERS = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "picture": "matplotlib",
}
"""Name of each writer, with the package that it needs."""


def check_writer_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of writers, each of which can be made.

    Raises:
        ArgumentError: an unknown name, one that appears twice, or a package that is missing.
    """
    checked: list[str] = []
    for name in names:
        if name not in WRITERS:
            raise ArgumentError(
                f"--log {name}: expected {' or '.join(WRITERS)}, got {name!r}; choose one of "
                "them, or leave it out: JSON and CSV are always written"
            )
        if name in checked:
            raise ArgumentError(f"--log {name}: expected {name} once, got it twice")
        if find_spec(WRITERS[name]) is None:
            raise ArgumentError(
                f"--log {name}: expected the package {WRITERS[name]}, got none; "
                f"install it with: pip install {WRITERS[name]}"
            )
        checked.append(name)
    return tuple(checked)


def make_writer(name: str, folder: Path, settings: TrainerSettings, env_step: int = 0) -> RunWriter:
    """Return a writer that has begun.

    Args:
        name: one that :func:`check_writer_names` has returned.
        folder: of the run log, which is there already.
        settings: of the run.
        env_step: env steps taken before the first phase, in a run that goes on.

    Raises:
        OSError: its file cannot be written.
        Exception: whatever a tracker's own package raises if it cannot start.
    """
    if name == "tensorboard":
        from hyperoracle_trainers.runs.trackers import TensorBoardWriter

        return TensorBoardWriter(folder, settings, env_step)
    if name == "wandb":
        from hyperoracle_trainers.runs.trackers import start_weights_and_biases

        return start_weights_and_biases(folder, settings, env_step)
    from hyperoracle_trainers.runs.schedule_plot import PictureWriter

    return PictureWriter(folder, settings)
