"""What a proposal costs, beside a bare echo of the same body.

An oracle process and a bare ASGI echo run side by side, on the same kind of server. The study has a
64x64 actor-critic, the strategy `epgt` and a full memory. Rounds of calls are interleaved: the echo
by the standard library's client, `Job.propose` over HTTP, and `Job.propose` of an embedded oracle.
Figures are medians over rounds of the rounds' medians; "actions" are joint hyper-actions.
With --stages: where the time goes.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hyperoracle_trainers.bench.figures import Figure, Say, median_of, positive

if TYPE_CHECKING:
    from hyperoracle_client import Job

CALLS_PER_ROUND = 200
MILLISECONDS = 1e3
_STAGE = re.compile(r'hyperoracle_stage_duration_seconds_(sum|count)\{stage="(\w+)"\} ([0-9.e+-]+)')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what may be chosen."""
    parser.add_argument("--entries", metavar="N", type=positive, default=10_000,
                        help="that the study remembers; default: 10,000")  # fmt: skip
    parser.add_argument("--hyperparameters", metavar="N", default="1,4",
                        help="1: 7 joint hyper-actions, 4: 625; default: 1,4")  # fmt: skip
    parser.add_argument("--repeats", metavar="N", type=positive, default=5, help="default: 5")
    parser.add_argument("--stages", action="store_true", help="a row for each stage as well")


def run(args: argparse.Namespace, say: Say) -> list[Figure]:
    """Measure."""
    figures: list[Figure] = []
    for hyperparameters in map(int, args.hyperparameters.split(",")):
        figures += _measured(args, hyperparameters, say)
    return figures


def _measured(args: argparse.Namespace, hyperparameters: int, say: Say) -> list[Figure]:
    from hyperoracle_client import Oracle
    from hyperoracle_trainers.bench import workloads
    from hyperoracle_trainers.bench.processes import ServedOracle, bare_echo

    actions = workloads.joint_actions(hyperparameters)
    with tempfile.TemporaryDirectory() as place:
        here, there = Path(place) / "here", Path(place) / "there"
        here.mkdir()
        there.mkdir()
        for folder in (here, there):
            say(f"propose: {args.entries:,} entries, {actions} joint hyper-actions, {folder.name}")
            workloads.filled_store(folder, args.entries, hyperparameters)
        with (
            ServedOracle(there) as served,
            bare_echo() as echo,
            Oracle(served.url) as remote,
            Oracle(f"embedded:{here / 'oracle.db'}") as local,
        ):
            over_http = workloads.start_job(remote, hyperparameters)
            embedded = workloads.start_job(local, hyperparameters)
            body = bytes(_body_bytes())
            callers: dict[str, Callable[[int], object]] = {
                "echo": lambda _: echo(body),
                "http": _proposer(over_http),
                "embedded": _proposer(embedded),
            }
            before = _stages(served.url)
            times = _rounds(callers, {"http": over_http, "embedded": embedded}, args.repeats, say)
            after = _stages(served.url)
            lost = over_http.stats.fallbacks + embedded.stats.fallbacks
            python_calls = [calls_of(partial(callers["embedded"], n)) for n in range(5)]
    of = f"{actions} actions"
    ratios = [a / b for a, b in zip(times["http"], times["echo"], strict=True)]
    echo_ms = MILLISECONDS * median(times["echo"])
    figures = [
        median_of(f"over HTTP, of an echo, {of}", ratios, "x",
                  budget=3.0, goal=2.0, stands=True),
        median_of(f"over HTTP, {of}", [MILLISECONDS * t for t in times["http"]], "ms",
                  beside={"echo": echo_ms}),
        median_of(f"embedded, {of}", [MILLISECONDS * t for t in times["embedded"]], "ms",
                  beside={"echo": echo_ms}, budget=0.35, goal=0.2),
        median_of(f"Python calls, embedded, {of}", python_calls, "", stands=True),
        Figure(f"without an answer, {of}", float(lost), "", budget=0.0),
    ]  # fmt: skip
    if args.stages:
        figures += [
            Figure(f"{stage} in the server, {of}", MILLISECONDS * seconds / calls, "ms")
            for stage, (seconds, calls) in _since(before, after).items()
        ]
    return figures


def calls_of(call: Callable[[], object]) -> int:
    """How many Python functions a call calls: what it does, whatever else the machine does."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


def _body_bytes() -> int:
    """About the length of a proposal's body: a sketch of 8 columns, of weights and two gradients.

    One row for each of a matrix's and for each vector, as float16, and the metadata.
    """
    from hyperoracle_trainers.bench.workloads import model

    rows = sum(each.shape[0] if each.ndim > 1 else 1 for each in model().values())
    return int(3 * 8 * rows * 2 + 256)


def _proposer(job: Job) -> Callable[[int], object]:
    from hyperoracle_trainers.bench.workloads import fresh_states

    states, steps = fresh_states(8), count(1)

    def propose(n: int) -> object:
        given = states[n % len(states)]
        return job.propose(env_step=next(steps), params=given, grads=given)

    return propose


def _rounds(
    callers: dict[str, Callable[[int], object]], jobs: dict[str, Any], repeats: int, say: Say
) -> dict[str, list[float]]:
    """Each caller's median seconds a call, a round a value; the first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in callers}
    for repeat in range(repeats + 1):
        say(f"propose: round {repeat} of {repeats}")
        for name, call in callers.items():
            seconds = []
            for n in range(CALLS_PER_ROUND):
                began = time.perf_counter()
                call(n)
                seconds.append(time.perf_counter() - began)
            if repeat:
                times[name].append(median(seconds))
            if name in jobs:  # else too many proposals would wait to be credited
                jobs[name].report([0.0], env_step=(repeat + 1) * CALLS_PER_ROUND)
    return times


def _stages(url: str) -> dict[str, tuple[float, float]]:
    """Seconds and calls of each stage of the server so far."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:  # noqa: S310 - ours
        text = answer.read().decode()
    found: dict[str, dict[str, float]] = {}
    for kind, stage, value in _STAGE.findall(text):
        found.setdefault(stage, {})[kind] = float(value)
    return {stage: (each["sum"], each["count"]) for stage, each in found.items()}


def _since(
    before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    nothing = (0.0, 0.0)
    passed = {
        stage: (seconds - before.get(stage, nothing)[0], calls - before.get(stage, nothing)[1])
        for stage, (seconds, calls) in after.items()
    }
    return {stage: each for stage, each in passed.items() if each[1]}
