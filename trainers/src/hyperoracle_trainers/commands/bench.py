"""Measure what HyperOracle costs and how fast it is."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from functools import partial
from typing import Any

from hyperoracle_client.commands.options import add_options
from hyperoracle_trainers.commands.train import at_least_one

BENCHMARKS: tuple[str, ...] = ()
"""Modules of `bench/`: `add_arguments(parser)`, and `run(args, say)`, which returns figures.

Beyond the standard library they import what they need when they run."""


def register(subparsers: Any) -> None:
    """Add `hyperoracle bench`."""
    parser = subparsers.add_parser("bench", help=__doc__, description=__doc__)
    benchmarks = parser.add_subparsers(metavar="BENCHMARK", required=True)
    for name in BENCHMARKS:
        module = importlib.import_module(f"hyperoracle_trainers.bench.{name}")
        help_text = str(module.__doc__).partition("\n")[0]
        each = benchmarks.add_parser(
            name,
            help=help_text,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(each)
        add_options(each)
        each.set_defaults(run=partial(_run, name, module))
    trainers = benchmarks.add_parser(
        "trainers",
        help="our PPO and A2C beside Stable-Baselines3's",
        description="Measure our trainers beside Stable-Baselines3's with the same "
        "hyperparameters, if it is installed, and beside the bare environment under random "
        "actions: on one core, in turn, medians. The exit code is 1 if a budget is missed, judged "
        "by CPU time.",
    )
    trainers.add_argument(
        "--algorithms", metavar="NAMES", default="ppo,a2c", help="default: ppo,a2c"
    )
    trainers.add_argument(
        "--env", metavar="ENV", default="HalfCheetah-v5", help="default: HalfCheetah-v5"
    )
    trainers.add_argument(
        "--env-steps",
        metavar="N",
        type=at_least_one,
        default=8192,
        help="of each turn, rounded up to whole rollouts; default: 8192",
    )
    trainers.add_argument(
        "--repeats", metavar="N", type=at_least_one, default=5, help="turns of each; default: 5"
    )
    trainers.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="any other setting, of all contenders",
    )
    add_options(trainers)
    trainers.set_defaults(run=_trainers)


def _run(name: str, module: Any, args: argparse.Namespace) -> int:
    """Measure, print, and tell by the exit code whether a budget is missed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy starts its threads
    from hyperoracle_trainers.bench.figures import machine
    from hyperoracle_trainers.bench.processes import Unmeasurable

    try:
        figures = module.run(args, _say)
    except Unmeasurable as error:
        _say(f"hyperoracle bench {name}: {error}")
        return 2
    if args.json:
        rows = [figure.as_json() for figure in figures]
        print(json.dumps({"name": name, **machine(), "figures": rows}))
    else:
        from hyperoracle_trainers.commands.tables import figures_table, show

        show(figures_table(name, figures))
    return 1 if any(figure.ok is False for figure in figures) else 0


def _trainers(args: argparse.Namespace) -> int:
    # Before torch and NumPy start their threads: one core is to be measured.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from hyperoracle_trainers.bench import trainers
    from hyperoracle_trainers.bench.peer import PEER, peer_is_installed
    from hyperoracle_trainers.hyperparameters.arguments import ArgumentError
    from hyperoracle_trainers.hyperparameters.settings import SettingsError

    try:
        runs = [_settings(name, args) for name in args.algorithms.split(",")]
        if not peer_is_installed():
            _say(f"{PEER} is not installed, so there are no ratios to it: pip install {PEER}")
        rows = [_measured(settings, args) for settings in runs]
    except (ArgumentError, SettingsError) as error:
        _say(f"hyperoracle bench: {error}")
        return 2
    if args.json:
        figures = {
            "name": "trainers",
            "env_steps": args.env_steps,
            "repeats": args.repeats,
            **trainers.machine(),
            "rows": rows,
        }
        print(json.dumps(figures))
    else:
        _print(rows)
    return 1 if any(row["ok"] is False for row in rows) else 0


def _settings(algorithm: str, args: argparse.Namespace) -> Any:
    from hyperoracle_trainers.bench.trainers import settings_to_measure
    from hyperoracle_trainers.hyperparameters.arguments import ArgumentError, parse_settings
    from hyperoracle_trainers.hyperparameters.settings import SETTINGS_CLASSES

    if algorithm not in SETTINGS_CLASSES:
        known = " or ".join(SETTINGS_CLASSES)
        raise ArgumentError(
            f"--algorithms {args.algorithms}: expected {known}, got {algorithm!r}; "
            "separate them by commas"
        )
    return settings_to_measure(algorithm, args.env, parse_settings(algorithm, args.set))


def _measured(settings: Any, args: argparse.Namespace) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import Progress

    from hyperoracle_trainers.bench.trainers import contenders_for, measure

    console = Console(stderr=True)
    turns = len(contenders_for(settings)) * (1 + args.repeats)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(type(settings).__name__.removesuffix("Settings"), total=turns)
        return measure(
            settings,
            env_steps=args.env_steps,
            repeats=args.repeats,
            tick=lambda: progress.advance(task),
        )


def _print(rows: list[dict[str, Any]]) -> None:
    from hyperoracle_trainers.commands.tables import show, speed_table

    for row in rows:
        show(speed_table(row))


def _say(text: str) -> None:
    print(text, file=sys.stderr)
