"""The log of a run: JSON lines for programs, CSV for spreadsheets, the schedule for replays.

It is read here too, also while it is being written.
"""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import json
import logging
import os
import platform
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Self, TextIO

from hyperoracle_trainers.algorithms.decisions import BaseSchedule
from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.hyperparameters.schedulable import HYPERPARAMETERS
from hyperoracle_trainers.hyperparameters.settings import TrainerSettings, settings_from_json

logger = logging.getLogger("hyperoracle_trainers")

_PACKAGES = ("hyperoracle-trainers", "torch", "numpy", "gymnasium", "mujoco")
_FILES = ("run.jsonl", "phases.csv", "schedule.csv")


class RunLogError(ValueError):
    """A run's log cannot be continued; the message is one line: expected, got, remedy."""


class RunLog:
    """Writes what happens in a run to three files of one folder.

    - ``run.jsonl``: one ``start`` (settings, command, versions), one ``phase`` for each phase, one
      ``end`` (the summary). A run that was cut off has no ``end``; where it was taken up again,
      there is a ``resume`` (command, versions).
    - ``phases.csv``: a line per phase, with the mean return of the episodes that ended in it.
    - ``schedule.csv``: a line per decision, which
      :meth:`~hyperoracle_trainers.hyperparameters.sources.RecordedSource.from_csv` replays exactly.

    Use it as a context manager, so that the files are complete whatever happens.

    Args:
        folder: made if it is missing; files of an earlier run in it are replaced.
        settings: of the run.
        resume_at: an earlier :meth:`position` of the same run: what was written after it is cut
            off, and the files go on from there.

    Raises:
        RunLogError: a file is shorter than ``resume_at`` says, or missing; or another process is
            writing the folder's log.
    """

    def __init__(
        self, folder: Path, settings: TrainerSettings, resume_at: Mapping[str, int] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._names = settings.schedulable()
        with ExitStack() as stack:
            stack.enter_context(_kept_from_others(folder))
            if resume_at is not None:
                _cut(folder, resume_at)
            mode: Literal["w", "a"] = "w" if resume_at is None else "a"
            self._by_name = {
                name: stack.enter_context(_opened(folder / name, mode)) for name in _FILES
            }
            self._files = stack.pop_all()
        self._lines, self._phases_file, schedule = self._by_name.values()
        self._schedule = csv.writer(schedule)
        self._phases: csv.DictWriter[str] | None = None
        if resume_at is None:
            self._schedule.writerow(["update_step", "env_step", *self._names])
            self._write_line("start", _description(settings))
        else:
            self._write_line("resume", _circumstances())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def record(self, phase: Phase) -> None:
        """Write one phase to all three files."""
        line = {field.name: getattr(phase, field.name) for field in dataclasses.fields(phase)}
        del line["decisions"]  # they are the lines of the schedule
        self._write_line("phase", line)
        row = _row(phase)
        if self._phases is None:
            self._phases = csv.DictWriter(self._phases_file, row)
            if self._phases_file.tell() == 0:
                self._phases.writeheader()
        self._phases.writerow(row)
        for decision in phase.decisions:
            values = [str(decision.values[name]) for name in self._names]
            self._schedule.writerow([decision.update_step, decision.env_step, *values])

    def position(self) -> dict[str, int]:
        """Return the files' sizes in bytes by name, once all that was written is on the disk."""
        for file in self._by_name.values():
            file.flush()
            os.fsync(file.fileno())
        return {name: os.fstat(file.fileno()).st_size for name, file in self._by_name.items()}

    def end(self, summary: Mapping[str, Any]) -> None:
        """Write the run's summary."""
        self._write_line("end", summary)

    def close(self) -> None:
        """Complete the files."""
        self._files.close()

    def _write_line(self, event: str, content: Mapping[str, Any]) -> None:
        self._lines.write(json.dumps({"event": event, **content}) + "\n")


@contextmanager
def _kept_from_others(folder: Path) -> Iterator[None]:
    """Hold a lock that the operating system gives back, whatever becomes of the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunLogError(
                f"{folder}: expected a run that no process is at, got one that another process "
                "is writing; wait for its end, or choose another folder"
            ) from None
        except OSError:  # some network file systems know no locks
            logger.debug("%s: no lock here", folder)
        yield
    finally:
        os.close(descriptor)


def _opened(path: Path, mode: Literal["w", "a"]) -> TextIO:
    # By the line, so that a run can be watched and leaves all it did if it is killed.
    return path.open(mode, buffering=1, newline="", encoding="utf-8")


def _cut(folder: Path, sizes: Mapping[str, int]) -> None:
    """Cut the files of a log to ``sizes``, or none of them."""
    for name in _FILES:
        path = folder / name
        found = path.stat().st_size if path.exists() else 0
        if found < sizes[name]:
            raise RunLogError(
                f"{path}: expected the run's log, at least {sizes[name]} bytes, got {found}; "
                "put the original file back"
            )
    for name in _FILES:
        os.truncate(folder / name, sizes[name])


def _description(settings: TrainerSettings) -> dict[str, Any]:
    return {
        "algorithm": type(settings).__name__.removesuffix("Settings").lower(),
        "settings": dataclasses.asdict(settings),
        **_circumstances(),
    }


def _circumstances() -> dict[str, Any]:
    return {
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a run's numbers depend on, by name."""
    return {name: version(name) for name in _PACKAGES}


def _row(phase: Phase) -> dict[str, Any]:
    returns = phase.episode_returns
    return {
        "index": phase.index,
        "env_step": phase.env_step,
        "update_step": phase.update_step,
        "episodes": len(returns),
        "mean_episode_return": sum(returns) / len(returns) if returns else "",
        "phase_return": phase.phase_return,
        **phase.hyperparameters,
        **phase.metrics,
        "collect_seconds": phase.collect_seconds,
        "update_seconds": phase.update_seconds,
        "source_seconds": phase.source_seconds,
    }


class GrowingLog:
    """Gives the lines of a JSON lines file that are new since it was last asked.

    Args:
        path: the file; it may not exist yet, and its last line may be incomplete.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[dict[str, Any]]:
        """Return the complete lines that were written since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        return [json.loads(line) for line in complete.splitlines()]


@dataclass(frozen=True)
class PlacedDecision:
    """A choice of hyperparameters, placed in time.

    Attributes:
        env_step: from which on it acts; the decisions of one update phase are spread evenly over
            the environment phase that follows it.
        phase: index of its update phase.
        values: value of every hyperparameter.
        explored: whether chance chose.
    """

    env_step: float
    phase: int
    values: dict[str, float]
    explored: bool


@dataclass(frozen=True)
class RunHistory:
    """What a run's log says.

    Attributes:
        name: of the run, for people.
        episode_env_steps: when each episode ended; the episodes of one phase are spread evenly
            over it.
        episode_returns: raw undiscounted return of each.
        decisions: every choice of hyperparameters.
        end_env_step: until when the last decision would act.
        total_env_steps: planned length of the run.
        base: the values that hyperparameters have where nobody interferes.
    """

    name: str
    episode_env_steps: Sequence[float]
    episode_returns: Sequence[float]
    decisions: Sequence[PlacedDecision]
    end_env_step: float
    total_env_steps: int
    base: BaseSchedule


def read_history(folder: Path, name: str, explored: Collection[int] = ()) -> RunHistory:
    """Read a run's log.

    Args:
        folder: of the run log.
        name: of the run, for people.
        explored: update steps at which chance chose; only an oracle knows them.

    Raises:
        FileNotFoundError: there is no log in the folder.
    """
    with (folder / "run.jsonl").open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.endswith("\n")]
    settings = settings_from_json(lines[0]["algorithm"], lines[0]["settings"])
    phases = [line for line in lines if line["event"] == "phase"]
    ends = [phase["env_step"] for phase in phases]
    episodes = list(_placed_episodes(phases))
    # As if one more phase followed, as long as the last one.
    stops = [*ends[1:], 2 * ends[-1] - (ends[-2] if len(ends) > 1 else 0)] if ends else []
    with (folder / "schedule.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return RunHistory(
        name=name,
        episode_env_steps=[env_step for env_step, _ in episodes],
        episode_returns=[episode_return for _, episode_return in episodes],
        decisions=list(_placed_decisions(rows, stops, set(explored))),
        end_env_step=stops[-1] if stops else 0,
        total_env_steps=settings.total_env_steps,
        base=BaseSchedule.of(settings),
    )


def _placed_episodes(phases: Sequence[dict[str, Any]]) -> Iterator[tuple[float, float]]:
    start = 0
    for phase in phases:
        returns = phase["episode_returns"]
        width = (phase["env_step"] - start) / max(len(returns), 1)
        for index, episode_return in enumerate(returns):
            yield start + (index + 1) * width, episode_return
        start = phase["env_step"]


def _placed_decisions(
    rows: Sequence[dict[str, str]], stops: Sequence[float], explored: Collection[int]
) -> Iterator[PlacedDecision]:
    """Place each row between its own env step and the one at which it stops to act."""
    by_phase = groupby(rows, key=lambda row: int(row["env_step"]))
    for index, ((start, group), stop) in enumerate(zip(by_phase, stops, strict=False)):
        decisions = list(group)
        for position, row in enumerate(decisions):
            yield PlacedDecision(
                env_step=start + (stop - start) * position / len(decisions),
                phase=index,
                values={name: float(row[name]) for name in row if name in HYPERPARAMETERS},
                explored=int(row["update_step"]) in explored,
            )
