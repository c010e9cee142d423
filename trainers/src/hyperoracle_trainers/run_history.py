"""Reads the log of a run, also while it is being written."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from hyperoracle_trainers.apply_hyperparameters import BaseSchedule
from hyperoracle_trainers.command_arguments import settings_from_json
from hyperoracle_trainers.hyperparameters import HYPERPARAMETERS


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
