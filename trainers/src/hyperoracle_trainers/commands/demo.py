"""Show two training jobs that share one oracle, and what it did for them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from shlex import quote
from typing import Any

from hyperoracle_client.commands.options import add_options

_PROVES_NOTHING = (
    "One run per arm proves nothing: by chance alone, runs differ as much as this. "
    "The wall times differ by the overhead and by the cores that the server and its encoder's "
    "training took from the jobs on this machine."
)


def register(subparsers: Any) -> None:
    """Add `hyperoracle demo`."""
    parser = subparsers.add_parser("demo", help=__doc__, description=__doc__)
    parser.add_argument(
        "--folder", metavar="FOLDER", default="hyperoracle-demo", help="default: ./hyperoracle-demo"
    )
    parser.add_argument("--env", metavar="ENV", default="Hopper-v5", help="default: Hopper-v5")
    parser.add_argument(
        "--total-env-steps",
        metavar="N",
        type=int,
        default=40_960,
        help="of each job; default: 40960",
    )
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of the first job")
    parser.add_argument(
        "--compare", action="store_true", help="train the same seeds without an oracle too"
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Give the demo; returns the exit code."""
    from hyperoracle_client import OracleError
    from hyperoracle_trainers.demo import demonstration
    from hyperoracle_trainers.demo import folder as demo_folder
    from hyperoracle_trainers.hyperparameters.settings import SettingsError
    from hyperoracle_trainers.runs.processes import ChildFailed, termination_as_interrupt

    if args.url is not None:
        return _failed("--url: expected none, the demo starts its own oracle; leave it out", 2)
    try:
        plan = demonstration.make_plan(
            Path(args.folder),
            args.env,
            total_env_steps=args.total_env_steps,
            seed=args.seed,
            compare=args.compare,
        )
        demonstration.find_program()
        with termination_as_interrupt():
            aside = demo_folder.prepare(plan.folder)
            if aside is not None:
                _say(f"An earlier demo was here: moved to {aside}.")
            _say(
                f"Two PPO jobs on {args.env}, {args.total_env_steps:,} env steps each, share one "
                "oracle; it takes some minutes."
            )
            figures = demonstration.give(plan)
    except SettingsError as error:
        return _failed(str(error), 2)
    except (demonstration.DemoFailed, demo_folder.FolderInUse, ChildFailed) as error:
        return _failed(str(error), 1)
    except (OracleError, OSError) as error:
        return _failed(str(error), 1)
    except KeyboardInterrupt:
        _say(f"Interrupted: all processes are stopped, the logs so far are in {args.folder}.")
        return 130
    if args.json:
        print(json.dumps(figures))
    else:
        _print_figures(figures)
    return 0


def _failed(error: str, code: int) -> int:
    _say(f"hyperoracle demo: {error}")
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _print_figures(figures: dict[str, Any]) -> None:
    from hyperoracle_trainers.commands.tables import (
        comparison_table,
        jobs_table,
        oracle_table,
        show,
    )

    show(oracle_table(figures["oracle"]))
    show(jobs_table(figures))
    if figures["comparison"] is not None:
        show(comparison_table(figures["comparison"]))
        print(_PROVES_NOTHING)
    folder = figures["folder"]
    store = quote(f"{folder}/oracle.db")
    for line in (
        f"Took {figures['wall_seconds']:.0f} s. Left in {folder}:",
        "  schedule.png  hyperparameters and returns of both jobs",
        "  schedule.csv  what the oracle told them",
        "  job-1, job-2  their run logs",
        f"  oracle.db     the memory; look into it: hyperoracle serve --store {store}",
    ):
        print(line)
