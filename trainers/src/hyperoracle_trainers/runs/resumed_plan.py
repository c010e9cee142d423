"""From `hyperoracle train --resume FOLDER` to the plan of the run that lies there."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hyperoracle_client import Choice, Scale
from hyperoracle_client.settings import load_settings
from hyperoracle_trainers.hyperparameters.arguments import ArgumentError, Space
from hyperoracle_trainers.hyperparameters.settings import AnySettings
from hyperoracle_trainers.hyperparameters.sources import RecordedSource
from hyperoracle_trainers.runs.checkpoints import Checkpoint, CheckpointError, load_checkpoint
from hyperoracle_trainers.runs.evaluation import video_file
from hyperoracle_trainers.runs.plan import OraclePlan, TrainingPlan
from hyperoracle_trainers.saved_state import State

OF_THE_RUN = ("algorithm", "env", "preset", "seed", "set", "decisions", "space", "out", "study",
              "study_set", "strategy", "role", "hold", "prefetch", "replay", "job",
              "log")  # fmt: skip
"""Arguments that a run is made from, and that therefore cannot change when it goes on."""


def make_resumed_plan(args: argparse.Namespace) -> TrainingPlan:
    """Return the plan of a run that goes on from its newest checkpoint.

    Args:
        args: of `hyperoracle train`; `resume` is the run folder.

    Raises:
        ArgumentError: an argument that cannot change, or a folder that is none.
        CheckpointError: there is no checkpoint, or one that cannot be used.
    """
    check_left_out(args, OF_THE_RUN, "--resume")
    folder = Path(args.resume)
    if not folder.is_dir():
        raise ArgumentError(
            f"--resume {folder}: expected the folder of a run, got none; correct the path"
        )
    checkpoint = load_checkpoint(folder)
    try:
        former = checkpoint.run["plan"]
        schedule = checkpoint.run["schedule"]
        oracle = _oracle_plan(args, former["oracle"])
        plan = TrainingPlan(
            preset=former["preset"],
            algorithm=checkpoint.algorithm,
            settings=_settings(args, checkpoint, oracle),
            oracle=oracle,
            schedule=None if schedule is None else RecordedSource.from_state(schedule),
            evaluation_episodes=former["evaluation_episodes"],
            evaluation_steps=former.get("evaluation_steps"),
            folder=folder,
            checkpoint_every=former["checkpoint_every"],
            writers=tuple(former["writers"]),
            video=video_file(args.video),
            resumes=checkpoint,
        )
    except (KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(
            f"{checkpoint.path}: expected a checkpoint that `hyperoracle train` wrote, got "
            f"another ({error}); restore it in Python"
        ) from None
    given = {"evaluation_episodes": args.evaluate, "evaluation_steps": args.evaluation_steps,
             "checkpoint_every": args.checkpoint_every}  # fmt: skip
    changes: dict[str, Any] = {name: each for name, each in given.items() if each is not None}
    return dataclasses.replace(plan, **changes)


def resume_command(folder: Path) -> str:
    """Return the command that goes on with the run in ``folder``."""
    return shlex.join(["hyperoracle", "train", "--resume", str(folder)])


def plan_state(plan: TrainingPlan) -> State:
    """Return what a checkpoint must hold so that :func:`make_resumed_plan` finds the plan again."""
    return {
        "plan": plan.described(),
        "schedule": None if plan.schedule is None else plan.schedule.state(),
    }


def check_left_out(args: argparse.Namespace, names: tuple[str, ...], beside: str) -> None:
    """Check that none of the named arguments is given.

    Raises:
        ArgumentError: one is.
    """
    for name in names:
        if getattr(args, name, None) not in (None, False, []):
            shown = name.upper() if name in ("algorithm", "env") else f"--{name.replace('_', '-')}"
            raise ArgumentError(
                f"{shown}: expected none beside {beside}, which takes it from the run; leave it out"
            )


def _settings(
    args: argparse.Namespace, checkpoint: Checkpoint, oracle: OraclePlan | None
) -> AnySettings:
    """Return the run's settings, with more env steps if that is wanted and changes nothing else."""
    settings = checkpoint.settings
    wanted = args.total_env_steps
    if wanted is None or wanted == settings.total_env_steps:
        return settings
    option = f"--total-env-steps {wanted}"
    taken = checkpoint.trainer["place"]["env_step"]
    if wanted < taken:
        raise ArgumentError(f"{option}: expected at least the {taken} taken so far, got fewer")
    if depends := sorted(settings.decayed()) or (["its oracle's job"] if oracle else []):
        raise ArgumentError(
            f"{option}: expected the run's own {settings.total_env_steps}, because "
            f"{', '.join(depends)} depends on its length; leave it out, or train anew"
        )
    return dataclasses.replace(settings, total_env_steps=wanted)


def _oracle_plan(args: argparse.Namespace, former: State | None) -> OraclePlan | None:
    url = getattr(args, "oracle", None) or getattr(args, "url", None)
    if former is None:
        if url is not None:
            raise ArgumentError(
                f"--oracle {url}: expected none beside --resume of a run without one; leave it out"
            )
        return None
    token = getattr(args, "token", None)
    address = url or former["url"]
    return OraclePlan(
        **{
            **former,
            "url": load_settings({"url": address, "token": token}).url,
            "token": token,
            "space": _space(former["space"]),
        }
    )


def _space(described: State) -> Space:
    return {
        name: Scale.model_validate(bins)
        if bins["type"] == "relative"
        else Choice.model_validate(bins)
        for name, bins in described.items()
    }
