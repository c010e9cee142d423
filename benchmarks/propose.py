"""What a proposal costs, beside a bare echo of the same body.

    python benchmarks/propose.py [--entries 10000] [--hyperparameters 4] [--repeats 5] [--json]

One oracle process and one bare ASGI echo (uvicorn, the same settings) run side by side. The
memory is filled with `entries` triples of the default hyper-state layout of a 64x64 actor-critic.
Then rounds of calls are interleaved: the echo by `http.client`, `Job.propose` over HTTP, and
`Job.propose` of an embedded oracle. Figures are medians over rounds of the rounds' medians.
"""

from __future__ import annotations

import argparse
import http.client
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hyperoracle_client import Choice, Job, Oracle, Scale

OBSERVATIONS, ACTIONS = 11, 3
CALLS_PER_ROUND = 200

ECHO = """
import asyncio, socket, sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    head = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
uvicorn.Server(config).run(sockets=[listener])
"""


def model() -> dict[str, np.ndarray]:
    """A 64x64 actor-critic's parameters."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {}
    for trunk, outputs in (("actor", ACTIONS), ("critic", 1)):
        for layer, (rows, columns) in enumerate(((64, OBSERVATIONS), (64, 64), (outputs, 64))):
            shapes[f"{trunk}.{layer}.weight"] = (rows, columns)
            shapes[f"{trunk}.{layer}.bias"] = (rows,)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def space(hyperparameters: int) -> dict[str, Any]:
    """1 hyperparameter: 7 hyper-actions; 4: 5^4 = 625."""
    if hyperparameters == 1:
        return {"learning_rate": Scale([1 / 16, 1 / 11, 1 / 6, 1, 6, 11, 16])}
    return {
        f"hyperparameter_{i}": Choice([1, 2, 3, 4, 5], default=3) for i in range(hyperparameters)
    }


def start(oracle: Oracle, hyperparameters: int, total: int) -> Job:
    """A job on the study of this benchmark."""
    job = oracle.start_job(
        study="bench",
        space=space(hyperparameters),
        model=model(),
        total_env_steps=total,
        strategy={"name": "epgt", "encoder": {"publish_seconds": 86_400.0}},
    )
    if not job.wait_until_joined(30):
        raise SystemExit("the oracle did not take the job")
    return job


def propose(job: Job, parameters: dict[str, np.ndarray], rng: np.random.Generator, n: int) -> str:
    """One proposal with fresh parameters and gradients; returns where the answer came from."""
    for array in parameters.values():
        array[...] += rng.normal(scale=0.01, size=array.shape).astype(np.float32)
    return job.propose(env_step=n, params=parameters, grads=parameters).source


def fill(job: Job, entries: int) -> None:
    """Fill the memory through the front door: a report every hundred proposals."""
    rng = np.random.default_rng(1)
    parameters = model()
    for n in range(entries):
        propose(job, parameters, rng, n)
        if n % 100 == 99:
            job.report([float(rng.normal())], env_step=n)
            deadline = time.monotonic() + 30
            while job.stats.reports_pending and time.monotonic() < deadline:
                time.sleep(0.001)


def timed(call: Callable[[], object], calls: int) -> list[float]:
    """Seconds of each of so many calls."""
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds


def echo_caller(port: int, size: int) -> Callable[[], object]:
    """A call of the bare echo with a body of this size."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = bytes(size)

    def call() -> object:
        connection.request("POST", "/", body)
        return connection.getresponse().read()

    return call


def measure(entries: int, hyperparameters: int, repeats: int, folder: Path) -> list[dict[str, Any]]:
    """The rows of the result."""
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "hyperoracle_server", "--port", "0"]
    command += ["--store", str(folder / "a.db"), "--ready-file", str(ready)]
    server = subprocess.Popen([*command, "--log-level", "warning"], stdout=subprocess.DEVNULL)
    echo = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    try:
        while not ready.exists():
            time.sleep(0.02)
        assert echo.stdout is not None
        port = int(echo.stdout.readline())
        remote = Oracle(json.loads(ready.read_text())["url"])
        local = Oracle(f"embedded:{folder / 'b.db'}")
        jobs = {
            "propose over HTTP, p50": start(remote, hyperparameters, 10 * entries),
            "propose embedded, p50": start(local, hyperparameters, 10 * entries),
        }
        for job in jobs.values():
            fill(job, entries)
        rows = _rounds(jobs, echo_caller(port, 13_000), repeats, entries)
        remote.close()
        local.close()
        return rows
    finally:
        server.terminate()
        echo.terminate()
        server.wait()
        echo.wait()


def _rounds(
    jobs: dict[str, Job], echo: Callable[[], object], repeats: int, entries: int
) -> list[dict[str, Any]]:
    floor: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in jobs}
    worst: dict[str, list[float]] = {name: [] for name in jobs}
    sources: dict[str, int] = dict.fromkeys(jobs, 0)
    parameters, rng = model(), np.random.default_rng(2)
    timed(echo, 50)
    for _ in range(repeats):
        floor.append(statistics.median(timed(echo, CALLS_PER_ROUND)))
        for name, job in jobs.items():
            fresh = [{k: v + 0.01 * rng.normal(size=v.shape).astype(np.float32)
                      for k, v in parameters.items()} for _ in range(8)]  # fmt: skip
            seconds = []
            for n in range(CALLS_PER_ROUND):
                given = fresh[n % 8]
                began = time.perf_counter()
                answer = job.propose(env_step=entries + n, params=given, grads=given)
                seconds.append(time.perf_counter() - began)
                sources[name] += answer.source == "oracle"
            job.report([0.0], env_step=entries)
            times[name].append(statistics.median(seconds))
            worst[name].append(float(np.quantile(seconds, 0.99)))
    floor_seconds = statistics.median(floor)
    rows = [{"what": "bare echo by http.client, p50", "value": 1e3 * floor_seconds, "unit": "ms",
             "floor": None, "ratio": None, "budget": None, "ok": True}]  # fmt: skip
    for name, seconds in times.items():
        value = statistics.median(seconds)
        http_call = "HTTP" in name
        ratio = value / floor_seconds
        ok = ratio <= 3.0 if http_call else value <= 0.35e-3
        rows.append({"what": name, "value": 1e3 * value, "unit": "ms",
                     "floor": 1e3 * floor_seconds, "ratio": ratio,
                     "budget": "3 x the echo" if http_call else "0.35 ms", "ok": ok,
                     "p99": 1e3 * statistics.median(worst[name]),
                     "from_oracle": sources[name] / (repeats * CALLS_PER_ROUND)})  # fmt: skip
    return rows


def main() -> int:
    """Measure, print, and say by the exit code whether the budgets held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--hyperparameters", type=int, default=4, help="1: 7 actions, 4: 625")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(args.entries, args.hyperparameters, args.repeats, Path(folder))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True,
                            text=True, check=False).stdout.strip()  # fmt: skip
    result = {"name": "propose", "machine": f"{platform.machine()}, {platform.python_version()}",
              "commit": commit, "rows": rows}  # fmt: skip
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        for row in rows:
            ratio = "" if row["ratio"] is None else f"{row['ratio']:6.2f} x the echo"
            tail = "" if "p99" not in row else f"   p99 {row['p99']:.2f} ms"
            print(f"{row['what']:32} {row['value']:7.3f} {row['unit']} {ratio}{tail}")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
