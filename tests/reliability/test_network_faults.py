"""R10: a real training run against a real server, with a network between them that fails.

Seen to fail with `_receipt` of the client's report_sender.py taking any 2xx (reports are missing),
with probes that wait two seconds and take any 2xx (a second deadline is paid), with the sender
dropping what a proxy refuses (reports are missing), and with `Session._failed` not opening the
circuit (a deadline is paid at every update).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.fault_proxy import (
    GARBAGE_BYTES,
    GARBAGE_PAGE,
    WRONG_JSON,
    BlackHole,
    Delay,
    Drip,
    Fault,
    FaultProxy,
    Loss,
    Passing,
    Refuse,
    Reset,
)
from support.oracle_process import OracleProcess
from support.waiting import wait_until
from support.wire_client import Wire

from hyperoracle_client import Job, Oracle, Scale
from hyperoracle_client.job.circuit import FAILURES_THAT_OPEN
from hyperoracle_client.job.stats import JobStats
from hyperoracle_trainers.algorithms.actor_critic import A2C
from hyperoracle_trainers.algorithms.oracle_source import OracleSource
from hyperoracle_trainers.hyperparameters.presets import default_settings

SPACE = {"learning_rate": Scale([0.5, 1, 2])}
PHASES = 75
BEGIN, END = 25, 50
DEADLINE = 0.25
QUICK: dict[str, Any] = {
    "propose_deadline_seconds": DEADLINE,
    "request_deadline_seconds": 0.5,
    "circuit_least_seconds": 0.02,
    "circuit_most_seconds": 0.1,
}
"""Short pauses, so that the client tries often; a longer deadline, since the machine is shared."""


class Run(NamedTuple):
    """A run's counts when the fault began and ended, and at the end of the run."""

    before: JobStats
    after: JobStats
    end: JobStats
    updates: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OracleProcess]:
    with OracleProcess(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture
def proxy(server: OracleProcess) -> Iterator[FaultProxy]:
    with FaultProxy(int(server.url.rpartition(":")[2])) as proxy:
        yield proxy


def train(
    proxy: FaultProxy, study: str, folder: Path,
    *, begin: Callable[[], None], while_it_lasts: Callable[[Job], None],
) -> Run:  # fmt: skip
    """Train with a fault from phase BEGIN to phase END."""
    settings = default_settings("a2c", "CartPole-v1", number_of_envs=4, rollout_length=8,
                                total_env_steps=PHASES * 32, seed=3)  # fmt: skip
    agent = A2C(settings)
    with Oracle(proxy.url, spool_directory=str(folder), **QUICK) as oracle:
        source = OracleSource.start(oracle, agent, study=study, space=SPACE, strategy="epgt")
        job = source.job
        assert isinstance(job, Job)
        assert job.wait_until_joined(30)
        for phase in agent.train(source):
            if phase.index == BEGIN:
                wait_until("the circuit is closed", lambda: job.stats.circuit == "closed")
                before = job.stats
                begin()
            if phase.index == (BEGIN + END) // 2:
                while_it_lasts(job)
            if phase.index == END:
                after = job.stats
                proxy.become(Passing())
                wait_until("the circuit closes", lambda: job.stats.circuit == "closed")
                wait_until("reports are delivered", lambda: job.stats.reports_pending == 0)
    return Run(before, after, job.stats, phase.index + 1)


def check(run: Run, server: OracleProcess, study: str) -> None:
    """Every update was made, the oracle was used again, and every report arrived once."""
    assert run.updates == PHASES
    assert run.end.proposals > run.after.proposals
    assert run.end.reports_dropped == run.end.reports_pending == run.end.reports_spooled == 0
    assert run.end.reports_sent == PHASES
    wire = Wire(url=server.url)
    (job,) = wire.call("GET", f"/v1/studies/{study}/jobs").json["jobs"]
    assert job["reports"] == PHASES
    assert job["status"] == "finished"
    assert job["credited_proposals"] <= run.end.proposals
    wire.close()


ABSENT: dict[str, Fault] = {
    "an answer's delay of two seconds": Delay(towards_client=2.0),
    "a request's delay of one second": Delay(towards_server=1.0),
    "a reset before the answer": Reset(),
    "a reset in the middle of the answer": Reset(after_bytes=100),
    "a black hole": BlackHole(),
    "connections refused": Refuse(),
    "bytes that are no http": GARBAGE_BYTES,
    "another's page": GARBAGE_PAGE,
    "another's json": WRONG_JSON,
    "an answer that drips": Drip(seconds=0.005),
}


@pytest.mark.parametrize("name", ABSENT)
def test_while_no_good_answer_comes_training_pays_two_deadlines(
    server: OracleProcess, proxy: FaultProxy, tmp_path: Path, name: str
) -> None:
    study = name.replace(" ", "-").replace("'", "")

    def probed_twice(job: Job) -> None:
        assert job.stats.circuit == "open"
        tried = proxy.accepted
        if not isinstance(ABSENT[name], Refuse):  # there nobody counts
            wait_until("it is probed", lambda: proxy.accepted >= tried + 3)
        assert job.stats.circuit == "open"

    run = train(proxy, study, tmp_path, begin=lambda: proxy.become(ABSENT[name]),
                while_it_lasts=probed_twice)  # fmt: skip
    during = run.after.proposals - run.before.proposals
    paid = run.after.propose_seconds - run.before.propose_seconds
    assert during <= 1, "an answer may have been on its way"
    assert run.after.late - run.before.late <= FAILURES_THAT_OPEN
    assert paid < (FAILURES_THAT_OPEN + 1) * DEADLINE
    assert run.after.fallbacks - run.before.fallbacks >= END - BEGIN - 2
    check(run, server, study)


def test_a_half_open_connection_costs_one_deadline_and_is_replaced(
    server: OracleProcess, proxy: FaultProxy, tmp_path: Path
) -> None:
    def is_closed(job: Job) -> None:
        assert job.stats.circuit == "closed"

    run = train(proxy, "half-open", tmp_path, begin=proxy.freeze, while_it_lasts=is_closed)
    assert run.after.late - run.before.late == 1
    assert run.after.proposals > run.before.proposals, "over a new connection"
    check(run, server, "half-open")


def test_losses_cost_a_deadline_each(
    server: OracleProcess, proxy: FaultProxy, tmp_path: Path
) -> None:
    fault = Loss(share=0.3, seconds=2 * DEADLINE)
    run = train(proxy, "lossy", tmp_path, begin=lambda: proxy.become(fault),
                while_it_lasts=lambda _: None)  # fmt: skip
    late = run.after.late - run.before.late
    answered = run.after.proposals - run.before.proposals
    paid = run.after.propose_seconds - run.before.propose_seconds
    assert proxy.stalled > 0
    assert paid < (late + 1) * DEADLINE + answered * DEADLINE / 4
    check(run, server, "lossy")
