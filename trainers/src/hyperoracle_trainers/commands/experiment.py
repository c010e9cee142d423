"""Make many runs by a definition, and report what they say together."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from hyperoracle_client.commands.options import add_options
from hyperoracle_trainers.commands.numbers import at_least_one

_RESULTS = Path("benchmarks/results/experiments")
_EXIT_INTERRUPTED = 130


def register(subparsers: Any) -> None:
    """Add `hyperoracle experiment`."""
    parser = subparsers.add_parser("experiment", help=__doc__, description=__doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    runner = _action(actions, "run", _run, "make the runs that are missing; again to go on")
    runner.add_argument(
        "--processes", metavar="N", type=at_least_one, help="runs at once; default: one a core"
    )
    runner.add_argument(
        "--max-minutes", metavar="M", type=_minutes, help="stop in time; default: when all is made"
    )
    runner.add_argument(
        "--shard",
        metavar="I/N",
        type=_shard,
        default=(1, 1),
        help="this machine's part of N machines', such as 1/3; merge their results afterwards",
    )
    _action(actions, "report", _report, "write README.md and pictures beside the results")
    merger = _action(actions, "merge", _merge, "copy results of other machines to this one's")
    merger.add_argument("sources", metavar="FOLDER", nargs="+", help="results of another machine")
    lister = actions.add_parser(
        "list", help="the definitions that come with it", description="List definitions."
    )

    add_options(lister)
    lister.set_defaults(run=_list)


def _action(actions: Any, name: str, run: Any, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=what, description=what)
    parser.add_argument("name", metavar="NAME", help="a shipped definition, or a .toml file")
    parser.add_argument(
        "--results", metavar="FOLDER", help=f"default: {_RESULTS}/NAME of this folder"
    )
    add_options(parser)
    parser.set_defaults(run=lambda args: _guarded(run, args))
    return parser


def _guarded(run: Any, args: argparse.Namespace) -> int:
    from hyperoracle_trainers.child_processes import termination_as_interrupt
    from hyperoracle_trainers.experiments.definition import DefinitionError
    from hyperoracle_trainers.experiments.results import ResultsError
    from hyperoracle_trainers.experiments.runner import RunnerError

    try:
        with termination_as_interrupt():
            run(args)
    except (DefinitionError, ResultsError) as error:
        print(f"hyperoracle experiment: {error}", file=sys.stderr)
        return 2
    except (RunnerError, OSError) as error:
        print(f"hyperoracle experiment: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hyperoracle experiment: stopped; run again to go on", file=sys.stderr)
        return _EXIT_INTERRUPTED
    return 0


def _experiment_and_results(args: argparse.Namespace) -> tuple[Any, Path]:
    from hyperoracle_trainers.experiments.definition import find_definition, read_definition

    experiment = read_definition(find_definition(args.name))
    return experiment, Path(args.results) if args.results else _RESULTS / experiment.name


def _run(args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from hyperoracle_trainers.experiments.runner import progress_of, run_experiment

    experiment, folder = _experiment_and_results(args)
    before = progress_of(experiment, folder)
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(experiment.name, total=before.planned, completed=before.made)
        run_experiment(
            experiment,
            folder,
            command=shlex.join(["hyperoracle", "experiment", "run", args.name]),
            processes=args.processes or os.cpu_count() or 1,
            max_minutes=args.max_minutes,
            shard=args.shard,
            made=lambda _: progress.advance(task),
        )
    after = progress_of(experiment, folder)
    if args.json:
        figures = {"name": experiment.name, "runs": after.made, "planned_runs": after.planned}
        print(json.dumps(figures | {"made_now": after.made - before.made, "results": str(folder)}))
    else:
        print(f"{after.made} of {after.planned} runs, {after.made - before.made} of them now")
        print(f"Results: {folder}")


def _report(args: argparse.Namespace) -> None:
    from hyperoracle_trainers.experiments.report import write_report

    report = write_report(*_experiment_and_results(args))
    print(json.dumps(report.figures) if args.json else f"Report: {report.page}")


def _merge(args: argparse.Namespace) -> None:
    from hyperoracle_trainers.experiments.results import merge_results

    _, folder = _experiment_and_results(args)
    copied, known = merge_results([Path(each) for each in args.sources], folder)
    if args.json:
        print(json.dumps({"copied": copied, "known": known, "results": str(folder)}))
    else:
        print(f"{copied} results copied to {folder}, {known} were there already")


def _list(args: argparse.Namespace) -> int:
    from hyperoracle_trainers.experiments.definition import read_definition, shipped_definitions
    from hyperoracle_trainers.experiments.plan import chains_of

    rows = []
    for path in shipped_definitions():
        experiment = read_definition(path)
        runs = sum(len(list(chain.cells)) for chain in chains_of(experiment))
        rows.append({"name": path.stem, "title": experiment.tables.title, "planned_runs": runs})
    if args.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(f"{row['name']:16} {row['planned_runs']:6} runs  {row['title']}")
    return 0


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"expected minutes above 0, got {text!r}")
    return minutes


def _shard(text: str) -> tuple[int, int]:
    first, slash, machines = text.partition("/")
    if slash and first.isdecimal() and machines.isdecimal() and 1 <= int(first) <= int(machines):
        return int(first), int(machines)
    raise argparse.ArgumentTypeError(f"expected I/N with I from 1 to N, got {text!r}")
