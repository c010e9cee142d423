"""Evaluates the policy of a checkpoint: what `hyperoracle train --eval-only` does."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperoracle_trainers.environments.failures import EnvironmentFailed
from hyperoracle_trainers.hyperparameters.arguments import ArgumentError
from hyperoracle_trainers.runs.checkpoints import Checkpoint, load_checkpoint
from hyperoracle_trainers.runs.evaluation import (
    check_rendering,
    evaluate,
    mean_of,
    record_video,
    video_file,
)
from hyperoracle_trainers.runs.plan import EVALUATION_EPISODES
from hyperoracle_trainers.runs.planned_run import RunFailed, make_trainer_or_fail
from hyperoracle_trainers.runs.progress import EvaluationRow, training_progress
from hyperoracle_trainers.runs.resumed_plan import OF_THE_RUN, check_left_out

_NOT_SEED = tuple(name for name in OF_THE_RUN if name != "seed")
_OF_TRAINING = ("total_env_steps", "checkpoint_every", "oracle", "url", "dry_run", "resume")


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """Which policy to evaluate, and how.

    Attributes:
        checkpoint: holds the policy.
        episodes: how many.
        env_step_limit: env steps after which it ends anyway; None takes 30,000 an episode.
        seed: decides the episodes' beginnings; None takes the one that the run itself evaluates
            with.
        video: where to record the first episode; None records none.
    """

    checkpoint: Checkpoint
    episodes: int
    env_step_limit: int | None
    seed: int
    video: Path | None


def make_evaluation_plan(args: argparse.Namespace) -> EvaluationPlan:
    """Return the plan that the arguments of `hyperoracle train --eval-only` describe.

    Raises:
        ArgumentError: an argument has no meaning here.
        CheckpointError: there is no checkpoint, or one that cannot be used.
    """
    check_left_out(args, _NOT_SEED + _OF_TRAINING, "--eval-only")
    path = Path(args.eval_only)
    if not path.exists():
        raise ArgumentError(
            f"--eval-only {path}: expected a run folder or a checkpoint, got none; correct the path"
        )
    checkpoint = load_checkpoint(path)
    return EvaluationPlan(
        checkpoint=checkpoint,
        episodes=EVALUATION_EPISODES if args.evaluate is None else args.evaluate,
        env_step_limit=args.evaluation_steps,
        seed=checkpoint.settings.seed + 1 if args.seed is None else args.seed,
        video=video_file(args.video),
    )


def evaluate_saved_policy(plan: EvaluationPlan) -> dict[str, Any]:
    """Evaluate, record the video if one is wanted, and return JSON-able figures.

    Raises:
        RunFailed: the environment cannot be made, or failed.
        VideoError: it cannot be rendered.
    """
    checkpoint = plan.checkpoint
    if plan.video is not None:
        check_rendering(checkpoint.settings)
    trainer = make_trainer_or_fail(checkpoint.settings)
    trainer.restore_policy(checkpoint.trainer)
    try:
        with training_progress() as progress:
            returns = evaluate(
                trainer.policy,
                trainer.observation_normaliser,
                checkpoint.settings,
                episodes=plan.episodes,
                seed=plan.seed,
                env_step_limit=plan.env_step_limit,
                watch=EvaluationRow(progress, plan.episodes).update,
            )
    except EnvironmentFailed as error:
        raise RunFailed(f"{checkpoint.settings.env_id}: {error}") from error
    if plan.video is not None:
        record_video(
            plan.video,
            trainer.policy,
            trainer.observation_normaliser,
            checkpoint.settings,
            seed=plan.seed,
        )
    return {
        "algorithm": checkpoint.algorithm,
        "env_id": checkpoint.settings.env_id,
        "seed": plan.seed,
        "env_steps": checkpoint.trainer["place"]["env_step"],
        "checkpoint": str(checkpoint.path),
        "evaluation_episodes": plan.episodes,
        "evaluation_return": mean_of(returns, plan.episodes),
        "evaluation_returns": returns,
        "video": None if plan.video is None else str(plan.video),
    }
