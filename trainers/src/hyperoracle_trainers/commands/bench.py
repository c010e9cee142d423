"""Measure what HyperOracle costs and how fast it is."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hyperoracle_client.commands.options import add_options

BENCHMARKS: tuple[str, ...] = (
    "imports",
    "overhead",
    "propose",
    "start",
    "trainers",
)
"""Modules of `bench/`: `add_arguments(parser)`, and `run(args, say)`, which returns figures.

Beyond the standard library they import what they need when they run."""

TOLERANCE = 1.5


def register(subparsers: Any) -> None:
    """Add `hyperoracle bench`."""
    parser = subparsers.add_parser("bench", help=__doc__, description=__doc__)
    benchmarks = parser.add_subparsers(metavar="BENCHMARK", required=True)
    for name in BENCHMARKS:
        description = _module(name).__doc__
        each = benchmarks.add_parser(
            name,
            help=str(description).partition("\n")[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _module(name).add_arguments(each)
        add_options(each)
        each.set_defaults(run=partial(_one, name))

    everything = benchmarks.add_parser(
        "all", help="one after the other", description="All benchmarks, one after the other."
    )
    everything.add_argument("--only", metavar="NAMES", help=f"of {','.join(BENCHMARKS)}")
    add_options(everything)
    everything.set_defaults(run=_all)

    report = benchmarks.add_parser(
        "report", help="write a page from what was measured",
        description="Write a page from what `hyperoracle bench all --json` printed.",
    )  # fmt: skip
    report.add_argument("file", metavar="FILE", type=Path)
    report.add_argument("--out", metavar="PAGE.md", type=Path, help="default: print it")
    report.set_defaults(run=_report)

    check = benchmarks.add_parser(
        "check", help="compare what was measured with what was measured before",
        description="Compare ratios, which are the same on any machine, with those of another "
        "file. The exit code is 1 if one is worse by more than the tolerance.",
    )  # fmt: skip
    check.add_argument("file", metavar="FILE", type=Path)
    check.add_argument("--against", metavar="FILE", type=Path, required=True)
    check.add_argument(
        "--tolerance",
        metavar="TIMES",
        type=float,
        default=TOLERANCE,
        help=f"how many times worse is still as good; default: {TOLERANCE}",
    )
    check.set_defaults(run=_check)


def _module(name: str) -> Any:
    return importlib.import_module(f"hyperoracle_trainers.bench.{name}")


def _one(name: str, args: argparse.Namespace) -> int:
    given = shlex.join(each for each in sys.argv[2:] if each != "--json")
    return _run([(name, args, f"hyperoracle bench {given}")], args)


def _all(args: argparse.Namespace) -> int:
    """Each by its own defaults."""
    names = list(BENCHMARKS) if args.only is None else args.only.split(",")
    for name in names:
        if name not in BENCHMARKS:
            _say(f"hyperoracle bench all: expected names among {', '.join(BENCHMARKS)}, got {name}")
            return 2
    wanted = [(name, _defaults_of(name), f"hyperoracle bench {name}") for name in names]
    return _run(wanted, args)


def _defaults_of(name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    _module(name).add_arguments(parser)
    return parser.parse_args([])


Wanted = tuple[str, argparse.Namespace, str]
"""A benchmark's name, its arguments, and the command that gives these."""


def _run(wanted: Sequence[Wanted], args: argparse.Namespace) -> int:
    """Measure, print, and tell by the exit code whether a budget is missed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy starts its threads
    from hyperoracle_trainers.bench.figures import machine
    from hyperoracle_trainers.bench.processes import Unmeasurable

    measured = []
    with _quiet_client():
        for name, given, command in wanted:
            try:
                measured.append((name, command, _module(name).run(given, _say)))
            except Unmeasurable as error:
                _say(f"hyperoracle bench {name}: {error}")
                return 2
    if args.json:
        benchmarks = [
            {
                "name": name,
                "description": _module(name).__doc__,
                "command": command,
                "figures": [figure.as_json() for figure in figures],
            }
            for name, command, figures in measured
        ]
        print(json.dumps({**machine(), "benchmarks": benchmarks}))
    else:
        from hyperoracle_trainers.commands.tables import figures_table, show

        for name, _, figures in measured:
            show(figures_table(name, figures))
    missed = any(figure.ok is False for _, _, figures in measured for figure in figures)
    return 1 if missed else 0


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Figures tell of troubles; a line for each would hide them."""
    logger = logging.getLogger("hyperoracle_client")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _report(args: argparse.Namespace) -> int:
    from hyperoracle_trainers.bench.report import NoDocument, page, read

    try:
        text = page(read(args.file))
    except NoDocument as error:
        _say(f"hyperoracle bench report: {error}")
        return 2
    if args.out is None:
        print(text)
    else:
        args.out.write_text(text, encoding="utf-8")
    return 0


def _check(args: argparse.Namespace) -> int:
    from hyperoracle_trainers.bench.report import NoDocument, read, worse

    try:
        lines, compared = worse(read(args.file), read(args.against), args.tolerance)
    except NoDocument as error:
        _say(f"hyperoracle bench check: {error}")
        return 2
    if not compared:
        _say("hyperoracle bench check: expected ratios that both files have, got none")
        return 2
    for line in lines:
        print(line)
    if not lines:
        print(f"{compared} ratios are as good as before, within {args.tolerance:g} times")
    return 1 if lines else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)
