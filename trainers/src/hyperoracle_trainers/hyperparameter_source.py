"""Where a trainer's hyperparameters come from: its defaults, a recorded schedule, an oracle."""

from __future__ import annotations

import bisect
import csv
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hyperoracle_trainers.hyperparameters import HYPERPARAMETERS
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
