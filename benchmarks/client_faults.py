"""What an oracle that fails costs a training run: 200 updates of A2C.

    python benchmarks/client_faults.py [--repeats 5] [--phases 200] [--json]

Trains on CartPole-v1 beside a real server, which fails soon after the job has joined: killed, hung
(SIGSTOP), slow (each answer two seconds late) or answering garbage or another's JSON (through
`tests/support/fault_proxy.py`). In the same process the same training without any oracle takes
turns with it, update by update: what else the machine does, and how fast it is by the minute,
meets both. Loss: (seconds - seconds without an oracle - two deadlines + processor time of the
client's own threads) / seconds without; the threads are counted since they also work while it is
the other's turn. At the end of a run the fault ends, and the server must hold every report once.
Must hold: all updates are made, a loss below 5 % (median over repeats), every report once.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.fault_proxy import GARBAGE_BYTES, WRONG_JSON, Delay, FaultProxy, Passing
from support.oracle_process import OracleProcess
from support.waiting import wait_until
from support.wire_client import Wire

from hyperoracle_client import Job, Oracle, Scale
from hyperoracle_client.job.circuit import FAILURES_THAT_OPEN
from hyperoracle_trainers.algorithms.actor_critic import A2C
from hyperoracle_trainers.algorithms.oracle_source import OracleSource
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.sources import FixedSource

DEADLINE = 0.05
"""Seconds: the client's own default."""

MOST_LOSS = 0.05
BEGIN = 5
ENVS, ROLLOUT = 16, 64
ARMS = ("well", "killed", "hung", "slow", "garbage", "another's json")


class Run(NamedTuple):
    """What came of a run, from the fault's begin, after update BEGIN, to the last update's end.

    Attributes:
        seconds: of its updates.
        alone: of as many updates without an oracle, which took turns with them.
        background: processor seconds of all threads but the one that trains.
        asking: seconds in the client's calls.
        late: proposals that missed their deadline.
        reports: that the server holds at the end.
    """

    seconds: float
    alone: float
    background: float
    asking: float
    late: int
    reports: int

    @property
    def loss(self) -> float:
        """The share of time lost beyond the deadlines after which the circuit is open."""
        return (
            self.seconds - self.alone - FAILURES_THAT_OPEN * DEADLINE + self.background
        ) / self.alone

    @property
    def in_calls(self) -> float:
        """The share of the run's time that its calls took, but for deadlines missed."""
        return (self.asking - self.late * DEADLINE) / self.seconds


def trainer(phases: int) -> A2C:
    """A2C on CartPole-v1, 1,024 env steps an update."""
    settings = default_settings(
        "a2c", "CartPole-v1", number_of_envs=ENVS, rollout_length=ROLLOUT,
        total_env_steps=phases * ENVS * ROLLOUT, seed=3,
    )  # fmt: skip
    return A2C(settings)


def in_turns(*courses: Iterator[Any]) -> Iterator[tuple[list[Any], list[float]]]:
    """Courses of training, an update of each at a time; yields their phases and seconds."""
    while True:
        phases, seconds = [], []
        for course in courses:
            began = time.perf_counter()
            phase = next(course, None)
            if phase is None:
                return
            phases.append(phase)
            seconds.append(time.perf_counter() - began)
        yield phases, seconds


def background_seconds() -> float:
    """Processor seconds so far of all threads of this process but the calling one."""
    return time.process_time() - time.thread_time()


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
        spent = [0.0, 0.0]
        updates = 0
        for (_, phase), seconds in in_turns(
            trainer(phases).train(FixedSource()), agent.train(source)
        ):
            updates += 1
            if phase.index > BEGIN:
                spent = [total + more for total, more in zip(spent, seconds, strict=True)]
            if phase.index == BEGIN:
                # It may be open: a busy machine misses deadlines without any fault.
                wait_until("the circuit is closed", lambda: job.stats.circuit == "closed")
                before = job.stats
                begin()
                worked = background_seconds()
            if phase.index == phases - 1:
                after = job.stats
                worked = background_seconds() - worked
                end()
                wait_until("reports are delivered", lambda: job.stats.reports_pending == 0, 60)
        assert updates == phases
    wire = Wire(url=server.url)
    (job_row,) = wire.call("GET", f"/v1/studies/{study}/jobs").json["jobs"]
    wire.close()
    asking = [each.propose_seconds + each.report_seconds for each in (before, after)]
    late = after.late - before.late
    alone, took = spent
    return Run(took, alone, worked, asking[1] - asking[0], late, job_row["reports"])


def measured(repeats: int, phases: int) -> dict[str, list[Run]]:
    """Runs of each arm; the arms in turn within a repeat, in an order that chance chooses."""
    found: dict[str, list[Run]] = {arm: [] for arm in ARMS}
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, OracleProcess(Path(folder)) as server:
        for repeat in range(repeats):
            for arm in chance.sample(ARMS, len(ARMS)):
                found[arm].append(run_with(arm, server, phases, f"{ARMS.index(arm)}-{repeat}"))
    return found


def median(runs: Sequence[Run], what: Callable[[Run], float]) -> float:
    """Of runs, of what is said of each."""
    return statistics.median(map(what, runs))


def main() -> None:
    """Measure and print; exit status 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--phases", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measured(arguments.repeats, arguments.phases)
    rows = {
        arm: {
            "seconds": median(runs, lambda run: run.seconds),
            "seconds_alone": median(runs, lambda run: run.alone),
            "loss": median(runs, lambda run: run.loss),
            "losses": [run.loss for run in runs],
            "in_calls": median(runs, lambda run: run.in_calls),
            "reports": [run.reports for run in runs],
        }
        for arm, runs in found.items()
    }
    holds = all(
        set(row["reports"]) == {arguments.phases} and (arm == "well" or row["loss"] < MOST_LOSS)
        for arm, row in rows.items()
    )
    if arguments.json:
        print(json.dumps({"arms": rows, "holds": holds, "machine": platform.machine()}))
    else:
        print(f"{arguments.phases} updates of A2C, medians of {arguments.repeats} repeats")
        for arm, row in rows.items():
            counts = "every" if set(row["reports"]) == {arguments.phases} else "NOT every"
            print(
                f"{arm:14} {row['seconds']:5.2f} s, without an oracle {row['seconds_alone']:5.2f} "
                f"s: loss {100 * row['loss']:+5.1f} % ({100 * min(row['losses']):+.1f} to "
                f"{100 * max(row['losses']):+.1f}), {100 * row['in_calls']:4.1f} % in calls, "
                f"{counts} report once"
            )
        print("holds" if holds else "DOES NOT HOLD")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
