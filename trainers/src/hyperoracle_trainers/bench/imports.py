"""How long it takes until a program has what it imports.

Each import is timed in an interpreter of its own, in turn with one that imports nothing; figures
are medians, less what the bare interpreter takes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from hyperoracle_trainers.bench.figures import Figure, Say, median_of, positive

BUDGET_SECONDS = 0.4
_STATEMENTS = {
    "client": "import hyperoracle_client; hyperoracle_client.Oracle",
    "server": "import hyperoracle_server.api.app",
    "trainers": "from hyperoracle_trainers import run",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what may be chosen."""
    parser.add_argument("--repeats", metavar="N", type=positive, default=5, help="default: 5")


def run(args: argparse.Namespace, say: Say) -> list[Figure]:
    """Measure."""
    statements = {"nothing": "pass", **_STATEMENTS}
    seconds: dict[str, list[float]] = {name: [] for name in statements}
    for repeat in range(args.repeats + 1):
        say(f"imports: round {repeat} of {args.repeats}")
        for name, statement in statements.items():
            took = _seconds(statement)
            if repeat:  # the first round fills the caches of files
                seconds[name].append(took)
    bare = median_of("", seconds["nothing"], "s").value
    figures = [
        median_of(
            f"import of the {name}",
            [each - bare for each in seconds[name]],
            "s",
            beside={"bare interpreter": bare},
            budget=BUDGET_SECONDS if name == "client" else None,
        )
        for name in _STATEMENTS
    ]
    heavy = ("import sys, hyperoracle_client as _; print(sum(n in sys.modules for n in "
             "('torch', 'httpx', 'gymnasium', 'fastapi')))")  # fmt: skip
    found = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", heavy], capture_output=True, text=True, check=True
    )
    what = "torch, httpx, gymnasium, fastapi that the client imports"
    return [*figures, Figure(what, float(found.stdout), "", budget=0.0, stands=True)]


def _seconds(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603 - our own
    return time.perf_counter() - began
