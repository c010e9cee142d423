"""What everybody else waits while one study does its heaviest work.

    python benchmarks/stall.py [--seconds 10] [--only dqn,encoder] [--json]

One oracle with its default settings. A process of its own asks `/livez` and another study's
`propose`, one call after the other, first in quiet and then while each kind of work is done as
fast as it is answered. The heaviest study of a kind is looked for: the greatest number that the
oracle admits. Figures are of the answers' times; the budget is 50 ms at the 99.9th percentile, a
client's deadline.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.oracle_process import OracleProcess  # noqa: E402 - found by the line above
from support.wire_client import Wire, hyper_state  # noqa: E402

BUDGET_MS = 50.0
PAUSE_SECONDS = 0.002

Work = Callable[[str], Iterator[object]]
"""Prepares a study at a URL, yields once, and then does one heavy call at each step."""

TWO_LAYERS = [{"name": "w", "shape": [4, 3]}, {"name": "b", "shape": [4]}]
CHOICES = {f"hyperparameter_{i}": {"type": "categorical", "values": list("abcde"), "default": "c"}
           for i in range(4)}  # fmt: skip


# -- the work ----------------------------------------------------------------------------------


def dqn(url: str) -> Iterator[object]:
    """Reports of a Q-network of two layers of 256, batches of 256, the most steps admitted."""
    with closing(Wire(url=url)) as wire:
        for steps in (1000, 500, 200, 100, 50, 20, 15, 12, 10, 8, 5, 2, 1):
            q_learning = {"hidden_size": 256, "hidden_layers": 2, "batch_size": 256,
                          "gradient_steps": steps, "replay_start": 1}  # fmt: skip
            strategy = {"name": "dqn", "q_learning": q_learning}
            if wire.study(f"dqn-{steps}", CHOICES, strategy=strategy).status == 201:
                break
        job = wire.job(f"dqn-{steps}", total=10**6)
        yield f"{steps} gradient steps"
        for n in count():
            for sequence in range(9 * n + 1, 9 * n + 9):
                wire.propose(job, sequence, seed=sequence)
            yield wire.report(job, 9 * n + 9, 9 * n + 8).status


def encoder(url: str) -> Iterator[object]:
    """Jobs of 65 k features, each of a new study, the largest encoders; and proposals of one."""
    with closing(Wire(url=url)) as wire:
        start = {"total_env_steps": 1000, "tensors": [{"name": "w", "shape": [2730, 8]}]}

        def begin(study: str, hidden: int) -> Any:
            wire.study(study, strategy={"name": "epgt", "encoder": {"hidden_size": hidden}})
            return wire.call("POST", f"/v1/studies/{study}/jobs", start)

        for hidden in (1024, 512, 384, 320, 300, 280, 256, 192, 128, 64):
            answer = begin(f"encoder-{hidden}", hidden)
            if answer.status == 201:
                break
        job = answer.json
        yield f"{hidden} hidden units"
        stop = threading.Event()
        beside = threading.Thread(target=_proposals, args=(url, job, stop))
        beside.start()
        try:
            for n in count():
                yield begin(f"encoder-{hidden}-{n}", hidden).status
                wire.call("DELETE", f"/v1/studies/encoder-{hidden}-{n}")
        finally:
            stop.set()
            beside.join()


def _proposals(url: str, job: Any, stop: threading.Event) -> None:
    with closing(Wire(url=url)) as wire:
        for sequence in count(1):
            if stop.wait(0.01):
                return
            wire.propose(job, sequence, seed=sequence)


def anchored(url: str) -> Iterator[object]:
    """The ends of jobs of a study with 220 of them."""
    return _ends_of_jobs(url, "anchored", {"name": "anchored"}, 220)


def cautious(url: str) -> Iterator[object]:
    """The ends of jobs of the default strategy, with 500 whole ones."""
    return _ends_of_jobs(url, "cautious", {"name": "cautious_config"}, 500)


def _ends_of_jobs(url: str, study: str, strategy: Any, jobs: int) -> Iterator[object]:
    rng = np.random.default_rng(0)
    with closing(Wire(url=url)) as wire:
        wire.study(study, CHOICES, strategy=strategy)
        for n in count():
            if n == jobs:
                yield f"{jobs} jobs"
            job = wire.job(study, total=100)
            path = f"/v1/jobs/{job['job_id']}"
            for part in range(4):
                wire.propose(job, 2 * part + 1, env_step=25 * part)
                wire.report(job, 2 * part + 2, 2 * part + 1, [float(rng.normal())],
                            env_step=25 * part + 25)  # fmt: skip
            answer = wire.call("POST", f"{path}/finish", {"reason": "completed"})
            if n > jobs:
                yield answer.status


def many_credits(url: str) -> Iterator[object]:
    """Reports that credit 1,000 proposals each."""
    with closing(Wire(url=url)) as wire:
        wire.study("credits", CHOICES, strategy={"name": "epgt"})
        job = wire.job("credits", total=10**6)
        yield "1,000 credits a report"
        for n in count():
            for sequence in range(1001 * n + 1, 1001 * n + 1001):
                wire.propose(job, sequence, seed=sequence)
            yield wire.report(job, 1001 * n + 1001, 1001 * n + 1000).status


def large_bodies(url: str) -> Iterator[object]:
    """JSON bodies of a megabyte: 65,520 features, 100,000 returns."""
    with closing(Wire(url=url)) as wire:
        wire.study("bodies", strategy={"name": "epgt", "encoder": {"hidden_size": 64}})
        job = wire.job("bodies", tensors=[{"name": "w", "shape": [2730, 8]}])
        features = np.round(hyper_state(job["layout"], 0), 2)
        yield "1 MB of JSON"
        for n in count():
            state = {"signature": job["layout"]["signature"], "values": features.tolist()}
            body = {"sequence": 2 * n + 1, "update_step": n, "env_step": n, "hyper_state": state}
            wire.call("POST", f"/v1/jobs/{job['job_id']}/propose", body)
            yield wire.report(job, 2 * n + 2, 2 * n + 1, [1.0] * 100_000).status


def readers(url: str) -> Iterator[object]:
    """Whatever people read of a study of 500 jobs with metadata and 20,000 decisions."""
    with closing(Wire(url=url)) as wire:
        wire.study("read", CHOICES, strategy={"name": "epgt"})
        metadata = {f"name-{i}": "x" * 100 for i in range(20)}
        for n in range(500):
            job = wire.job("read", total=100, metadata=metadata)
            for sequence in range(1, 41):
                wire.propose(job, sequence, seed=sequence)
            wire.report(job, 41, 40, [float(n)])
            wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", {"reason": "completed"})
        yield "500 jobs, 20,000 decisions"
        base = "/v1/studies/read"
        for n in count():
            paths = (f"{base}/jobs", f"{base}/gain", f"{base}/schedule", "/v1/studies", "/metrics",
                     f"{base}/memory?limit=1000", f"{base}/memory/map?limit=10000",
                     f"{base}/diagnosis", f"{base}/schedule?format=csv")  # fmt: skip
            yield wire.call("GET", paths[n % len(paths)]).status


def snapshots(url: str) -> Iterator[object]:
    """Snapshots of a study of 20,000 entries, restored and deleted."""
    with closing(Wire(url=url)) as wire:
        wire.study("kept", CHOICES, strategy={"name": "epgt", "memory": {"capacity": 20_000}})
        job = wire.job("kept", total=10**6)
        for n in range(200):
            for sequence in range(101 * n + 1, 101 * n + 101):
                wire.propose(job, sequence, seed=sequence)
            wire.report(job, 101 * n + 101, 101 * n + 100)
        yield "20,000 entries"
        for n in count():
            taken = wire.raw("POST", "/v1/studies/kept/snapshots")
            wire.raw("POST", f"/v1/studies/copy-{n}/restore", taken.json)
            yield wire.call("DELETE", f"/v1/studies/copy-{n}").status


WORK: dict[str, Work] = {
    "dqn": dqn, "encoder": encoder, "anchored": anchored, "cautious": cautious,
    "credits": many_credits, "bodies": large_bodies, "readers": readers, "snapshots": snapshots,
}  # fmt: skip


# -- the probe ---------------------------------------------------------------------------------


def probe(url: str, seconds: float, out: Any) -> None:
    """Ask `/livez` and `propose` for so long; send the times of each, in seconds."""
    times: dict[str, list[float]] = {"/livez": [], "propose": []}
    with closing(Wire(url=url)) as wire:
        study = f"probe-{time.monotonic_ns()}"
        wire.study(study)
        job = wire.job(study, total=10**6)
        for sequence in range(1, 50):
            wire.propose(job, sequence, seed=sequence)
        wire.report(job, 50, 49)
        calls: dict[str, Callable[[int], Any]] = {
            "/livez": lambda _: wire.call("GET", "/livez"),
            "propose": lambda sequence: wire.propose(job, sequence, seed=sequence),
        }
        end = time.monotonic() + seconds
        for sequence in count(51):
            if time.monotonic() >= end:
                break
            for what, call in calls.items():
                began = time.perf_counter()
                assert call(sequence).status == 200, what
                times[what].append(time.perf_counter() - began)
                time.sleep(PAUSE_SECONDS)
    out.send(times)


@contextmanager
def probing(url: str, seconds: float) -> Iterator[Any]:
    """A probe in a process of its own; yields where its times will come from."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=probe, args=(url, seconds, there))
    process.start()
    there.close()
    yield here
    process.join()


def measure(name: str, seconds: float) -> list[dict[str, Any]]:
    """The rows of one kind of work: quiet and at work, `/livez` and `propose`."""
    with tempfile.TemporaryDirectory() as folder, OracleProcess(Path(folder)) as oracle:
        work = WORK[name](oracle.url)
        what = next(work)
        with probing(oracle.url, seconds) as times:
            quiet = times.recv()
        calls, longest = 0, 0.0
        with probing(oracle.url, seconds) as times:
            while not times.poll():
                began = time.perf_counter()
                status = next(work)
                longest = max(longest, time.perf_counter() - began)
                calls += status in (200, 201, 204)
            at_work = times.recv()
        work.close()
        if oracle.errors():
            print(oracle.errors()[:2], file=sys.stderr)
    rows = []
    for asked in ("/livez", "propose"):
        found = _percentiles(at_work[asked])
        floor = _percentiles(quiet[asked])
        rows.append({
            "what": f"{asked} beside {name} ({what}), p99.9", "value": found["p99.9"],
            "unit": "ms", "floor": floor["p99.9"], "ratio": found["p99.9"] / floor["p99.9"],
            "budget": f"{BUDGET_MS:.0f} ms", "ok": found["p99.9"] <= BUDGET_MS,
            "asked": len(at_work[asked]), **found, "work_done": calls,
            "longest_work_seconds": longest,
        })  # fmt: skip
    return rows


def _percentiles(seconds: list[float]) -> dict[str, float]:
    found = 1e3 * np.quantile(seconds, (0.5, 0.99, 0.999, 1.0))
    return dict(zip(("p50", "p99", "p99.9", "max"), found.round(2).tolist(), strict=True))


def main() -> int:
    """Measure, print, and say by the exit code whether the budgets held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each probe")
    parser.add_argument("--only", metavar="NAMES", default=",".join(WORK), help="of work")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for name in args.only.split(","):
        for row in measure(name, args.seconds):
            rows.append(row)
            if not args.json:
                print(f"{row['what']:64} {row['value']:8.2f} ms  (quiet {row['floor']:.2f}, "
                      f"p50 {row['p50']:.2f}, p99 {row['p99']:.2f}, max {row['max']:.2f}; "
                      f"{row['work_done']} calls of work, the longest "
                      f"{row['longest_work_seconds']:.2f} s)", flush=True)  # fmt: skip
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True,
                            text=True, check=False).stdout.strip()  # fmt: skip
    if args.json:
        machine = f"{platform.machine()}, {platform.python_version()}"
        result = {"name": "stall", "machine": machine, "commit": commit, "rows": rows}
        print(json.dumps(result, indent=1))
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
