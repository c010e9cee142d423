"""Trainers beside each other on the same environments and seeds: runs, table, picture.

A comparison says what is compared and how one run is made; everything else that such a benchmark
needs is here: runs that can be resumed, all in one file, the curve and its area, intervals.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from hyperoracle_trainers.experiments.packed import packed_names, read_packed, write_packed
from hyperoracle_trainers.hyperparameters.settings import AnySettings
from hyperoracle_trainers.runs.run import make_trainer

Episodes = list[tuple[int, float]]
"""(env steps taken, raw return) of every finished episode."""
Tick = Callable[[int], None]
"""Told how many env steps have been taken."""
Train = Callable[[str, int, Tick], Episodes]
"""Makes one run, given the environment and the seed."""
Run = dict[str, Any]
"""What is kept of a run."""

_WINDOW = 10_000  # env steps that a point of the curve looks back on
_COLUMNS_EXPLAINED = (
    "Final return: raw return of training episodes (with exploration noise), interquartile mean "
    "over the last 10 % of each run's episodes; mean ± standard deviation, least and greatest over "
    "seeds. Area: mean return over the whole run, mean over seeds ± standard deviation, and the "
    "95 % interval of that mean by Student's t (of a difference: Welch's). Steps/s: env steps per "
    "second of wall time and of CPU time, one core that other processes may have shared, median "
    "over seeds."
)
# Two-sided 95 % quantiles of Student's t, by degrees of freedom.
_T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def episodes_of(settings: AnySettings, tick: Tick) -> Episodes:
    """Train with these settings to the end and return every finished episode."""
    episodes: Episodes = []
    for phase in make_trainer(settings).train():
        episodes += [(phase.env_step, each) for each in phase.episode_returns]
        tick(phase.env_step)
    return episodes


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        script: name of the benchmark's file; the results' folder is called as it is.
        title: of the results' page.
        explanation: one paragraph for that page.
        environments: their ids.
        seeds: the seeds unless others are asked for.
        total_env_steps: of each run.
        trainers: by name, in the order of the table.
        packages: whose versions are kept.
    """

    script: str
    title: str
    explanation: str
    environments: Sequence[str]
    seeds: Sequence[int]
    total_env_steps: int
    trainers: Mapping[str, Train]
    packages: Sequence[str]

    @property
    def results(self) -> Path:
        """The folder of the results."""
        return Path(__file__).parent / "results" / self.script.removesuffix(".py")

    def main(self) -> None:
        """Run a sub-command."""
        parser = argparse.ArgumentParser(description=self.title)
        commands = parser.add_subparsers(dest="command", required=True)
        runner = commands.add_parser("run", help="make the runs that are missing")
        runner.add_argument(
            "--env", action="append", choices=self.environments, help="default: all"
        )
        runner.add_argument("--seed", action="append", type=int, help=f"default: {self.seeds}")
        runner.add_argument(
            "--trainer", action="append", choices=list(self.trainers), help="default: all"
        )
        commands.add_parser("report", help="write README.md and curves.png beside the results")
        arguments = parser.parse_args()
        if arguments.command == "run":
            self.run(
                arguments.env or self.environments,
                arguments.seed or self.seeds,
                arguments.trainer or list(self.trainers),
            )
        else:
            self.report()

    def run(self, env_ids: Sequence[str], seeds: Sequence[int], trainers: Sequence[str]) -> None:
        """Make every run that is not there yet, the trainers in turn."""
        self.results.mkdir(parents=True, exist_ok=True)
        console = Console()
        for seed in seeds:
            for env_id in env_ids:
                for trainer in trainers:
                    name = f"{trainer}-{env_id.replace('/', '-')}-seed{seed}"
                    if read_packed(self.results, name) is None:
                        self._run_one(trainer, env_id, seed, name, console)

    def _run_one(self, trainer: str, env_id: str, seed: int, name: str, console: Console) -> None:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(f"{trainer} {env_id} seed {seed}", total=self.total_env_steps)
            wall, cpu = time.perf_counter(), time.process_time()
            episodes = self.trainers[trainer](
                env_id, seed, lambda env_step: progress.update(task, completed=env_step)
            )
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        record = {
            "trainer": trainer,
            "env_id": env_id,
            "seed": seed,
            "total_env_steps": self.total_env_steps,
            "wall_seconds": round(wall, 2),
            "cpu_seconds": round(cpu, 2),
            "command": f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} python "
            f"benchmarks/{self.script} run --env {env_id} --seed {seed} --trainer {trainer}",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}",
            "packages": {name: version(name) for name in self.packages},
            "episodes": [(env_step, round(each, 3)) for env_step, each in episodes],
        }
        write_packed(self.results, {**self._runs(), name: record})
        console.print(
            f"{trainer:18} {env_id:15} seed {seed}: {_shown(_final(episodes)):>8} final return, "
            f"{_shown(self._area(episodes)):>8} area, {self.total_env_steps / wall:6.0f} steps/s"
        )

    def report(self) -> None:
        """Write the table and the picture of all runs that are there."""
        by_name = self._runs()
        runs = [by_name[name] for name in sorted(by_name)]
        if not runs:
            sys.exit(
                f"no runs in {self.results}; make them with: python benchmarks/{self.script} run"
            )
        table = self._table(runs)
        (self.results / "README.md").write_text(table, encoding="utf-8")
        self._picture(runs, self.results / "curves.png")
        Console().print(table, markup=False)

    def _runs(self) -> dict[str, Run]:
        """The runs that are there, by name."""
        found = {name: read_packed(self.results, name) for name in packed_names(self.results)}
        return {name: run for name, run in found.items() if run is not None}

    def _of(self, runs: list[Run], env_id: str, trainer: str) -> list[Run]:
        return [run for run in runs if (run["env_id"], run["trainer"]) == (env_id, trainer)]

    def _table(self, runs: list[Run]) -> str:
        explanation = (
            f"{self.total_env_steps:,} env steps. {self.explanation} Made by `python "
            f"benchmarks/{self.script} run` and `report`; its docstring says more."
        )
        columns = (
            "environment",
            "trainer",
            "seeds",
            "final return",
            "least … greatest",
            "area",
            "95 % interval",
            "steps/s",
            "steps/CPU s",
        )
        rows = [
            self._row(env_id, trainer, mine)
            for env_id in self.environments
            for trainer in self.trainers
            if (mine := self._of(runs, env_id, trainer))
        ]
        differences = [
            row for env_id in self.environments for row in self._differences(runs, env_id)
        ]
        lines = [f"# {self.title}", "", explanation, "", _COLUMNS_EXPLAINED, ""]
        lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows, ""]
        lines += ["| environment | area | difference | 95 % interval |", "|---|---|---|---|"]
        lines += differences
        packages = ", ".join(f"{name} {version}" for name, version in runs[0]["packages"].items())
        return "\n".join([*lines, "", f"{runs[0]['machine']}; {packages}.", ""])

    def _row(self, env_id: str, trainer: str, runs: list[Run]) -> str:
        finals = np.array([_final(run["episodes"]) for run in runs])
        areas = np.array([self._area(run["episodes"]) for run in runs])
        half = _t_95(len(areas) - 1) * _deviation(areas) / math.sqrt(len(areas))
        wall = np.median([run["total_env_steps"] / run["wall_seconds"] for run in runs])
        cpu = np.median([run["total_env_steps"] / run["cpu_seconds"] for run in runs])
        columns = (
            env_id,
            trainer,
            f"{len(runs)}",
            f"{_shown(finals.mean())} ± {_shown(_deviation(finals))}",
            f"{_shown(finals.min())} … {_shown(finals.max())}",
            f"{_shown(areas.mean())} ± {_shown(_deviation(areas))}",
            f"{_shown(areas.mean() - half)} … {_shown(areas.mean() + half)}",
            f"{wall:.0f}",
            f"{cpu:.0f}",
        )
        return f"| {' | '.join(columns)} |"

    def _differences(self, runs: list[Run], env_id: str) -> list[str]:
        """Return a row for each trainer but the first: its area less the first one's (Welch)."""
        first, *others = (
            (name, np.array([self._area(run["episodes"]) for run in self._of(runs, env_id, name)]))
            for name in self.trainers
        )
        rows = []
        for name, areas in others:
            if min(len(areas), len(first[1])) < 2:  # one run has no variance
                continue
            variances = [each.var(ddof=1) / len(each) for each in (areas, first[1])]
            freedom = sum(variances) ** 2 / sum(
                variance**2 / (len(each) - 1)
                for variance, each in zip(variances, (areas, first[1]), strict=True)
            )
            difference = areas.mean() - first[1].mean()
            half = _t_95(int(freedom)) * math.sqrt(sum(variances))
            rows.append(
                f"| {env_id} | {name} − {first[0]} | {_shown(difference)} | "
                f"{_shown(difference - half)} … {_shown(difference + half)} |"
            )
        return rows

    @property
    def _grid(self) -> npt.NDArray[np.int64]:
        return np.arange(_WINDOW, self.total_env_steps + 1, 5_000)

    def _curve(self, episodes: Episodes) -> npt.NDArray[np.float64]:
        """Return the mean return of the episodes that ended in the window up to each grid point.

        A point without such an episode repeats the one before.
        """
        ends, returns = np.array(episodes, dtype=np.float64).T
        curve = np.empty(len(self._grid))
        previous = returns[0]
        for index, point in enumerate(self._grid):
            inside = returns[(ends > point - _WINDOW) & (ends <= point)]
            curve[index] = previous = inside.mean() if len(inside) else previous
        return curve

    def _area(self, episodes: Episodes) -> float:
        return float(self._curve(episodes).mean())

    def _picture(self, runs: list[Run], path: Path) -> None:
        mpl.use("Agg")
        from matplotlib import pyplot as plt

        count = len(self.environments)
        size = (5 * count, 4)
        figure, (axes,) = plt.subplots(1, count, figsize=size, layout="constrained", squeeze=False)
        thousands = self._grid / 1000
        for axis, env_id in zip(axes, self.environments, strict=True):
            for trainer in self.trainers:
                mine = self._of(runs, env_id, trainer)
                if not mine:
                    continue
                curves = np.array([self._curve(run["episodes"]) for run in mine])
                axis.plot(thousands, curves.mean(0), label=f"{trainer} ({len(mine)} seeds)")
                axis.fill_between(thousands, curves.min(0), curves.max(0), alpha=0.2)
            axis.set(title=env_id, xlabel="thousand env steps")
            if axis.has_data():
                axis.legend()
        axes[0].set_ylabel("episode return (mean, least to greatest)")
        figure.savefig(path, dpi=120)
        plt.close(figure)


def _final(episodes: Episodes) -> float:
    """Return the interquartile mean over the last tenth of a run's episodes."""
    last = np.sort([each for _, each in episodes[-max(1, len(episodes) // 10) :]])
    cut = len(last) // 4
    return float(last[cut : len(last) - cut].mean())


def _shown(value: float) -> str:
    """Return a return for people: three figures are enough."""
    size = abs(value)
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"


def _deviation(values: npt.NDArray[np.float64]) -> float:
    """Return the standard deviation of a sample; it is not known of a single value."""
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _t_95(degrees_of_freedom: int) -> float:
    """Return the quantile; that of fewer degrees of freedom where it is not listed."""
    return _T_95[min(max(degrees_of_freedom, 1), len(_T_95)) - 1]
