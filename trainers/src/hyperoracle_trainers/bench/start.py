"""How soon an oracle with a large store is ready again after `kill -9`.

A store is filled through an embedded oracle, served, and its server killed with a report under
way. The time is from the start of the process to a 200 from `/readyz`. Beside it: the same with an
empty store, most of which are imports.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from hyperoracle_trainers.bench.figures import Figure, Say, median_of, positive

if TYPE_CHECKING:
    from hyperoracle_trainers.bench.processes import ServedOracle

BUDGET_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what may be chosen."""
    parser.add_argument("--entries", metavar="N", type=positive, default=100_000,
                        help="that the study remembers; filling takes about 1 ms each; "
                        "default: 100,000")  # fmt: skip
    parser.add_argument("--repeats", metavar="N", type=positive, default=5, help="default: 5")


def run(args: argparse.Namespace, say: Say) -> list[Figure]:
    """Measure."""
    from hyperoracle_trainers.bench.processes import ServedOracle
    from hyperoracle_trainers.bench.workloads import filled_store

    with tempfile.TemporaryDirectory() as place:
        empty, full = Path(place) / "empty", Path(place) / "full"
        empty.mkdir()
        full.mkdir()
        say(f"start: filling a memory with {args.entries:,} entries")
        filled_store(full, args.entries, 1)
        seconds: dict[str, list[float]] = {"empty": [], "full": []}
        with ServedOracle(empty) as without, ServedOracle(full) as oracle:
            for repeat in range(1, args.repeats + 1):
                say(f"start: kill {repeat} of {args.repeats}")
                seconds["empty"].append(seconds_until_ready_again(without))
                seconds["full"].append(seconds_until_ready_again(oracle))
            resident = oracle.resident_megabytes()
            beside = without.resident_megabytes()
    entries = f"{args.entries:,} entries"
    floor = median_of("", seconds["empty"], "s").value
    return [
        median_of(
            f"ready again with {entries}", seconds["full"], "s",
            beside={"empty store": floor}, budget=BUDGET_SECONDS,
        ),
        Figure(f"memory of a server with {entries}", resident, "MB",
               beside={"empty store": beside}),
    ]  # fmt: skip


def seconds_until_ready_again(oracle: ServedOracle) -> float:
    """Kill a server; the seconds from its start to a 200 from `/readyz`."""
    from hyperoracle_trainers.bench.processes import START_SECONDS, Unmeasurable

    oracle.kill()
    began = time.perf_counter()
    oracle.start()
    while time.perf_counter() - began < START_SECONDS:
        try:
            with urllib.request.urlopen(f"{oracle.url}/readyz", timeout=30):  # noqa: S310 - ours
                return time.perf_counter() - began
        except urllib.error.HTTPError as refused:  # not ready yet
            refused.close()
            time.sleep(0.02)  # readiness is asked for; it does not announce itself
    raise Unmeasurable(f"the oracle was not ready within {START_SECONDS:.0f} s")
