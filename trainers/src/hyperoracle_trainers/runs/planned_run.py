"""Carries out a training plan: the trainer, its hyperparameter source, its log, its figures."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium
from rich.progress import Progress

from hyperoracle_client import Job, Oracle
from hyperoracle_trainers.algorithms.oracle_source import OracleSource
from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.algorithms.trainer import Trainer
from hyperoracle_trainers.environments.failures import EnvironmentFailed, TrainingDivergedError
from hyperoracle_trainers.hyperparameters.settings import AnySettings
from hyperoracle_trainers.hyperparameters.sources import HyperparameterSource
from hyperoracle_trainers.runs.checkpoints import (
    Checkpoint,
    CheckpointKeeper,
    checkpoints_in,
    restore_trainer,
)
from hyperoracle_trainers.runs.evaluation import check_rendering, evaluate, record_video
from hyperoracle_trainers.runs.log import RunLog, package_versions
from hyperoracle_trainers.runs.overhead import (
    HAS_THREAD_CLOCKS,
    Cost,
    OverheadMeter,
    oracle_cpu_seconds,
)
from hyperoracle_trainers.runs.pace import seconds_per_env_step_alone
from hyperoracle_trainers.runs.plan import OraclePlan, TrainingPlan
from hyperoracle_trainers.runs.processes import stop_on_request, termination_as_interrupt
from hyperoracle_trainers.runs.progress import EvaluationRow, TrainingRow, training_progress
from hyperoracle_trainers.runs.resumed_plan import plan_state
from hyperoracle_trainers.runs.run import Tally, make_trainer, train
from hyperoracle_trainers.runs.writers import RunWriter, RunWriters, make_writer
from hyperoracle_trainers.saved_state import State


class RunFailed(Exception):
    """A run could not begin or go on; the message is one line with the remedy."""


def carry_out(plan: TrainingPlan) -> dict[str, Any]:
    """Train, evaluate, and return the run's figures, which the run log ends with too.

    A Ctrl-C, a SIGTERM or a closed terminal ends the run early: the phase under way is completed
    and a checkpoint written (a second Ctrl-C stops at once), its job is finished as interrupted,
    the log is completed, and the figures say how far it came.

    Args:
        plan: what to do.

    Returns:
        JSON-able figures: ``status`` (``"completed"`` or ``"interrupted"``), ``env_steps``,
        ``final_return`` (mean of the last 20 episodes), ``evaluation_return`` (None unless all its
        episodes ended) and so on; ``oracle`` is None without one,
        otherwise its url, study, job_id, role, the client's ``stats``, and what it cost:
        ``overhead_percent``, how much longer than without it the run took, made of
        ``overhead_seconds``, and ``beside_overhead_seconds``, which may be the oracle's or not (see
        `OracleSeconds`; where ``slowed`` is None the percentage is a lower bound; ``oracle_cpu`` is
        the processor time meanwhile of an oracle in another process of this machine, None where
        that is not known); ``checkpoint`` is the newest one and ``video`` the recording, None if
        there is none.

    Raises:
        RunFailed: the environment or a writer cannot be made, the environment failed, or training
            diverged.
        VideoError: the environment cannot be rendered.
        RunLogError: the log of a run that goes on is not the one it left.
        OracleError: the oracle will not have the job.
    """
    if plan.video is not None:
        check_rendering(plan.settings)
    trainer = make_trainer_or_fail(plan.settings)
    tally, meter = Tally(), OverheadMeter()
    if plan.resumes is not None:
        _take_up(plan.resumes, trainer, tally, meter)
    with ExitStack() as stack:
        stack.enter_context(termination_as_interrupt())
        source, job, oracle_cpu = _source(plan, trainer, stack, meter)
        resume_at = None if plan.resumes is None else plan.resumes.run["log"]
        log = stack.enter_context(RunLog(plan.folder, plan.settings, resume_at))
        writers = stack.enter_context(RunWriters())
        for name in plan.writers:
            writers.add(_made_writer(name, plan, trainer.place.env_step))
        progress = stack.enter_context(training_progress())
        status = "completed"
        recorded: Path | None = None
        cost: Cost | None = None
        evaluation_returns: list[float] = []
        try:
            _train(plan, trainer, source, job, log, writers, tally, meter, progress)
            cost = _cost(plan, trainer, tally, meter, oracle_cpu)
            evaluation_returns = _evaluated(plan, trainer, progress)
            recorded = _recorded(plan, trainer)
        except KeyboardInterrupt:
            tally.end()
            status = "interrupted"
        except TrainingDivergedError as error:
            raise RunFailed(f"{error}; {_what_there_is(plan)}") from None
        except EnvironmentFailed as error:
            raise RunFailed(f"{plan.settings.env_id}: {error}; {_what_there_is(plan)}") from error
        figures = {
            "algorithm": plan.algorithm,
            "env_id": plan.settings.env_id,
            "seed": plan.settings.seed,
            "status": status,
            **tally.summary(evaluation_returns, plan.evaluation_episodes).figures(),
            "oracle": None if plan.oracle is None or job is None
            else _oracle_figures(plan.oracle, job, tally, cost or Cost(meter.seconds)),
            "folder": str(plan.folder),
            "checkpoint": str(kept[-1]) if (kept := checkpoints_in(plan.folder)) else None,
            "video": None if recorded is None else str(recorded),
        }  # fmt: skip
        log.end(figures)
        writers.end(figures)
    return figures


def make_trainer_or_fail(settings: AnySettings) -> Trainer[Any]:
    """Return the trainer that the settings are of.

    Raises:
        RunFailed: its environment cannot be made.
    """
    try:
        return make_trainer(settings)
    except EnvironmentFailed as error:
        raise RunFailed(f"{settings.env_id}: {error}") from error
    except gymnasium.error.Error as error:
        reason = " ".join(str(error).split())
        raise RunFailed(
            f"expected an environment that can be made, got {settings.env_id} ({reason}); "
            "install what it needs"
        ) from None


def _made_writer(name: str, plan: TrainingPlan, env_step: int) -> RunWriter:
    try:
        return make_writer(name, plan.folder, plan.settings, env_step)
    except Exception as error:  # a tracker's package raises what it likes
        reason = " ".join(str(error).split())
        raise RunFailed(
            f"--log {name}: expected a writer that starts, got {type(error).__name__}: {reason}; "
            "correct that or leave it out"
        ) from error


def _source(
    plan: TrainingPlan, trainer: Trainer[Any], stack: ExitStack, meter: OverheadMeter
) -> tuple[HyperparameterSource | None, Job | None, float | None]:
    """Return the source of hyperparameters and, if it asks an oracle, its job, and its CPU time."""
    if plan.oracle is None:
        return plan.schedule, None, None
    wanted = plan.oracle
    with meter.starting():
        oracle = stack.enter_context(Oracle(wanted.url, wanted.token))
        source = OracleSource.start(
            oracle,
            trainer,
            study=wanted.study,
            space=wanted.space,
            strategy=wanted.strategy,
            returns=wanted.returns,
            role=wanted.role,
            hold=wanted.hold,
            prefetch=wanted.prefetch,
            resume_from=None if plan.resumes is None else plan.resumes.run["job"],
        )
        assert isinstance(source.job, Job)
        stack.push(source.job)  # what fails before training begins, a writer perhaps, fails the job
        cpu_seconds = oracle_cpu_seconds(wanted.url, wanted.token)
    job = source.job
    if not HAS_THREAD_CLOCKS:  # the client's own thread is known, an embedded oracle's are not
        meter.oracle_works_for(lambda: job.stats.background_seconds)
    return meter.of(source), job, cpu_seconds


def _train(
    plan: TrainingPlan,
    trainer: Trainer[Any],
    source: HyperparameterSource | None,
    job: Job | None,
    log: RunLog,
    writers: RunWriters,
    tally: Tally,
    meter: OverheadMeter,
    progress: Progress,
) -> None:
    shown = list(plan.oracle.space) if plan.oracle is not None else ["learning_rate"]
    row = TrainingRow(progress, plan.settings.env_id, plan.settings.total_env_steps, shown)
    keeper = CheckpointKeeper(
        plan.folder, plan.settings.total_env_steps, plan.checkpoint_every, trainer.place.env_step
    )

    def show(phase: Phase) -> None:
        row.update(phase.env_step, tally.recent_return, phase.hyperparameters)

    with ExitStack() as stack:
        # Without checkpoints there is nothing to wait for: Ctrl-C ends the run at once.
        stop = stack.enter_context(stop_on_request()) if keeper.keeps_any else None

        def keep(phase: Phase) -> None:
            asked_to_stop = stop is not None and stop.is_made
            if asked_to_stop or keeper.is_due(phase.env_step):
                keeper.save(trainer, _run_state(plan, tally, meter, log, job))
            if asked_to_stop:
                raise KeyboardInterrupt

        def beside(phase: Phase) -> None:
            writers.record(phase)
            show(phase)
            keep(phase)

        if job is not None:
            meter.training_begins()
        train(
            trainer, source, tally, [log.record, lambda phase: meter.aside(lambda: beside(phase))]
        )


def _cost(
    plan: TrainingPlan,
    trainer: Trainer[Any],
    tally: Tally,
    meter: OverheadMeter,
    oracle_cpu: float | None,
) -> Cost | None:
    """Return what the oracle cost; where that is much, find out how fast training is without."""
    if plan.oracle is None:
        return None
    if oracle_cpu is not None:
        now = oracle_cpu_seconds(plan.oracle.url, plan.oracle.token)
        oracle_cpu = None if now is None else now - oracle_cpu
    cost = Cost(meter.seconds, oracle_cpu)
    if not cost.is_much(tally.wall_seconds):
        return cost
    pace = seconds_per_env_step_alone(trainer, tally.wall_seconds)
    if pace is None:
        return cost
    compared = cost.seconds.compared(pace * tally.env_steps)
    return replace(cost, seconds=compared)


def _run_state(
    plan: TrainingPlan, tally: Tally, meter: OverheadMeter, log: RunLog, job: Job | None
) -> State:
    """Return what a checkpoint needs beside the trainer."""
    return {
        **plan_state(plan),
        "tally": tally.state(),
        "overhead": meter.state(),
        "log": log.position(),
        "job": None if job is None else job.state(),
    }


def _take_up(
    checkpoint: Checkpoint, trainer: Trainer[Any], tally: Tally, meter: OverheadMeter
) -> None:
    """Go on where the checkpoint was written, and say so if that is not exactly possible."""
    if anew := restore_trainer(trainer, checkpoint):
        print(
            f"The resumed run is not exactly the interrupted one: {len(anew)} of "
            f"{trainer.settings.number_of_envs} environments could not be brought back to where "
            "they were; their episodes begin anew.",
            file=sys.stderr,
        )
    versions = package_versions()
    if changed := [name for name in versions if checkpoint.packages.get(name) != versions[name]]:
        print(
            "The resumed run may not be exactly the interrupted one: it was begun with other "
            f"versions of {', '.join(changed)}.",
            file=sys.stderr,
        )
    tally.restore(checkpoint.run["tally"])
    calls = tally.source_seconds  # an earlier release knew no more
    meter.restore(
        checkpoint.run.get("overhead") or {"calls": calls, "training": tally.wall_seconds - calls}
    )


def _what_there_is(plan: TrainingPlan) -> str:
    """Say where the log of a run that failed is, and from where it can go on."""
    kept = checkpoints_in(plan.folder)
    checkpoint = f"its newest checkpoint is {kept[-1]}" if kept else "it has no checkpoint yet"
    return f"the log so far is in {plan.folder}, {checkpoint}"


def _evaluated(plan: TrainingPlan, trainer: Trainer[Any], progress: Progress) -> list[float]:
    row = EvaluationRow(progress, plan.evaluation_episodes)
    return evaluate(
        trainer.policy,
        trainer.observation_normaliser,
        plan.settings,
        episodes=plan.evaluation_episodes,
        seed=plan.settings.seed + 1,
        env_step_limit=plan.evaluation_steps,
        watch=row.update,
    )


def _recorded(plan: TrainingPlan, trainer: Trainer[Any]) -> Path | None:
    """Record a video if one is wanted, and return its file."""
    if plan.video is not None:
        record_video(
            plan.video,
            trainer.policy,
            trainer.observation_normaliser,
            plan.settings,
            seed=plan.settings.seed + 1,
        )
    return plan.video


def _oracle_figures(plan: OraclePlan, job: Job, tally: Tally, cost: Cost) -> dict[str, Any]:
    taken = asdict(cost.seconds)
    beside = {name: taken.pop(name) for name in ("training", "waiting")}
    return {
        "url": plan.url,
        "study": plan.study,
        "job_id": job.id,
        "role": job.role,
        "stats": asdict(job.stats),
        "overhead_percent": cost.seconds.percent(tally.wall_seconds),
        "overhead_seconds": taken,
        "beside_overhead_seconds": {**beside, "oracle_cpu": cost.oracle_cpu},
    }
