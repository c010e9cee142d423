"""Reads a schedule to replay: a run's own `schedule.csv`, or one job of an oracle's export."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from hyperoracle_trainers.hyperparameter_source import RecordedSource, ScheduleError
from hyperoracle_trainers.hyperparameters import HYPERPARAMETERS

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
        raise ScheduleError(
            f"{path.name}: expected --job to be one of {', '.join(found) or 'no job at all'}; "
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
