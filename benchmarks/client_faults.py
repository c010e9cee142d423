"""What an oracle that fails costs a training run: 200 updates of A2C.

    python benchmarks/client_faults.py [--repeats 5] [--phases 200] [--json]

Trains on CartPole-v1 beside a real server, which fails soon after the job has joined: killed, hung
(SIGSTOP), slow (each answer two seconds late) or answering garbage or another's JSON (through
`tests/support/fault_proxy.py`), and without any oracle; all arms in turn within a repeat, in an
order that chance chooses. Loss: (seconds - seconds without an oracle - one deadline) over the
latter, the median over repeats; where other work disturbs it, the share of a run's own time that
its calls of the client take says more. At the end of a run the fault ends, and the server must hold
every report once. Must hold: all updates are made, a loss below 5 %, every report once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.fault_proxy import GARBAGE_BYTES, WRONG_JSON, Delay, FaultProxy, Passing
from support.oracle_process import OracleProcess
from support.waiting import wait_until
from support.wire_client import Wire

from hyperoracle_client import Job, Oracle, Scale
from hyperoracle_trainers.a2c import A2C
from hyperoracle_trainers.hyperparameter_source import FixedSource
from hyperoracle_trainers.oracle_source import OracleSource
from hyperoracle_trainers.presets import default_settings

DEADLINE = 0.05
"""Seconds: the client's own default."""

MOST_LOSS = 0.05
BEGIN = 5
ENVS, ROLLOUT = 16, 64
ALONE = "without an oracle"
ARMS = (ALONE, "well", "killed", "hung", "slow", "garbage", "another's json")


class Run(NamedTuple):
    """What came of a run.

    Attributes:
        seconds: from the fault's begin, after update BEGIN, to the last update's end.
        asking: seconds in the client's calls, from the fault's begin to its end.
        late: proposals that missed their deadline meanwhile.
        reports: that the server holds at the end.
    """

    seconds: float
    asking: float
    late: int
    reports: int


def trainer(phases: int) -> A2C:
    """A2C on CartPole-v1, 1,024 env steps an update."""
    settings = default_settings(
        "a2c", "CartPole-v1", number_of_envs=ENVS, rollout_length=ROLLOUT,
        total_env_steps=phases * ENVS * ROLLOUT, seed=3,
    )  # fmt: skip
    return A2C(settings)


def seconds_alone(phases: int) -> float:
    """Of a run that asks nobody, from the end of update BEGIN to the last's."""
    times = [time.perf_counter() for _ in trainer(phases).train(FixedSource())]
    assert len(times) == phases
    return times[-1] - times[BEGIN]


def faults(server: OracleProcess, proxy: FaultProxy) -> dict[str, tuple[Callable[[], Any], ...]]:
    """By arm what begins the fault, and what ends it."""

    def nothing() -> None:
        pass

    return {
        "well": (nothing, nothing),
        "killed": (server.kill, server.start),
        "hung": (
            lambda: os.kill(server.pid, signal.SIGSTOP),
            lambda: os.kill(server.pid, signal.SIGCONT),
        ),
        "slow": (
            lambda: proxy.become(Delay(towards_client=2.0)),
            lambda: proxy.become(Passing()),
        ),
        "garbage": (lambda: proxy.become(GARBAGE_BYTES), lambda: proxy.become(Passing())),
        "another's json": (lambda: proxy.become(WRONG_JSON), lambda: proxy.become(Passing())),
    }


def run_with(arm: str, server: OracleProcess, phases: int, study: str) -> Run:
    """A run with the fault from update BEGIN to the last.

    Raises:
        AssertionError: an update is missing.
    """
    with (
        FaultProxy(int(server.url.rpartition(":")[2])) as proxy,
        tempfile.TemporaryDirectory() as spool,
        Oracle(proxy.url, spool_directory=spool, propose_deadline_seconds=DEADLINE) as oracle,
    ):
        begin, end = faults(server, proxy)[arm]
        agent = trainer(phases)
        space = {"learning_rate": Scale([0.5, 1, 2])}
        source = OracleSource.start(oracle, agent, study=study, space=space, strategy="epgt")
        job = source.job
        assert isinstance(job, Job)
        assert job.wait_until_joined(30)
        times = []
        for phase in agent.train(source):
            times.append(time.perf_counter())
            if phase.index == BEGIN:
                # It may be open: a busy machine misses deadlines without any fault.
                wait_until("the circuit is closed", lambda: job.stats.circuit == "closed")
                before = job.stats
                begin()
                began = time.perf_counter()
            if phase.index == phases - 1:
                after = job.stats
                end()
                wait_until("reports are delivered", lambda: job.stats.reports_pending == 0, 60)
        assert len(times) == phases
    wire = Wire(url=server.url)
    (job_row,) = wire.call("GET", f"/v1/studies/{study}/jobs").json["jobs"]
    wire.close()
    asking = [each.propose_seconds + each.report_seconds for each in (before, after)]
    late = after.late - before.late
    return Run(times[-1] - began, asking[1] - asking[0], late, job_row["reports"])


def measured(repeats: int, phases: int) -> dict[str, dict[str, Any]]:
    """Medians of each arm, and the reports that the server holds.

    `in_calls` is the share of a run's time that its calls of the client took, but for deadlines
    missed.
    """
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    reports: dict[str, list[int]] = {arm: [] for arm in ARMS}
    in_calls: dict[str, list[float]] = {arm: [] for arm in ARMS}
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, OracleProcess(Path(folder)) as server:
        for repeat in range(repeats):
            for arm in chance.sample(ARMS, len(ARMS)):
                if arm == ALONE:
                    seconds[arm].append(seconds_alone(phases))
                    continue
                study = f"{ARMS.index(arm)}-{repeat}"
                run = run_with(arm, server, phases, study)
                seconds[arm].append(run.seconds)
                reports[arm].append(run.reports)
                in_calls[arm].append((run.asking - run.late * DEADLINE) / run.seconds)
    found: dict[str, dict[str, Any]] = {}
    for arm in ARMS:
        losses = [
            (took - alone - DEADLINE) / alone
            for took, alone in zip(seconds[arm], seconds[ALONE], strict=True)
        ]
        found[arm] = {"seconds": statistics.median(seconds[arm])}
        if arm != ALONE:
            found[arm] |= {
                "loss": statistics.median(losses),
                "losses": losses,
                "reports": reports[arm],
                "in_calls": statistics.median(in_calls[arm]),
            }
    return found


def main() -> None:
    """Measure and print; exit status 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--phases", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measured(arguments.repeats, arguments.phases)
    holds = all(
        set(each["reports"]) == {arguments.phases} and (arm == "well" or each["loss"] < MOST_LOSS)
        for arm, each in found.items()
        if arm != ALONE
    )
    if arguments.json:
        print(json.dumps({"arms": found, "holds": holds, "machine": platform.machine()}))
    else:
        print(f"{arguments.phases} updates of A2C, medians of {arguments.repeats} repeats")
        for arm, each in found.items():
            more = ""
            if arm != ALONE:
                counts = "every" if set(each["reports"]) == {arguments.phases} else "NOT every"
                least, most = min(each["losses"]), max(each["losses"])
                more = (
                    f"  loss {100 * each['loss']:+5.1f} % ({100 * least:+.1f} to "
                    f"{100 * most:+.1f}), {100 * each['in_calls']:4.1f} % in calls, "
                    f"{counts} report once"
                )
            print(f"{arm:18} {each['seconds']:6.2f} s{more}")
        print("holds" if holds else "DOES NOT HOLD")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
