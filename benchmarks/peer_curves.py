"""Learning curves and speed of our PPO beside Stable-Baselines3's, same hyperparameters.

::

    OMP_NUM_THREADS=1 python benchmarks/peer_curves.py run      # resumable; one process
    python benchmarks/peer_curves.py report                     # table and picture

Our settings for MuJoCo: 1 environment x 2048 steps, 10 epochs x 32 minibatches of 64, Adam (epsilon
1e-5), a learning rate that falls linearly from 3e-4 to 0, gamma 0.99, lambda 0.95, clip range 0.2,
no entropy bonus, value coefficient 0.5, gradient norm 0.5, separate 64 x 64 tanh networks,
orthogonal weights, advantages normalised per minibatch, observations and rewards normalised by
running statistics and clipped to +-10. What is equal in both and what is not:
`hyperoracle_trainers.bench.peer`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress

from hyperoracle_trainers.bench.peer import peer_model
from hyperoracle_trainers.ppo import PPO
from hyperoracle_trainers.presets import default_settings
from hyperoracle_trainers.settings import PPOSettings

RESULTS = Path(__file__).parent / "results" / "peer_curves"
ENVIRONMENTS = ("HalfCheetah-v5", "Hopper-v5")
SEEDS = (0, 1, 2)
TOTAL_ENV_STEPS = 200_000
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "stable-baselines3", "hyperoracle-trainers")

Episodes = list[tuple[int, float]]
"""(env steps taken, raw return) of every finished episode."""
Tick = Callable[[int], None]
"""Told how many env steps have been taken."""


def train_ours(settings: PPOSettings, tick: Tick) -> Episodes:
    """Train our PPO."""
    episodes: Episodes = []
    for phase in PPO(settings).train():
        episodes += [(phase.env_step, each) for each in phase.episode_returns]
        tick(phase.env_step)
    return episodes


def train_peer(settings: PPOSettings, tick: Tick) -> Episodes:
    """Train Stable-Baselines3's PPO with the same hyperparameters."""
    from stable_baselines3.common.callbacks import BaseCallback

    torch.set_num_threads(1)
    episodes: Episodes = []

    class Record(BaseCallback):
        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info:
                    episodes.append((self.num_timesteps, float(info["episode"]["r"])))
            return True

        def _on_rollout_end(self) -> None:
            tick(self.num_timesteps)

    peer_model(settings).learn(settings.total_env_steps, callback=Record())
    return episodes


TRAINERS = {"stable-baselines3": train_peer, "hyperoracle": train_ours}


def result_path(trainer: str, env_id: str, seed: int) -> Path:
    """Return the file of one run."""
    return RESULTS / f"{trainer}-{env_id}-seed{seed}.json.gz"


def run(env_ids: list[str], seeds: list[int], trainers: list[str]) -> None:
    """Make every run that has no file yet, the two trainers in turn."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    console = Console()
    for seed in seeds:
        for env_id in env_ids:
            for name in trainers:
                if not result_path(name, env_id, seed).exists():
                    _run_one(name, env_id, seed, console)


def _run_one(trainer: str, env_id: str, seed: int, console: Console) -> None:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"{trainer} {env_id} seed {seed}", total=TOTAL_ENV_STEPS)
        wall, cpu = time.perf_counter(), time.process_time()
        settings = default_settings("ppo", env_id, seed=seed, total_env_steps=TOTAL_ENV_STEPS)
        episodes = TRAINERS[trainer](
            settings, lambda env_step: progress.update(task, completed=env_step)
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    record = {
        "trainer": trainer,
        "env_id": env_id,
        "seed": seed,
        "total_env_steps": TOTAL_ENV_STEPS,
        "wall_seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "command": f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} "
        f"python benchmarks/peer_curves.py run --env {env_id} --seed {seed} --trainer {trainer}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_version()}",
        "packages": {name: version(name) for name in PACKAGES},
        "episodes": [(env_step, round(each, 3)) for env_step, each in episodes],
    }
    path = result_path(trainer, env_id, seed)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(gzip.compress(json.dumps(record).encode(), mtime=0))
    unfinished.replace(path)
    console.print(
        f"{trainer:18} {env_id:15} seed {seed}: {_final(episodes):8.0f} final return, "
        f"{TOTAL_ENV_STEPS / wall:6.0f} env steps/s"
    )


def _final(episodes: Episodes) -> float:
    """Return the interquartile mean over the last tenth of a run's episodes."""
    last = np.sort([each for _, each in episodes[-max(1, len(episodes) // 10) :]])
    cut = len(last) // 4
    return float(last[cut : len(last) - cut].mean())


def report() -> None:
    """Write the table and the picture of all runs that are there."""
    runs = [json.loads(gzip.decompress(path.read_bytes())) for path in RESULTS.glob("*.json.gz")]
    if not runs:
        sys.exit(f"no runs in {RESULTS}; make them with: python benchmarks/peer_curves.py run")
    (RESULTS / "README.md").write_text(_table(runs), encoding="utf-8")
    _picture(runs, RESULTS / "curves.png")
    Console().print(_table(runs), markup=False)


def _table(runs: list[dict[str, Any]]) -> str:
    lines = [
        "# Our PPO beside Stable-Baselines3's",
        "",
        (
            f"{TOTAL_ENV_STEPS:,} env steps, same hyperparameters; made by `python "
            "benchmarks/peer_curves.py run` and `report`, whose docstring says what differs."
        ),
        "",
        (
            "Final return: raw return of training episodes (with exploration noise), interquartile "
            "mean over the last 10 % of each run's episodes; mean ± standard deviation, least and "
            "greatest over seeds. Area: mean return over the whole run. Steps/s: env steps per "
            "second of wall time and of CPU time, one core that other processes may have shared, "
            "median over seeds."
        ),
        "",
        (
            "| environment | trainer | seeds | final return | least … greatest | area | steps/s | "
            "steps/CPU s |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for env_id in ENVIRONMENTS:
        for trainer in TRAINERS:
            mine = [run for run in runs if (run["env_id"], run["trainer"]) == (env_id, trainer)]
            if mine:
                lines.append(_row(env_id, trainer, mine))
    packages = ", ".join(f"{name} {version}" for name, version in runs[0]["packages"].items())
    return "\n".join([*lines, "", f"{runs[0]['machine']}; {packages}.", ""])


def _row(env_id: str, trainer: str, runs: list[dict[str, Any]]) -> str:
    finals = np.array([_final(run["episodes"]) for run in runs])
    areas = np.array([_curve(run["episodes"]).mean() for run in runs])
    spread = f"{finals.std(ddof=1):.0f}" if len(finals) > 1 else "?"
    wall = np.median([run["total_env_steps"] / run["wall_seconds"] for run in runs])
    cpu = np.median([run["total_env_steps"] / run["cpu_seconds"] for run in runs])
    return (
        f"| {env_id} | {trainer} | {len(runs)} | {finals.mean():.0f} ± {spread} | "
        f"{finals.min():.0f} … {finals.max():.0f} | {areas.mean():.0f} ± {areas.std(ddof=0):.0f} | "
        f"{wall:.0f} | {cpu:.0f} |"
    )


_GRID = np.arange(10_000, TOTAL_ENV_STEPS + 1, 5_000)


def _curve(episodes: Episodes) -> npt.NDArray[np.float64]:
    """Return the mean return of the episodes that ended in the 10,000 env steps up to each point.

    A point without such an episode repeats the one before.
    """
    ends, returns = np.array(episodes, dtype=np.float64).T
    curve = np.empty(len(_GRID))
    previous = returns[0]
    for index, point in enumerate(_GRID):
        inside = returns[(ends > point - 10_000) & (ends <= point)]
        curve[index] = previous = inside.mean() if len(inside) else previous
    return curve


def _picture(runs: list[dict[str, Any]], path: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(ENVIRONMENTS), figsize=(10, 4), layout="constrained")
    for axis, env_id in zip(axes, ENVIRONMENTS, strict=True):
        for trainer in TRAINERS:
            mine = [run for run in runs if (run["env_id"], run["trainer"]) == (env_id, trainer)]
            if not mine:
                continue
            curves = np.array([_curve(run["episodes"]) for run in mine])
            axis.plot(_GRID / 1000, curves.mean(0), label=f"{trainer} ({len(mine)} seeds)")
            axis.fill_between(_GRID / 1000, curves.min(0), curves.max(0), alpha=0.2)
        axis.set(title=env_id, xlabel="thousand env steps")
        if axis.has_data():
            axis.legend()
    axes[0].set_ylabel("episode return (mean, least to greatest)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run a sub-command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="make the runs that are missing")
    runner.add_argument("--env", action="append", choices=ENVIRONMENTS, help="default: all")
    runner.add_argument("--seed", action="append", type=int, help="default: 0, 1, 2")
    runner.add_argument("--trainer", action="append", choices=TRAINERS, help="default: both")
    commands.add_parser("report", help="write README.md and curves.png beside the results")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(
            arguments.env or list(ENVIRONMENTS),
            arguments.seed or list(SEEDS),
            arguments.trainer or list(TRAINERS),
        )
    else:
        report()


if __name__ == "__main__":
    main()
