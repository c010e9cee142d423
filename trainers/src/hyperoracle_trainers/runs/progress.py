"""What people see while a run goes on: env steps, returns, hyperparameters, speed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

_SHORT = {"learning_rate": "lr", "clip_range": "clip"}  # what must fit into 80 columns


class TrainingRow:
    """One run's row of a progress display.

    Args:
        progress: the display.
        name: of the run.
        total_env_steps: planned.
        shown: names of the hyperparameters to show.
    """

    def __init__(
        self, progress: Progress, name: str, total_env_steps: int, shown: Collection[str]
    ) -> None:
        self._progress = progress
        self._shown = shown
        self._started = perf_counter()
        self._task = progress.add_task(
            name, total=total_env_steps, recent_return="starts", speed="", hyperparameters=""
        )

    def begin(self) -> None:
        """Start the clock that gives the speed anew."""
        self._started = perf_counter()

    def update(
        self,
        env_steps: int,
        recent_return: float | None,
        hyperparameters: Mapping[str, float],
    ) -> None:
        """Show where the run is."""
        seconds = max(perf_counter() - self._started, 1e-9)
        values = [f"{_SHORT.get(name, name)} {hyperparameters[name]:.2g}" for name in self._shown]
        self._progress.update(
            self._task,
            completed=env_steps,
            recent_return="no episode yet"
            if recent_return is None
            else f"return {recent_return:.1f}",
            speed=f"{env_steps / seconds:,.0f}/s",
            hyperparameters=" ".join(values),
        )


class EvaluationRow:
    """The row of an evaluation below that of its run.

    Args:
        progress: the display.
        episodes: that are wanted.
    """

    def __init__(self, progress: Progress, episodes: int) -> None:
        self._progress = progress
        self._episodes = episodes
        self._task: TaskID | None = None

    def update(self, ended: int, env_steps: int) -> None:
        """Show how many episodes have ended, and the env steps so far."""
        if self._task is None:
            self._task = self._progress.add_task(
                "evaluation", total=None, recent_return="", speed="", hyperparameters=""
            )
        shown = f"{ended} of {self._episodes} episodes"
        self._progress.update(self._task, completed=env_steps, recent_return=shown)


@contextmanager
def training_progress() -> Iterator[Progress]:
    """Give a progress display on stderr; it draws nothing where stderr is no terminal."""
    console = Console(stderr=True)
    whole = Column(no_wrap=True)
    with Progress(
        TextColumn("{task.description}", table_column=whole),
        BarColumn(bar_width=8, table_column=whole),
        TextColumn("{task.completed:,.0f} env steps", table_column=whole),
        TimeRemainingColumn(compact=True, table_column=whole),
        TextColumn("{task.fields[recent_return]}", table_column=whole),
        TextColumn("{task.fields[speed]}", table_column=whole),
        TextColumn("{task.fields[hyperparameters]}", table_column=Column(overflow="ellipsis")),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        yield progress
