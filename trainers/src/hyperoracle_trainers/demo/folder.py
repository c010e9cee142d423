"""What a demo's oracle and jobs did, as figures, and the folder that it leaves behind.

What an earlier demo left there is moved aside.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from hyperoracle_client.api import OracleApi
from hyperoracle_trainers.hyperparameters.settings import PPOSettings


@dataclass(frozen=True)
class JobLog:
    """A job of the demo.

    Attributes:
        name: for people.
        folder: of its run log.
    """

    name: str
    folder: Path

    def figures(self) -> dict[str, Any]:
        """Return what the finished run came to, the last line of its log."""
        last = (self.folder / "run.jsonl").read_text("utf-8").splitlines()[-1]
        figures: dict[str, Any] = json.loads(last)
        assert figures.pop("event") == "end", "jobs that did not complete never come here"
        return figures


@dataclass(frozen=True)
class OracleRecord:
    """What the oracle says of a study.

    Attributes:
        study: its counts, as JSON.
        schedule_csv: what it told each job.
        explored: (job_id, update_step) of the decisions that chance made.
    """

    study: dict[str, Any]
    schedule_csv: str
    explored: frozenset[tuple[str, int]]

    def explored_update_steps(self, job_id: str | None) -> set[int]:
        """Return the update steps at which chance decided for a job."""
        return {update_step for job, update_step in self.explored if job == job_id}


def ask_oracle(url: str, study: str) -> OracleRecord:
    """Ask an oracle over HTTP what it did.

    Raises:
        OracleError: it does not answer, or knows no such study.
    """
    with OracleApi(url) as api:
        rows = api.schedule(study).rows
        return OracleRecord(
            study=api.study(study).model_dump(mode="json"),
            schedule_csv=api.schedule_csv(study),
            explored=frozenset((row.job_id, row.update_step) for row in rows if row.explored),
        )


def demo_figures(
    settings: PPOSettings,
    folder: Path,
    record: OracleRecord,
    jobs: Sequence[JobLog],
    alone: Sequence[JobLog],
) -> dict[str, Any]:
    """Return all figures of a demo, JSON-able.

    Args:
        settings: of the first job.
        folder: of the demo.
        record: what the oracle says.
        jobs: those that asked it.
        alone: the same seeds without an oracle; may be empty.
    """
    with_oracle = [job.figures() for job in jobs]
    without = [job.figures() for job in alone]
    return {
        "env_id": settings.env_id,
        "total_env_steps": settings.total_env_steps,
        "oracle": _oracle_figures(record.study, with_oracle),
        "jobs": with_oracle,
        "without_oracle": without or None,
        "comparison": _comparison(with_oracle, without) if without else None,
        "folder": str(folder),
    }


def _oracle_figures(study: dict[str, Any], jobs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    stats = [job["oracle"]["stats"] for job in jobs]
    kept = ("proposals", "reports", "credited_proposals", "memory_size", "memory_capacity",
            "encoder_versions", "neighbours_from_other_jobs")  # fmt: skip
    return {
        "study": study["name"],
        "strategy": study["definition"]["strategy"]["name"],
        **{name: study[name] for name in kept},
        "encoder_version": max(study["encoder_versions"].values(), default=0),
        "fallbacks": sum(each["fallbacks"] for each in stats),
        "late_answers": sum(each["late"] for each in stats),
        "held_updates": sum(each["held"] for each in stats),
        "overhead_percent": [job["oracle"]["overhead_percent"] for job in jobs],
    }


def _comparison(
    with_oracle: Sequence[dict[str, Any]], without: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    def means(runs: Sequence[dict[str, Any]]) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for name in ("final_return", "mean_return", "evaluation_return", "wall_seconds"):
            values = [run[name] for run in runs]
            found[name] = None if None in values else fmean(values)
        return found

    return {"with_oracle": means(with_oracle), "without_oracle": means(without)}


FIGURES = "demo.json"
PLOT = "schedule.png"
SCHEDULE = "schedule.csv"
STORE = "oracle.db"
READY = "server.json"
SERVER_OUTPUT = "server.log"
SPOOL = "spool"
_EARLIER = "earlier-demos"
_MADE_HERE = (FIGURES, PLOT, SCHEDULE, f"{STORE}*", READY, SERVER_OUTPUT, SPOOL, "job-*", "alone-*")


class FolderInUse(Exception):
    """The folder cannot be used; the message is one line with the remedy."""


def prepare(folder: Path) -> Path | None:
    """Make the folder; move what an earlier demo left there into a folder inside it.

    Nothing is deleted, and files that the demo does not make stay where they are.

    Args:
        folder: may exist.

    Returns:
        Where the earlier demo is now; None if there was none.

    Raises:
        FolderInUse: a server still has the earlier demo's store open.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted({path for pattern in _MADE_HERE for path in folder.glob(pattern)})
    if not found:
        return None
    _check_nobody_has_open(folder / STORE)
    aside = _unused(folder / _EARLIER / time.strftime("%Y%m%d-%H%M%S"))
    aside.mkdir(parents=True)
    for path in found:
        path.rename(aside / path.name)
    return aside


def _unused(path: Path) -> Path:
    """Return ``path``, with a number if it exists."""
    candidate, count = path, 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.name}-{count}")
    return candidate


def _check_nobody_has_open(store: Path) -> None:
    """Try the lock that a server holds beside its store."""
    lock = store.with_name(f"{store.name}.lock")
    if not lock.exists():
        return
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = file.read().strip() or "unknown"
            raise FolderInUse(
                f"expected that nobody uses {store}, got process {owner}, which has it open; stop "
                "it or choose another --folder"
            ) from None
