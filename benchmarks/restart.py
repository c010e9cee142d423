"""How soon an oracle with a large store is ready again after `kill -9`.

    python benchmarks/restart.py [--entries 100000] [--small] [--repeats 5] [--json]

Makes a store (`tests/support/large_store.py`), serves it, kills the server with a report under
way, starts it, and takes the time from the start of the process to a 200 from `/readyz`. Beside
it: the same with an empty store, most of which are imports;
and the memory 45 s after each. Figures are medians. The hyper-states
are those of a 64x64 actor-critic (2 GB at 100,000), with --small those of a tiny model (150 MB).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.large_store import ACTOR_CRITIC, SMALL, make_large_store
from support.oracle_process import OracleProcess, seconds_until_ready_again

BUDGET_SECONDS = 5.0


SETTLED_SECONDS = 45.0
"""So long after it is ready a server's memory is looked at: search graphs are built by then."""


def measured(folder: Path, repeats: int) -> tuple[float, float]:
    """Median seconds until the store in a folder is served again, and its megabytes then."""
    with OracleProcess(folder) as process:
        seconds = statistics.median(seconds_until_ready_again(process) for _ in range(repeats))
        time.sleep(SETTLED_SECONDS)  # what it does after its start announces itself nowhere
        status = Path(f"/proc/{process.pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return seconds, int(resident.split()[1]) * 1024 / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--small", action="store_true", help="hyper-states of a tiny model")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty, full = Path(folder) / "empty", Path(folder) / "full"
        empty.mkdir()
        full.mkdir()
        tensors = SMALL if args.small else ACTOR_CRITIC
        make_large_store(full / "oracle.db", args.entries, tensors=tensors)
        megabytes = (full / "oracle.db").stat().st_size / 1e6
        (nothing, empty_memory), (all_of_it, memory) = (
            measured(folder, args.repeats) for folder in (empty, full)
        )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    rows: list[dict[str, Any]] = [
        {"what": f"ready again with {args.entries:,} entries, {megabytes:,.0f} MB",
         "value": all_of_it, "unit": "s", "floor": nothing, "ratio": all_of_it / nothing,
         "budget": BUDGET_SECONDS, "ok": all_of_it <= BUDGET_SECONDS},
        {"what": f"resident {SETTLED_SECONDS:.0f} s after it is ready", "value": memory,
         "unit": "MB", "floor": empty_memory, "ratio": memory / empty_memory},
    ]  # fmt: skip
    if args.json:
        described = {"name": "restart", "machine": platform.platform(), "commit": commit}
        print(json.dumps({**described, "rows": rows}, indent=2))
        return
    for row in rows:
        budget = f"; budget {row['budget']:.0f} s" if "budget" in row else ""
        print(f"{row['what']}: {row['value']:.2f} {row['unit']} "
              f"(empty store: {row['floor']:.2f}{budget})")  # fmt: skip


if __name__ == "__main__":
    main()
