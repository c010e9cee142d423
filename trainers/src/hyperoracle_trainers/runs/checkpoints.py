"""Checkpoints: files from which a run goes on, or its policy acts.

A run's checkpoints lie in the folder ``checkpoints`` of its run folder. Only the newest is kept; it
is complete at any moment, whatever happens to the process or the machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from hyperoracle_trainers.algorithms.trainer import Trainer
from hyperoracle_trainers.hyperparameters.settings import (
    AnySettings,
    SettingsError,
    settings_from_json,
)
from hyperoracle_trainers.runs.log import package_versions
from hyperoracle_trainers.saved_state import DamagedFileError, State, read_state, write_state

FORMAT = 1
"""Number of the format; a file of another one is refused."""

SUFFIX = ".checkpoint"

_PER_RUN = 10
_SECONDS = 600.0


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message is one line: expected, got, remedy."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        path: of the file.
        algorithm: ``"ppo"``, ``"a2c"`` or ``"acktr"``.
        settings: of the trainer.
        trainer: the trainer's state.
        run: what the program around the trainer added.
        packages: versions of the packages that it was written with, by name.
    """

    path: Path
    algorithm: str
    settings: AnySettings
    trainer: State
    run: State
    packages: Mapping[str, str]


def save_checkpoint(path: Path, trainer: Trainer[Any], run: State | None = None) -> None:
    """Write a checkpoint, so that at any moment the former file or the new one is there.

    Args:
        path: of the file; missing folders are made.
        trainer: between two phases.
        run: what else is needed to go on.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_state(
        path,
        {
            "format": FORMAT,
            "algorithm": type(trainer).__name__.lower(),
            "settings": dataclasses.asdict(trainer.settings),
            "packages": package_versions(),
            "trainer": trainer.state(),
            "run": run or {},
        },
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file, or the newest one of a run folder.

    Raises:
        CheckpointError: there is none, it is damaged, or of another version.
        SettingsError: its settings have no meaning here, such as an unknown environment.
    """
    file = _newest(path) if path.is_dir() else path
    try:
        content = read_state(file)
    except OSError as error:
        raise CheckpointError(
            f"{file}: expected a checkpoint, got a file that cannot be read "
            f"({error.strerror or error}); correct the path"
        ) from None
    except DamagedFileError as error:
        raise CheckpointError(
            f"{file}: expected a whole checkpoint, got a damaged file ({error}); take another"
        ) from None
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{file}: expected a checkpoint of format {FORMAT}, got format "
            f"{content.get('format')}; use the version of HyperOracle that wrote it"
        )
    try:
        return Checkpoint(
            path=file,
            algorithm=content["algorithm"],
            settings=settings_from_json(content["algorithm"], content["settings"]),
            trainer=content["trainer"],
            run=content["run"],
            packages=content["packages"],
        )
    except SettingsError:
        raise
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file}: expected a checkpoint of this version of HyperOracle, got another "
            f"({error}); use the version that wrote it"
        ) from None


def restore_trainer(trainer: Trainer[Any], checkpoint: Checkpoint) -> list[int]:
    """Let a fresh trainer go on where the checkpoint's was.

    Args:
        trainer: not trained yet, with the checkpoint's settings; only ``total_env_steps`` may be
            greater.
        checkpoint: as loaded; it is used up.

    Returns:
        See :meth:`~hyperoracle_trainers.algorithms.trainer.Trainer.restore`.

    Raises:
        CheckpointError: another algorithm or other settings.
    """
    algorithm = type(trainer).__name__.lower()
    if algorithm != checkpoint.algorithm:
        raise CheckpointError(
            f"{checkpoint.path}: expected a checkpoint of {algorithm}, got one of "
            f"{checkpoint.algorithm}; make the trainer from the checkpoint's settings"
        )
    theirs = dataclasses.asdict(checkpoint.settings)
    for name, value in dataclasses.asdict(trainer.settings).items():
        if value != theirs[name] and name != "total_env_steps":
            raise CheckpointError(
                f"{checkpoint.path}: expected a checkpoint with {name} = {value}, got "
                f"{theirs[name]}; make the trainer from the checkpoint's settings"
            )
    return trainer.restore(checkpoint.trainer)


def checkpoints_in(run_folder: Path) -> list[Path]:
    """Return the files of a run's checkpoints, the oldest first."""
    return sorted((run_folder / "checkpoints").glob(f"*{SUFFIX}"))


def _newest(run_folder: Path) -> Path:
    files = checkpoints_in(run_folder)
    if not files:
        raise CheckpointError(
            f"{run_folder}: expected a run folder with checkpoints, got one without any; "
            "correct the path"
        )
    return files[-1]


class CheckpointKeeper:
    """Decides when a run's checkpoints are due, writes them, and removes older ones.

    Args:
        run_folder: of the run.
        total_env_steps: planned length of the run.
        every: env steps after which a checkpoint is due; None: a tenth of the run or ten minutes,
            whichever comes first; 0: there are none.
        env_step: env steps taken so far.
    """

    def __init__(
        self, run_folder: Path, total_env_steps: int, every: int | None, env_step: int = 0
    ) -> None:
        self._run_folder = run_folder
        self._total_env_steps = total_env_steps
        self.keeps_any = every != 0
        self._every = max(1, total_env_steps // _PER_RUN) if every is None else every
        self._seconds = _SECONDS if every is None else float("inf")
        self._last = env_step
        self._last_moment = monotonic()

    def is_due(self, env_step: int) -> bool:
        """Whether to save now: it is time, or the run is over."""
        if not self.keeps_any:
            return False
        return (
            env_step // self._every > self._last // self._every
            or env_step >= self._total_env_steps
            or monotonic() - self._last_moment >= self._seconds
        )

    def save(self, trainer: Trainer[Any], run: State) -> Path:
        """Write a checkpoint of the trainer's place and remove the run's others.

        Raises:
            OSError: the file cannot be written.
        """
        env_step = trainer.place.env_step
        path = self._run_folder / "checkpoints" / f"env-step-{env_step:012d}{SUFFIX}"
        save_checkpoint(path, trainer, run)
        for other in path.parent.glob(f"*{SUFFIX}*"):  # half written ones of a killed run too
            if other != path:
                other.unlink()
        self._last, self._last_moment = env_step, monotonic()
        return path
