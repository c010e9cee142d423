"""Make many runs by a definition, and report what they say together."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from time import monotonic
from typing import Any, Self

from hyperoracle_client.commands.options import add_options
from hyperoracle_trainers.commands.train import at_least_one

_RESULTS = Path("benchmarks/results/experiments")
_EXIT_INTERRUPTED = 130
_SECONDS_BETWEEN_LINES = 60.0


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
    _action(actions, "pack", _pack, "keep all results in one file, to be committed or sent")
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
    from hyperoracle_trainers.experiments.definition import DefinitionError
    from hyperoracle_trainers.experiments.packed import ResultsError
    from hyperoracle_trainers.experiments.runner import RunnerError
    from hyperoracle_trainers.runs.processes import termination_as_interrupt

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
    from hyperoracle_trainers.experiments.runner import run_experiment

    experiment, folder = _experiment_and_results(args)
    with _Display(experiment.name) as display:
        run_experiment(
            experiment,
            folder,
            command=shlex.join(["hyperoracle", "experiment", "run", args.name]),
            processes=args.processes or os.cpu_count() or 1,
            max_minutes=args.max_minutes,
            shard=args.shard,
            watch=display.show,
        )
    before, after = display.first, display.last
    made_now = after.made - before.made
    if args.json:
        figures = {"name": experiment.name, "runs": after.made, "planned_runs": after.planned}
        figures |= {"made_now": made_now, "seconds_left": after.seconds_left}
        print(json.dumps(figures | {"results": str(folder)}))
    else:
        rest = "" if after.made == after.planned else f", {_left(after)}"
        print(f"{after.made} of {after.planned} runs, {made_now} of them now{rest}")
        print(f"Results: {folder}")


class _Display:
    """Says how far an experiment is: a bar on a terminal, else a line a minute.

    Attributes:
        first: what it was told first.
        last: what it was told last.
    """

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        console = Console(stderr=True)
        left = TextColumn("{task.fields[left]}")
        columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), Elapsed(), left)
        self._is_terminal = console.is_terminal
        self._bar = Progress(*columns, console=console, disable=not self._is_terminal)
        self._task = self._bar.add_task(name, left="")
        self._next_line = 0.0
        self.first: Any = None
        self.last: Any = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Any) -> None:
        """Say it."""
        self.first, self.last = self.first or progress, progress
        left = _left(progress)
        self._bar.update(self._task, total=progress.planned, completed=progress.made, left=left)
        if not self._is_terminal and monotonic() >= self._next_line:
            self._next_line = monotonic() + _SECONDS_BETWEEN_LINES
            print(f"{progress.made} of {progress.planned} runs, {left}", file=sys.stderr)


def _left(progress: Any) -> str:
    if progress.seconds_left is None:
        return "time left unknown"
    minutes = round(progress.seconds_left / 60)
    hours = f"{minutes // 60} h " if minutes >= 60 else ""
    return f"about {hours}{minutes % 60} min left"


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


def _pack(args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from hyperoracle_trainers.experiments.packed import PACKED
    from hyperoracle_trainers.experiments.results import pack_results

    _, folder = _experiment_and_results(args)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("packing", total=None)
        results, new = pack_results(
            folder, lambda done, total: bar.update(task, completed=done, total=total)
        )
    path = folder / PACKED
    size = path.stat().st_size
    if args.json:
        print(json.dumps({"results": results, "new": new, "file": str(path), "bytes": size}))
    else:
        print(f"{path}: {results} results, {new} of them new, {size / 1e6:.2f} MB")


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
        width = max(len(str(row["name"])) for row in rows)
        for row in rows:
            print(f"{row['name']:{width}} {row['planned_runs']:6} runs  {row['title']}")
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
