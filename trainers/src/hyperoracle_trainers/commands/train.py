"""Train PPO, A2C or ACKTR, with an oracle or without."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hyperoracle_client.commands.options import add_options, words_between_options
from hyperoracle_protocol.names import expected_one_of
from hyperoracle_protocol.strategies import STRATEGIES

EXIT_INTERRUPTED = 130


def register(subparsers: Any) -> None:
    """Add `hyperoracle train`."""
    parser = subparsers.add_parser(
        "train",
        help=__doc__,
        description=__doc__,
        usage="hyperoracle train [--preset NAME] [ALGORITHM] [ENV] [options]\n"
        "       hyperoracle train --resume FOLDER [options]\n"
        "       hyperoracle train --eval-only FOLDER_OR_CHECKPOINT [options]",
    )
    saved = parser.add_mutually_exclusive_group()
    saved.add_argument("--resume", metavar="FOLDER", help="go on with the run in this folder")
    saved.add_argument(
        "--eval-only",
        metavar="FOLDER_OR_CHECKPOINT",
        help="do not train: evaluate the policy of a run's newest checkpoint, or of this file",
    )
    add_training_arguments(parser)
    oracle = parser.add_argument_group(
        "oracle", "without --oracle, --url or --study it trains alone"
    )
    oracle.add_argument("--oracle", metavar="URL", help="http://host:port or embedded:PATH")
    oracle.add_argument("--study", metavar="NAME", help="default: ENV-ALGORITHM")
    oracle.add_argument(
        "--strategy",
        metavar="NAME",
        type=_strategy,
        help=f"{', '.join(STRATEGIES)}; default: the service's own, of a preset epgt",
    )
    oracle.add_argument(
        "--study-set",
        metavar="SECTION.NAME=VALUE",
        action="append",
        default=[],
        help="a setting of epgt or dqn in a study that is not there yet: memory.capacity=5000",
    )
    oracle.add_argument("--role", choices=("auto", "explore", "exploit", "control"))
    oracle.add_argument(
        "--hold", metavar="UPDATES", type=at_least_one, help="updates that a decision holds for"
    )
    oracle.add_argument(
        "--prefetch",
        action=argparse.BooleanOptionalAction,
        help="use each answer one update later, wait for none; default: where a remote oracle is "
        "asked before every minibatch",
    )
    parser.add_argument("--replay", metavar="SCHEDULE.csv", help="use a recorded schedule")
    add_replay_arguments(parser)
    add_options(parser)
    words_between_options(parser, "algorithm", "env")
    parser.set_defaults(run=run)


def _strategy(name: str) -> str:
    """Return the name of a strategy; argparse's own words for another would name all."""
    if name not in STRATEGIES:
        raise argparse.ArgumentTypeError(expected_one_of(STRATEGIES, name, "strategies"))
    return name


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says how to train, whatever the hyperparameters come from."""
    parser.add_argument("algorithm", metavar="ALGORITHM", nargs="?", help="ppo, a2c or acktr")
    parser.add_argument(
        "env", metavar="ENV", nargs="?", help="a Gymnasium environment such as Hopper-v5"
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="a setting of the paper: it says what is left out here, the space and the study too",
    )
    parser.add_argument("--list-presets", action="store_true", help="print them and stop")
    parser.add_argument("--total-env-steps", metavar="N", type=at_least_one)
    parser.add_argument("--seed", metavar="S", type=int)
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="any other setting"
    )
    parser.add_argument(
        "--decisions",
        choices=("phase", "minibatch"),
        help="choose hyperparameters once per update phase (default) or before every minibatch",
    )
    parser.add_argument(
        "--space",
        metavar="NAME=KIND:VALUES",
        action="append",
        default=[],
        help="what may be chosen: NAME=scale:0.5,1,2 (factors on the base value) or "
        "NAME=choice:0.1,0.2,0.3@0.2 (values, 0.2 the default); repeat it for more; default: "
        "learning_rate=scale:0.5,1,2 and for ppo clip_range=choice:0.1,0.2,0.3@0.2",
    )
    parser.add_argument(
        "--evaluate",
        metavar="N",
        type=at_least_zero,
        help="episodes of the deterministic policy after training (default: 5)",
    )
    parser.add_argument(
        "--evaluation-steps",
        metavar="N",
        type=at_least_one,
        help="env steps after which the evaluation ends anyway (default: 30,000 an episode)",
    )
    parser.add_argument(
        "--video", metavar="FILE", help="record an episode of that policy, as .gif or .mp4"
    )
    parser.add_argument(
        "--checkpoint-every",
        metavar="ENV_STEPS",
        type=at_least_zero,
        help="default: a tenth of the run, at least every ten minutes; 0: no checkpoints",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="default: runs/ALGORITHM-ENV-SEED-TIME, made if missing"
    )
    parser.add_argument(
        "--log",
        metavar="WRITER",
        action="append",
        default=[],
        help="write the run down for tensorboard, wandb (your own package and account) or as a "
        "picture too, beside the run log's JSON and CSV; repeat it for more",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the settings in force and stop"
    )


def at_least_zero(text: str) -> int:
    """Return a whole number from 0 on.

    Raises:
        ArgumentTypeError: it is none.
    """
    # Imported late: it brings all settings with it, which `--help` does not need.
    from hyperoracle_trainers.hyperparameters.arguments import whole_number

    try:
        number = whole_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text!r}") from None
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return number


def at_least_one(text: str) -> int:
    """Return a whole number from 1 on.

    Raises:
        ArgumentTypeError: it is none.
    """
    number = at_least_zero(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


def add_replay_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which schedule of a file to replay."""
    parser.add_argument("--job", metavar="JOB_ID", help="which job of an oracle's export to replay")


def run(args: argparse.Namespace) -> int:
    """Train as the arguments say; returns the exit code."""
    if args.list_presets:
        _print_presets(as_json=args.json)
        return 0

    from hyperoracle_client import OracleError, OracleMisconfigured
    from hyperoracle_trainers.commands.saved_policy import (
        evaluate_saved_policy,
        make_evaluation_plan,
    )
    from hyperoracle_trainers.hyperparameters.arguments import ArgumentError
    from hyperoracle_trainers.hyperparameters.settings import SettingsError
    from hyperoracle_trainers.hyperparameters.sources import ScheduleError
    from hyperoracle_trainers.runs.checkpoints import CheckpointError
    from hyperoracle_trainers.runs.evaluation import VideoError
    from hyperoracle_trainers.runs.log import RunLogError
    from hyperoracle_trainers.runs.plan import make_plan
    from hyperoracle_trainers.runs.planned_run import RunFailed, carry_out
    from hyperoracle_trainers.runs.resumed_plan import make_resumed_plan

    wrong = (ArgumentError, SettingsError, ScheduleError, CheckpointError, OracleMisconfigured)
    try:
        if getattr(args, "eval_only", None) is not None:
            _print_evaluation(evaluate_saved_policy(make_evaluation_plan(args)), args.json)
            return 0
        resumes = getattr(args, "resume", None) is not None
        plan = make_resumed_plan(args) if resumes else make_plan(args)
        if args.dry_run:
            print(json.dumps(plan.described(), indent=None if args.json else 2))
            return 0
        figures = carry_out(plan)
    except wrong as error:
        print(f"hyperoracle {args.command}: {error}", file=sys.stderr)
        return 2
    except (RunFailed, RunLogError, VideoError, OracleError, OSError) as error:
        print(f"hyperoracle {args.command}: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        print(
            f"hyperoracle {args.command}: expected enough memory for the run, got too little; "
            "lower rollout_length, number_of_envs or hidden_sizes",
            file=sys.stderr,
        )
        return 1
    if args.json:
        print(json.dumps(figures))
    else:
        _print_figures(figures)
    return 0 if figures["status"] == "completed" else EXIT_INTERRUPTED


def _lacks_memory(error: Exception) -> bool:
    """Whether memory ran out; torch has an error of its own for its devices, none for the CPU."""
    signs = ("allocate memory", "out of memory")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def _print_figures(figures: dict[str, Any]) -> None:
    from hyperoracle_trainers.commands.tables import run_table, show
    from hyperoracle_trainers.runs.resumed_plan import resume_command

    show(run_table(figures))
    print(f"Run log: {figures['folder']}")
    if figures["status"] != "completed" and figures["checkpoint"] is not None:
        print(f"Go on with: {resume_command(Path(figures['folder']))}")


def _print_evaluation(figures: dict[str, Any], as_json: bool) -> None:
    from hyperoracle_trainers.commands.tables import evaluation_table, show

    if as_json:
        print(json.dumps(figures))
        return
    show(evaluation_table(figures))
    for what in ("checkpoint", "video"):
        if figures[what] is not None:
            print(f"{what.title()}: {figures[what]}")


def _print_presets(*, as_json: bool) -> None:
    from dataclasses import asdict

    from hyperoracle_trainers.hyperparameters.presets import PAPER_PRESETS

    if as_json:
        print(json.dumps([asdict(preset) for preset in PAPER_PRESETS.values()]))
        return
    from hyperoracle_trainers.commands.tables import presets_table, show

    show(presets_table(PAPER_PRESETS.values()))
