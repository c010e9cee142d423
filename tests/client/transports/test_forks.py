"""A forked child touches nothing of its parent's job or store, and never hangs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client.conftest import CHOSEN, DEFAULTS, SPACE, eventually
from client.scripted_oracle import ScriptedOracle
from support.forked import a_forked_child, in_a_forked_child
from support.oracle_process import OracleProcess

from hyperoracle_client import Job, Oracle, OracleMisconfigured, OracleUnreachable
from hyperoracle_client.api import OracleApi

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")

Start = Callable[..., Job]
Connect = Callable[..., Oracle]
PATIENT = {"propose_deadline_seconds": 5.0, "start_deadline_seconds": 60.0}
QUICK = {"circuit_least_seconds": 0.001, "circuit_most_seconds": 0.01, **PATIENT}


@pytest.fixture(params=["http", "embedded"])
def oracle(request: pytest.FixtureRequest, connect: Connect, tmp_path: Path) -> Oracle:
    if request.param == "http":
        server: ScriptedOracle = request.getfixturevalue("server")
        return connect(server.url, **QUICK)
    return connect(f"embedded:{tmp_path / 'oracle.db'}", **PATIENT)


def started(oracle: Oracle, **arguments: Any) -> Job:
    defaults = {"study": "s", "space": SPACE, "total_env_steps": 1000, "strategy": "random"}
    return oracle.start_job(**{**defaults, **arguments})


def test_a_child_gets_its_defaults_is_told_why_once_and_the_parents_job_goes_on(
    oracle: Oracle, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail: the child's proposals and reports went to the oracle under the parent's
    sequences, or hung."""
    job = started(oracle)
    job.report([1.0], env_step=1)
    assert job.propose(env_step=1).source == "oracle"
    caplog.clear()

    def act() -> Any:
        values = [job.propose(env_step=n) for n in (2, 3)]
        for n in (2, 3):
            job.report([2.0], env_step=n)
        stats = job.finish()
        job.end(1.0)
        told = [(r.levelno, r.getMessage()) for r in caplog.records]
        oracle.close()
        return [(dict(v), v.source, v.why) for v in values], stats, told, job.is_finished

    values, stats, told, is_finished = in_a_forked_child(act)
    assert [(v, source) for v, source, _ in values] == [(DEFAULTS, "default")] * 2
    assert all("of which this one was forked" in why for _, _, why in values)
    assert (stats.fallbacks, stats.reports_dropped) == (2, 2)
    assert is_finished
    assert len(told) == 2, "once of each kind"
    assert all(level == logging.WARNING and "\n" not in line for level, line in told)

    assert job.propose(env_step=2).source == "oracle"
    job.report([3.0], env_step=2)
    mine = job.finish()
    assert (mine.proposals, mine.reports_sent, mine.reports_dropped) == (2, 2, 0)


def test_a_child_does_not_hang_whatever_was_locked_at_the_fork(oracle: Oracle) -> None:
    """Seen to fail without new locks in the child."""
    job = started(oracle)
    beside = job._membership
    held, done = threading.Event(), threading.Event()

    def hold_everything() -> None:
        with (
            job._lock, beside._sender._lock, beside._join.outcome._cond, beside._circuit._lock,
            beside._background._wake._cond,
        ):  # fmt: skip
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold_everything)
    holder.start()
    assert held.wait(10)
    try:

        def act() -> tuple[str, bool, Any]:
            source = job.propose(env_step=1).source
            job.report([1.0], env_step=1)
            joined = job.wait_until_joined(1.0)
            key = job.state()["job_key"]
            with job:
                job.report([1.0], env_step=1)
            oracle.close()
            return source, joined, key

        assert in_a_forked_child(act, 20) == ("default", True, job.key)
    finally:
        done.set()
        holder.join()


def test_a_child_raises_if_asked_to(server: ScriptedOracle, start: Start, connect: Connect) -> None:
    job = started(connect(server.url, on_error="raise"))
    with pytest.raises(OracleUnreachable, match="forked"):
        in_a_forked_child(lambda: job.propose(env_step=1))
    with pytest.raises(OracleMisconfigured, match="forked"):
        in_a_forked_child(lambda: job.report([1.0], env_step=1))


def test_a_child_leaves_the_spool_as_it_is(
    server: ScriptedOracle, start: Start, tmp_path: Path
) -> None:
    """Seen to fail: the child's report was appended."""
    job = start(QUICK, job_key="a-key-of-its-own")
    server.die()
    for n in range(3):
        job.report([float(n)], env_step=n)
    eventually(lambda: job.stats.reports_spooled == 3)
    (path,) = (tmp_path / "spool").iterdir()
    before = path.read_bytes()

    def act() -> None:
        job.report([9.0], env_step=9)
        job.end(0.1)

    in_a_forked_child(act)
    assert list((tmp_path / "spool").iterdir()) == [path]
    assert path.read_bytes() == before
    server.come_back()
    assert job.finish().reports_sent == 3


def test_a_child_may_start_its_own_job_at_an_oracle_that_is_not_embedded(
    server: ScriptedOracle, start: Start, connect: Connect
) -> None:
    oracle = connect(server.url, **PATIENT)
    started(oracle, job_key="parents-job")

    def act() -> tuple[str, int]:
        own = started(oracle, job_key="childs-job")
        source = own.propose(env_step=1).source
        own.report([1.0], env_step=1)
        oracle.close()
        return source, own.stats.reports_sent

    assert in_a_forked_child(act) == ("oracle", 1)
    assert [start.job_key for start in server.of("start")] == ["parents-job", "childs-job"]
    assert len(server.of("finish")) == 1, "the child's"


def test_a_child_cannot_start_a_job_at_its_parents_embedded_oracle(
    connect: Connect, tmp_path: Path
) -> None:
    """Seen to hang."""
    oracle = connect(f"embedded:{tmp_path / 'oracle.db'}")
    with pytest.raises(OracleMisconfigured, match="hyperoracle serve") as caught:
        in_a_forked_child(lambda: started(oracle))
    assert "\n" not in str(caught.value)
    with pytest.raises(OracleMisconfigured, match="hyperoracle serve"):
        in_a_forked_child(lambda: OracleApi.at(oracle._endpoint))


def test_a_child_that_lives_on_does_not_keep_the_store_locked(
    connect: Connect, tmp_path: Path
) -> None:
    """Seen to fail where the child keeps the lock's file."""
    url = f"embedded:{tmp_path / 'oracle.db'}"
    oracle = connect(url)
    with a_forked_child():
        oracle.close()
        assert started(connect(url)).stats.joined


def test_a_child_leaves_oracles_that_its_parent_has_closed_in_silence(
    connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail: that the lock's file is closed was an error in the child."""
    oracle = connect(f"embedded:{tmp_path / 'oracle.db'}")
    transport = oracle._endpoint._embedded  # it may live on for long
    oracle.close()
    assert in_a_forked_child(lambda: [r.getMessage() for r in caplog.records]) == []
    assert transport is not None
    with pytest.raises(OracleMisconfigured, match="forked"):
        in_a_forked_child(transport.check_owner)


def test_a_closed_embedded_oracle_says_so(connect: Connect, tmp_path: Path) -> None:
    oracle = connect(f"embedded:{tmp_path / 'oracle.db'}")
    oracle.close()
    with pytest.raises(OracleMisconfigured, match="is closed"):
        started(oracle)


_PROGRAM = """
import json, multiprocessing, os, signal, sys, warnings
from hyperoracle_client import Oracle, Scale
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: there are other threads

oracle = Oracle(sys.argv[1], propose_deadline_seconds=5.0, spool_directory="spool")
space = {"learning_rate": Scale([0.5, 1, 2])}
job = oracle.start_job(study="f", space=space, total_env_steps=1000, strategy="random")
found = []

def ends(how):
    with job:
        job.propose(env_step=5)
        job.report([9.0], env_step=5)
        if how == "exit":
            sys.exit(3)
        if how == "raise":
            raise SystemExit(3)
        if how == "_exit":
            os._exit(3)

for step, how in enumerate(("exit", "raise", "_exit", "return", "multiprocessing"), 1):
    job.report([1.0], env_step=step)
    if how == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=ends, args=("return",))
        process.start()
        process.join(30)
        code = process.exitcode
    else:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # it hangs
            ends(how)
            sys.exit(3)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found.append([how, code, job.propose(env_step=step).source])
stats = job.finish()
print(json.dumps([found, stats.reports_sent, stats.proposals, stats.fallbacks]), flush=True)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with OracleProcess(tmp_path_factory.mktemp("served")) as process:
        yield process.url


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedded", "http"])
def test_however_a_child_ends_the_parents_job_goes_on(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Seen to fail: its exit finished the parent's job, or waited for ever."""
    url = "embedded:o.db" if kind == "embedded" else request.getfixturevalue("served")
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, url], cwd=tmp_path, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found, sent, proposals, fallbacks = json.loads(run.stdout)
    assert found == [
        ["exit", 3, "oracle"],
        ["raise", 3, "oracle"],
        ["_exit", 3, "oracle"],
        ["return", 3, "oracle"],
        ["multiprocessing", 0, "oracle"],
    ]
    assert (sent, proposals, fallbacks) == (5, 5, 0)
    assert "Traceback" not in run.stderr
    assert "ResourceWarning" not in run.stderr


@pytest.mark.slow
def test_what_is_never_let_go_of_is_not_freed_at_the_end_either(tmp_path: Path) -> None:
    """Seen to fail (both are freed) without the reference that nobody gives back."""
    program = (
        "from hyperoracle_client.transports.forks import never_let_go\n"
        "import gc\n"
        "class Held:\n"
        "    def __del__(self): print('freed', flush=True)\n"
        "class Kept:\n"
        "    def __init__(self): self.me, self.held = self, Held()\n"
        "kept = Kept(); never_let_go(kept); del kept; gc.collect()\n"
        "other = Held(); del other\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["freed"], "the other one"


@pytest.mark.slow
def test_a_job_that_a_multiprocessing_child_did_not_finish_is_ended_with_the_child(
    server: ScriptedOracle, tmp_path: Path
) -> None:
    """Seen to fail with `atexit` alone, which such a process never comes to."""
    program = (
        "import multiprocessing, sys, warnings\n"
        "from hyperoracle_client import Oracle, Scale\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "oracle = Oracle(sys.argv[1], spool_directory='spool')\n"
        "def train():\n"
        "    job = oracle.start_job(study='s', space={'lr': Scale([1, 2])}, total_env_steps=9)\n"
        "    job.report([1.0], env_step=1)\n"
        "process = multiprocessing.get_context('fork').Process(target=train)\n"
        "process.start(); process.join(60); sys.exit(process.exitcode)\n"
    )
    subprocess.run([sys.executable, "-c", program, server.url], cwd=tmp_path, check=True)
    assert len(server.of("report")) == 1
    assert [finish.reason for finish in server.of("finish")] == ["interrupted"]


def test_the_parent_keeps_its_connection_when_its_child_ends(
    server: ScriptedOracle, start: Start
) -> None:
    job = start(PATIENT)
    assert job.propose(env_step=0) == CHOSEN
    connections = set(server._connections)  # that of joining may end at any moment
    in_a_forked_child(lambda: job.propose(env_step=1).source)
    assert job.propose(env_step=1) == CHOSEN
    assert server._connections
    assert server._connections <= connections, "none is new"
