"""The writers that a command line can ask for beside the run log."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from hyperoracle_trainers.command_arguments import ArgumentError
from hyperoracle_trainers.run_writers import RunWriter
from hyperoracle_trainers.settings import TrainerSettings

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
        from hyperoracle_trainers.tensorboard_writer import TensorBoardWriter

        return TensorBoardWriter(folder, settings, env_step)
    if name == "wandb":
        from hyperoracle_trainers.tracker_writer import start_weights_and_biases

        return start_weights_and_biases(folder, settings, env_step)
    from hyperoracle_trainers.picture_writer import PictureWriter

    return PictureWriter(folder, settings)
