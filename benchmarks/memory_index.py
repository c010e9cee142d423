"""From which size on search graphs answer faster than a scan of the memory, and what they find.

    python benchmarks/memory_index.py [--keys drifting,uniform] [--hyper-actions 7] [--json]

For memories of growing size: the time of a read by the scan and by graphs with the search effort
that the wanted recall takes, and the least recall of any hyper-action in its worst region, by age
and by distance (`hyperoracle_server.keyed.memory.recall`). `drifting` keys are those of twenty
training runs that begin close together and move away from each other at growing steps; `uniform`
ones have no structure, which is the hardest case. At its end: the size at which graphs first answer
faster (`GRAPHS_PAY_FROM`, keys per hyper-action), and how many keys a scan visits while a graph
weighs a candidate (`KEYS_PER_CANDIDATE`). Figures are medians; only ratios of one run mean
anything.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from hyperoracle_server.keyed.memory import EpisodicMemory, MemorySettings

KEY_SIZE = 32
SIZES = (500, 1_000, 2_000, 4_000, 8_000, 16_000)
"""Keys per hyper-action."""

READS = 50


def drifting(count: int, rng: np.random.Generator) -> np.ndarray:
    """Keys of twenty runs, interleaved as they come: the k-th step of each is 1 + k / n long."""
    runs = 20
    steps = -(-count // runs)
    length = 0.02 * (1.0 + 50.0 * np.arange(steps) / steps)
    walk = rng.normal(size=(steps, runs, KEY_SIZE)) * length[:, None, None] / KEY_SIZE**0.5
    return walk.cumsum(axis=0).reshape(-1, KEY_SIZE)[:count].astype(np.float32)


def uniform(count: int, rng: np.random.Generator) -> np.ndarray:
    """Independent normal keys."""
    return rng.normal(size=(count, KEY_SIZE)).astype(np.float32)


def measure(kind: str, per_action: int, actions: int) -> dict[str, Any]:
    """One memory, by scan and by graphs."""
    rng = np.random.default_rng(per_action)
    count = per_action * actions
    keys = {"drifting": drifting, "uniform": uniform}[kind](count, rng)
    chosen, values = rng.integers(0, actions, count), rng.normal(size=count)
    queries = keys[rng.integers(0, count, READS)] + 0.01 * rng.normal(size=(READS, KEY_SIZE))
    seconds = {}
    memories = {}
    for index in ("exact", "hnsw"):
        memory = EpisodicMemory(KEY_SIZE, actions, MemorySettings(capacity=count, index=index))  # type: ignore[arg-type]  # one of its values
        memory.load(np.arange(count), keys, chosen, values)
        began = time.perf_counter()
        memory.build_index()
        build = time.perf_counter() - began
        memories[index] = memory
    for _ in range(3):  # in turn, so that a busy machine is as busy for both
        for index, memory in memories.items():
            times = []
            for query in queries:
                began = time.perf_counter()
                memory.read(query)
                times.append(time.perf_counter() - began)
            seconds.setdefault(index, []).append(statistics.median(times))
    scan, graphs = (statistics.median(seconds[index]) for index in ("exact", "hnsw"))
    memory = memories["hnsw"]
    efforts = memory.graph_efforts
    answered = len(efforts) == actions
    weighed = sum(efforts)
    return {
        "what": f"{kind} keys, {per_action:,} for each of {actions} hyper-actions",
        "value": 1e3 * graphs if answered else None, "unit": "ms", "floor": 1e3 * scan,
        "ratio": graphs / scan if answered else None, "budget": None, "ok": True,
        "per_hyper_action": per_action, "by_graphs": len(efforts),
        "search_effort": statistics.median(efforts) if efforts else None,
        "recall": memory.check_recall(64) if efforts else None, "build_seconds": build,
        "keys_per_candidate": graphs / weighed / (scan / count) if answered else None,
    }  # fmt: skip


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", default="drifting,uniform")
    parser.add_argument("--hyper-actions", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for kind in args.keys.split(","):
        for size in SIZES:
            row = measure(kind, size, args.hyper_actions)
            rows.append(row)
            if not args.json:
                _print(row)
    found = [row["keys_per_candidate"] for row in rows if row["keys_per_candidate"]]
    pays = [row["per_hyper_action"] for row in rows if row["ratio"] and row["ratio"] < 1]
    crossover = {
        "GRAPHS_PAY_FROM": min(pays, default=None),
        "KEYS_PER_CANDIDATE": round(statistics.median(found)) if found else None,
    }
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True,
                            text=True, check=False).stdout.strip()  # fmt: skip
    if args.json:
        machine = f"{platform.machine()}, {platform.python_version()}"
        print(json.dumps({"name": "memory_index", "machine": machine, "commit": commit,
                          "rows": rows, **crossover}, indent=1))  # fmt: skip
    else:
        print(crossover)
    return 0


def _print(row: dict[str, Any]) -> None:
    graphs = "the scan answers: too little was found"
    if row["value"] is not None:
        graphs = (f"graphs {row['value']:7.3f} ms ({row['ratio']:5.2f} x), effort "
                  f"{row['search_effort']:g}, recall {row['recall']:.2f}")  # fmt: skip
    print(f"{row['what']:52} scan {row['floor']:7.3f} ms, {graphs}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
