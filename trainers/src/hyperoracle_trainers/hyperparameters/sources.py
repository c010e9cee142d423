"""Where a trainer's hyperparameters come from: its defaults, a recorded schedule, an oracle.

A recorded schedule is a run's own `schedule.csv`, or one job of an oracle's export.
"""

from __future__ import annotations

import bisect
import csv
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hyperoracle_protocol.names import FEW
from hyperoracle_trainers.hyperparameters.schedulable import HYPERPARAMETERS
from hyperoracle_trainers.saved_state import State


class ScheduleError(ValueError):
    """A recorded schedule cannot be replayed; the message is one line: expected, got, remedy."""


class HyperparameterSource(Protocol):
    """Proposes hyperparameters and learns what became of its proposals.

    A trainer calls, in each phase: :meth:`report` with what the environment phase brought, which
    belongs to the proposals made before it, and then :meth:`propose`, once or before every
    minibatch; at the very end :meth:`finish`.
    """

    @property
    def relative(self) -> Collection[str]:
        """Hyperparameters for which a factor on the trainer's own base value is proposed."""
        ...

    def propose(
        self, *, env_step: int, update_step: int, signals: Mapping[str, float]
    ) -> Mapping[str, float]:
        """Return values (or factors) by hyperparameter; what is left out keeps its base value.

        Args:
            env_step: env steps taken so far.
            update_step: optimiser updates made so far.
            signals: figures that tell how training goes, always the same keys.
        """
        ...

    def applied(self, values: Mapping[str, float]) -> None:
        """Take note that the last proposal could not be used as it is, but so.

        Args:
            values: as proposed, factors of what is relative; of the proposals that differ.
        """
        ...

    def report(
        self, episode_returns: Sequence[float], *, env_step: int, phase_return: float
    ) -> None:
        """Take note of what an environment phase brought.

        Args:
            episode_returns: raw undiscounted returns of the episodes that ended in it.
            env_step: env steps taken so far.
            phase_return: its raw reward sum per environment, discounted by the base gamma.
        """
        ...

    def finish(self, *, failed: bool = False) -> None:
        """Take note that training is over.

        Args:
            failed: whether it ended by an error, such as a loss that is no longer finite.
        """
        ...


class FixedSource:
    """Proposes nothing, so that every hyperparameter keeps its base value."""

    relative: Collection[str] = frozenset()

    def propose(
        self,
        *,
        env_step: int,  # noqa: ARG002 # the protocol's
        update_step: int,  # noqa: ARG002 # the protocol's
        signals: Mapping[str, float],  # noqa: ARG002 # the protocol's
    ) -> Mapping[str, float]:
        """Return an empty mapping."""
        return {}

    def applied(self, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def report(
        self, episode_returns: Sequence[float], *, env_step: int, phase_return: float
    ) -> None:
        """Do nothing."""

    def finish(self, *, failed: bool = False) -> None:
        """Do nothing."""


class RecordedSource(FixedSource):
    """Replays a schedule: at each update step the row of that step or the last one before it.

    With the settings and seed of the recorded run the replay is equal to it bit by bit.

    Args:
        rows: (update_step, values by hyperparameter), in rising order of update_step.

    Raises:
        ScheduleError: the rows are out of order, or a value is not finite.
    """

    def __init__(self, rows: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        rows = list(rows)
        self._update_steps = [update_step for update_step, _ in rows]
        self._values = [values for _, values in rows]
        if self._update_steps != sorted(self._update_steps):
            raise ScheduleError(
                "schedule: expected rows in rising order of update_step, got them out of order; "
                "sort the file by update_step"
            )
        for update_step, values in rows:
            for name, value in values.items():
                if not math.isfinite(value):
                    raise ScheduleError(
                        f"schedule, update step {update_step}: expected a finite {name}, got "
                        f"{value}; correct the line"
                    )

    @property
    def names(self) -> frozenset[str]:
        """The hyperparameters that it has values of."""
        return frozenset(name for values in self._values for name in values)

    def state(self) -> State:
        """Return the whole schedule, so that a checkpoint needs no other file."""
        return {
            "relative": sorted(self.relative),
            "update_steps": self._update_steps,
            "values": [dict(values) for values in self._values],
        }

    @classmethod
    def from_state(cls, state: State) -> RecordedSource:
        """Return the source that ``state`` is of."""
        source = cls(zip(state["update_steps"], state["values"], strict=True))
        source.relative = frozenset(state["relative"])
        return source

    @classmethod
    def from_csv(cls, path: Path) -> RecordedSource:
        """Read a schedule from CSV: update_step, env_step and a column per hyperparameter.

        Raises:
            ScheduleError: a column is missing or unknown, or a cell is no number.
        """
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            unknown = columns - set(HYPERPARAMETERS) - {"update_step", "env_step"}
            if unknown or not {"update_step", "env_step"} <= columns:
                raise ScheduleError(
                    f"{path.name}: expected the columns update_step, env_step and names of "
                    f"hyperparameters, got {', '.join(reader.fieldnames or ['nothing'])}; "
                    "correct the first line"
                )
            return cls([_parsed(row, path.name, reader.line_num) for row in reader])

    def propose(
        self,
        *,
        env_step: int,  # noqa: ARG002 # update steps alone decide
        update_step: int,
        signals: Mapping[str, float],  # noqa: ARG002 # the recording knows
    ) -> Mapping[str, float]:
        """Return the recorded values; before the first row nothing is proposed."""
        row = bisect.bisect_right(self._update_steps, update_step) - 1
        return self._values[row] if row >= 0 else {}


def _parsed(
    row: Mapping[str, str | None], file_name: str, line: int
) -> tuple[int, dict[str, float]]:
    """Return one CSV row; an empty cell leaves the hyperparameter at its base value."""
    try:
        update_step = int(row["update_step"] or "")
        values = {
            name: float(cell) for name, cell in row.items() if name in HYPERPARAMETERS and cell
        }
    except ValueError as error:
        raise ScheduleError(
            f"{file_name}, line {line}: expected numbers, got {error}; correct the line"
        ) from None
    return update_step, values


_OF_EXPORT = ("job_id", "update_step", "env_step", "applied")


class ExportedSource(RecordedSource):
    """Replays what an oracle's export says of one job: factors stay factors.

    Args:
        rows: (update_step, values or factors by hyperparameter), in rising order of update_step.
        relative: hyperparameters whose exported value is a factor on the base value.
    """

    def __init__(
        self, rows: list[tuple[int, Mapping[str, float]]], relative: Collection[str]
    ) -> None:
        super().__init__(rows)
        self.relative = frozenset(relative)


def read_schedule(path: Path, *, job: str | None, relative: Collection[str]) -> RecordedSource:
    """Return a source that replays a schedule.

    Args:
        path: a CSV file, either ``schedule.csv`` of a run, which holds values and replays bit by
            bit, or what ``hyperoracle export`` writes, which holds the applied decisions of a
            study's jobs, factors where the study's space is relative.
        job: which job of an export; needed only if it holds several.
        relative: of an export, the hyperparameters whose value is a factor.

    Raises:
        ScheduleError: the file cannot be read, or is no schedule.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns = csv.DictReader(file).fieldnames or ()
            if "job_id" not in columns:
                _check_job_is_not_named(path, job)
                return RecordedSource.from_csv(path)
            file.seek(0)
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScheduleError(
            f"{path}: expected a schedule as CSV, got a file that cannot be read ({reason}); "
            "correct the path"
        ) from None
    missing = set(_OF_EXPORT) - set(columns)
    if missing:
        raise ScheduleError(
            f"{path.name}: expected the columns {', '.join(_OF_EXPORT)}, got none called "
            f"{', '.join(sorted(missing))}; export the schedule anew"
        )
    chosen = _chosen_job(path, job, [row["job_id"] for row in rows])
    names = [name for name in columns if name in HYPERPARAMETERS]
    return ExportedSource(
        list(_decisions(path, [row for row in rows if row["job_id"] == chosen], names)), relative
    )


def _check_job_is_not_named(path: Path, job: str | None) -> None:
    if job is not None:
        raise ScheduleError(
            f"{path.name}: expected an oracle's export to pick job {job} from, got the schedule "
            "of a single run; leave --job out"
        )


def _chosen_job(path: Path, job: str | None, jobs: list[str]) -> str:
    found = list(dict.fromkeys(jobs))
    if job is None and len(found) == 1:
        return found[0]
    if job is None or job not in found:
        listed = ", ".join(found[:FEW])
        more = "" if len(found) <= FEW else f" and {len(found) - FEW} more"
        raise ScheduleError(
            f"{path.name}: expected --job to be one of {listed or 'no job at all'}{more}; "
            f"got {job or 'none'}"
        )
    return job


def _decisions(
    path: Path, rows: list[dict[str, str]], names: list[str]
) -> Iterator[tuple[int, dict[str, float]]]:
    for row in rows:
        used = names if row["applied"].lower() == "true" else ()  # else the job used its defaults
        try:
            yield int(row["update_step"]), {name: float(row[name]) for name in used if row[name]}
        except ValueError as error:
            raise ScheduleError(
                f"{path.name}, update step {row['update_step']}: expected numbers, got {error}; "
                "correct the line"
            ) from None
