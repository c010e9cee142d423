"""What people see while a run goes on: env steps, returns, hyperparameters, speed."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.saved_state import State

_LAST_EPISODES = 20
_SHORT = {"learning_rate": "lr", "clip_range": "clip"}  # what must fit into 80 columns


class Tally:
    """Sums up a run while it goes on, so that a run that is cut off has figures too.

    Attributes:
        env_steps: taken so far.
        update_steps: made so far.
        episodes: environment episodes that ended.
        last_episode_env_step: env steps taken when the phase was over in which the last episode
            ended; None before the first.
        source_seconds: wall time spent in the hyperparameter source.
    """

    def __init__(self) -> None:
        self._started = perf_counter()
        self._recent: deque[float] = deque(maxlen=_LAST_EPISODES)
        self._sum_of_returns = 0.0
        self.env_steps = 0
        self.update_steps = 0
        self.episodes = 0
        self.last_episode_env_step: int | None = None
        self.source_seconds = 0.0

    def record(self, phase: Phase) -> None:
        """Add a phase."""
        self.env_steps, self.update_steps = phase.env_step, phase.update_step
        self.source_seconds += phase.source_seconds
        self.add_returns(phase.episode_returns)

    def add_returns(self, episode_returns: Sequence[float]) -> None:
        """Add the returns of episodes that ended."""
        if episode_returns:
            self.last_episode_env_step = self.env_steps
        self.episodes += len(episode_returns)
        self._recent.extend(episode_returns)
        self._sum_of_returns += sum(episode_returns)

    def state(self) -> State:
        """Return all sums, and the wall time so far."""
        return {
            "recent": list(self._recent),
            "sum_of_returns": self._sum_of_returns,
            "env_steps": self.env_steps,
            "update_steps": self.update_steps,
            "episodes": self.episodes,
            "last_episode_env_step": self.last_episode_env_step,
            "source_seconds": self.source_seconds,
            "wall_seconds": self.wall_seconds,
        }

    def restore(self, state: State) -> None:
        """Go on where ``state`` was taken; the time between counts for nothing."""
        self._recent.extend(state["recent"])
        self._sum_of_returns = state["sum_of_returns"]
        self.env_steps = state["env_steps"]
        self.update_steps = state["update_steps"]
        self.episodes = state["episodes"]
        self.last_episode_env_step = state.get("last_episode_env_step")
        self.source_seconds = state["source_seconds"]
        self._started = perf_counter() - state["wall_seconds"]

    @property
    def recent_return(self) -> float | None:
        """Mean return of the last 20 episodes; None before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    @property
    def mean_return(self) -> float | None:
        """Mean return of all episodes; None before the first."""
        return self._sum_of_returns / self.episodes if self.episodes else None

    @property
    def wall_seconds(self) -> float:
        """Wall time since the tally began."""
        return perf_counter() - self._started


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
