"""Two training jobs that share one oracle: what `hyperoracle demo` does."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from rich.console import Console

from hyperoracle_trainers.algorithms.decisions import BaseSchedule
from hyperoracle_trainers.demo import folder as demo_folder
from hyperoracle_trainers.demo.folder import JobLog, OracleRecord, ask_oracle, demo_figures
from hyperoracle_trainers.hyperparameters.arguments import default_space
from hyperoracle_trainers.hyperparameters.presets import default_settings, family_of
from hyperoracle_trainers.hyperparameters.settings import PPOSettings
from hyperoracle_trainers.runs.log import GrowingLog, read_history
from hyperoracle_trainers.runs.processes import Child, Children
from hyperoracle_trainers.runs.progress import TrainingRow, training_progress
from hyperoracle_trainers.runs.run import Tally
from hyperoracle_trainers.runs.schedule_plot import plot_schedule

STUDY = "demo"
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.25
_MUJOCO_OVERRIDES = {"rollout_length": 1024, "number_of_minibatches": 16}


class DemoFailed(Exception):
    """The demo cannot be given; the message is one line with the remedy."""


@dataclass(frozen=True, kw_only=True)
class DemoPlan:
    """What the demo is asked to show.

    Attributes:
        folder: for all that it leaves.
        settings: of the first job; the second differs by its seed, one higher.
        overrides: what differs from the preset of PPO on this environment.
        compare: whether the same seeds are trained without an oracle afterwards.
    """

    folder: Path
    settings: PPOSettings
    overrides: dict[str, int]
    compare: bool

    @property
    def seeds(self) -> tuple[int, int]:
        """The jobs' seeds."""
        return self.settings.seed, self.settings.seed + 1

    @property
    def hyperparameters(self) -> list[str]:
        """What the oracle chooses."""
        return list(default_space(BaseSchedule.of(self.settings).values))


def make_plan(
    folder: Path, env_id: str, *, total_env_steps: int, seed: int, compare: bool
) -> DemoPlan:
    """Return the plan: PPO with its preset, on MuJoCo tasks with shorter rollouts.

    Args:
        folder: for all that the demo leaves.
        env_id: a Gymnasium environment.
        total_env_steps: of each job.
        seed: of the first job.
        compare: whether the same seeds are trained without an oracle afterwards.

    Raises:
        SettingsError: an argument has no meaning.
    """
    settings = default_settings(
        "ppo", env_id, total_env_steps=total_env_steps, seed=seed, decisions="minibatch"
    )
    overrides = _MUJOCO_OVERRIDES if family_of(env_id) == "mujoco" else {}
    settings = default_settings(
        "ppo",
        env_id,
        total_env_steps=total_env_steps,
        seed=seed,
        decisions="minibatch",
        **overrides,
    )
    return DemoPlan(folder=folder, settings=settings, overrides=overrides, compare=compare)


def give(plan: DemoPlan) -> dict[str, Any]:
    """Give the demo in a prepared folder and return its figures, which ``demo.json`` holds too.

    Raises:
        DemoFailed: the command `hyperoracle` or the server is not installed.
        ChildFailed: the server or a job ended with an error.
        OracleError: the server does not say what it did.
    """
    began = time.perf_counter()
    program = find_program()
    with Children() as servers:
        server, url = _started_server(servers, program, plan.folder)
        jobs = _run_jobs(plan, program, url, server)
        record = ask_oracle(url, STUDY)
    alone = _run_jobs(plan, program, None, None) if plan.compare else []
    (plan.folder / demo_folder.SCHEDULE).write_text(record.schedule_csv, "utf-8", newline="")
    _draw(plan, jobs, alone, record)
    figures = demo_figures(plan.settings, plan.folder, record, jobs, alone)
    figures["wall_seconds"] = time.perf_counter() - began
    (plan.folder / demo_folder.FIGURES).write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return figures


def find_program() -> str:
    """Return the command `hyperoracle` of this Python.

    Raises:
        DemoFailed: it, or its `serve`, is not installed.
    """
    if not entry_points(group="hyperoracle.commands", name="serve"):
        raise DemoFailed(
            "expected a server to start, got no `hyperoracle serve`: install hyperoracle-server"
        )
    beside = Path(sys.executable).with_name("hyperoracle")
    program = str(beside) if beside.exists() else shutil.which("hyperoracle")
    if program is None:
        raise DemoFailed(
            f"expected the command hyperoracle beside {sys.executable} or on the PATH, got none; "
            "install hyperoracle-client"
        )
    return program


def _started_server(servers: Children, program: str, folder: Path) -> tuple[Child, str]:
    """Start an oracle on a free port and return it with its address once it listens."""
    ready = folder / demo_folder.READY
    command = [program, "serve", "--store", str(folder / demo_folder.STORE), "--host", "127.0.0.1",
               "--port", "0", "--ready-file", str(ready)]  # fmt: skip
    output = folder / demo_folder.SERVER_OUTPUT
    server = servers.start("the oracle", command, output, _environment(folder))
    deadline = time.monotonic() + _START_SECONDS
    with Console(stderr=True).status("Starting the oracle ..."):
        while not ready.exists():
            server.check()
            if not server.is_running or time.monotonic() > deadline:
                raise server.failure(f"does not listen after {_START_SECONDS:.0f} s")
            server.wait(_LOOK_SECONDS)
    url: str = json.loads(ready.read_text("utf-8"))["url"]
    return server, url


def _run_jobs(plan: DemoPlan, program: str, url: str | None, server: Child | None) -> list[JobLog]:
    """Train both seeds at once, to the end, and return where their logs are.

    Args:
        plan: the demo's.
        program: the command `hyperoracle`.
        url: of the oracle; None trains without one.
        server: must stay alive meanwhile.
    """
    kind = "alone" if url is None else "job"
    jobs = [
        JobLog(name=f"{kind} {number} (seed {seed})", folder=plan.folder / f"{kind}-{number}")
        for number, seed in enumerate(plan.seeds, start=1)
    ]
    with Children() as children:
        running = []
        for job, seed in zip(jobs, plan.seeds, strict=True):
            job.folder.mkdir()
            command = [program, *_train_arguments(plan, seed, job.folder, url)]
            output = job.folder / "output.txt"
            running.append(children.start(job.name, command, output, _environment(plan.folder)))
        _watch(plan, jobs, running, server)
    return jobs


def _train_arguments(plan: DemoPlan, seed: int, folder: Path, url: str | None) -> list[str]:
    settings = plan.settings
    arguments = ["train", "ppo", settings.env_id, "--seed", str(seed), "--json", "--out",
                 str(folder), "--total-env-steps", str(settings.total_env_steps),
                 "--decisions", settings.decisions]  # fmt: skip
    for name, value in plan.overrides.items():
        arguments += ["--set", f"{name}={value}"]
    if url is not None:
        # A decision for each pass over the rollout.
        hold = str(settings.number_of_minibatches)
        arguments += ["--oracle", url, "--study", STUDY, "--strategy", "epgt", "--hold", hold]
    return arguments


def _environment(folder: Path) -> dict[str, str | None]:
    """Return a child's environment: one thread, and nothing of the user's own oracle."""
    users = {name: None for name in os.environ if name.startswith("HYPERORACLE_")}
    spool = str((folder / demo_folder.SPOOL).absolute())
    return {**users, "OMP_NUM_THREADS": "1", "HYPERORACLE_SPOOL_DIRECTORY": spool}


def _watch(
    plan: DemoPlan, jobs: Sequence[JobLog], running: Sequence[Child], server: Child | None
) -> None:
    """Show how far the jobs are until all have ended.

    Raises:
        ChildFailed: one of them, or the server, ended with an error.
    """
    with training_progress() as progress:
        total = plan.settings.total_env_steps
        views = [
            _JobView(
                job.folder, TrainingRow(progress, job.folder.name, total, plan.hyperparameters)
            )
            for job in jobs
        ]
        while ongoing := [child for child in running if child.is_running]:
            for child in running:
                child.check()
            if server is not None and not server.is_running:
                server.check()
                raise server.failure("ended before the jobs did")
            for view in views:
                view.update()
            ongoing[0].wait(_LOOK_SECONDS)
        for child in running:
            child.check()
        for view in views:
            view.update()


class _JobView:
    """A row of the progress display that follows a job's log."""

    def __init__(self, folder: Path, row: TrainingRow) -> None:
        self._log = GrowingLog(folder / "run.jsonl")
        self._row = row
        self._tally = Tally()

    def update(self) -> None:
        """Read on, and show what is new."""
        for line in self._log.new_lines():
            if line["event"] == "start":
                self._row.begin()
            elif line["event"] == "phase":
                self._tally.add_returns(line["episode_returns"])
                recent = self._tally.recent_return
                self._row.update(line["env_step"], recent, line["hyperparameters"])


def _draw(
    plan: DemoPlan, jobs: Sequence[JobLog], alone: Sequence[JobLog], record: OracleRecord
) -> None:
    def explored(job: JobLog) -> Collection[int]:
        return record.explored_update_steps(job.figures()["oracle"]["job_id"])

    figure = plot_schedule(
        [read_history(job.folder, job.name, explored(job)) for job in jobs],
        plan.hyperparameters,
        title=f"PPO on {plan.settings.env_id}: two jobs that share one oracle",
        references=[read_history(job.folder, f"{job.name}: no oracle") for job in alone],
    )
    figure.savefig(plan.folder / demo_folder.PLOT)
