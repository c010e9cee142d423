from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperoracle_server.keyed.encoder import training_process
from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.state import initial_state
from hyperoracle_server.keyed.encoder.training import TrainingSettings, train
from hyperoracle_server.keyed.encoder.training_process import EncoderTrainingError, TrainingProcess

from .conftest import LatentFactorSamples

# Rounds of a random encoder need no torch, so most tests start a child in a fraction of a second.
STATISTICS = initial_state(Architecture.of_statistics(3), 0)
RANDOM = initial_state(Architecture.of_sketch(((3, 8),), kind="random"), 0)
SAMPLES = np.random.default_rng(0).normal(size=(20, 24)).astype(np.float16)


@pytest.fixture
def process() -> Iterator[TrainingProcess]:
    with TrainingProcess() as process:
        yield process


def succeed(process: TrainingProcess) -> int:
    """Run one round, check it, and return the id of the child that ran it."""
    state, report = process.train(RANDOM, SAMPLES, 0)
    assert report.accepted
    assert state.to_bytes() == train(RANDOM, SAMPLES, 0)[0].to_bytes()
    assert process.process_id is not None
    return process.process_id


def kill_and_await(child: int) -> None:
    """Kill the child and wait until it is dead, but not yet reaped."""
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


@pytest.mark.slow
def test_the_child_computes_what_train_computes_to_the_bit(
    process: TrainingProcess, sketch: Architecture, latent_factor_samples: LatentFactorSamples
) -> None:
    _, samples = latent_factor_samples(80, 1)
    state = initial_state(sketch, 0)
    settings = TrainingSettings(kl_weight=0.5, moments_count_cap=100.0)
    for seed in (1, 2):
        expected, expected_report = train(state, samples, seed, 5, 16, settings)
        state, report = process.train(state, samples, seed, 5, 16, settings)
        assert state.to_bytes() == expected.to_bytes()
        assert report == expected_report
        assert report.cpu_seconds > 0.0
    diverging = replace(settings, learning_rate=1e30)
    unchanged, report = process.train(state, samples, 3, 5, 16, diverging)
    assert unchanged is state
    assert not report.accepted


def test_the_child_starts_with_the_first_round_and_stays(process: TrainingProcess) -> None:
    assert process.process_id is None
    assert succeed(process) == succeed(process)


@pytest.mark.slow
def test_the_round_after_a_killed_child_works(process: TrainingProcess) -> None:
    killed = succeed(process)
    kill_and_await(killed)
    assert succeed(process) != killed


@pytest.mark.slow
def test_a_child_killed_within_a_round_fails_that_round_only(
    process: TrainingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = succeed(process)
    child = process._child
    assert child is not None
    exchange = child.exchange

    def exchange_with_a_killed_child(*round_: Any) -> Any:
        kill_and_await(killed)
        return exchange(*round_)

    monkeypatch.setattr(child, "exchange", exchange_with_a_killed_child)
    with pytest.raises(EncoderTrainingError, match="ended with status -9"):
        process.train(RANDOM, SAMPLES, 0)
    assert succeed(process) != killed


@pytest.mark.slow
def test_a_hung_child_is_killed_and_the_next_round_works() -> None:
    with TrainingProcess(timeout_seconds=20.0) as process:
        hung = succeed(process)
        os.kill(hung, signal.SIGSTOP)
        process._timeout_seconds = 0.05
        with pytest.raises(EncoderTrainingError, match=r"within 0\.05 s"):
            process.train(RANDOM, SAMPLES, 0)
        process._timeout_seconds = 20.0
        assert succeed(process) != hung


@pytest.mark.slow
def test_a_crash_is_reported_with_the_childs_last_lines(process: TrainingProcess) -> None:
    nonsense: Any = "many"
    with pytest.raises(EncoderTrainingError, match=r"status 1; .*Traceback.*TypeError"):
        process.train(RANDOM, SAMPLES, 0, settings=TrainingSettings(moments_count_cap=nonsense))
    succeed(process)


def test_what_train_refuses_is_refused_and_the_child_lives_on(process: TrainingProcess) -> None:
    child = succeed(process)
    with pytest.raises(ValueError, match="expected float16 of shape"):
        process.train(RANDOM, SAMPLES.astype(np.float32), 0)
    assert succeed(process) == child


def test_a_round_above_the_limit_is_refused() -> None:
    with TrainingProcess(message_limit_bytes=1_000) as process:
        with pytest.raises(ValueError, match="at most 1000 bytes"):
            process.train(RANDOM, SAMPLES, 0)
        assert process.process_id is None


def test_a_hung_child_that_takes_no_message_is_killed_as_well() -> None:
    """A message that does not fit into the connection's buffers: nobody waits for its reader."""
    large = np.zeros((2**17, 24), np.float16)
    with TrainingProcess(timeout_seconds=20.0) as process:
        hung = succeed(process)
        os.kill(hung, signal.SIGSTOP)
        process._timeout_seconds = 0.05
        with pytest.raises(EncoderTrainingError, match=r"within 0\.05 s"):
            process.train(RANDOM, large, 0)
        process._timeout_seconds = 20.0
        assert succeed(process) != hung


@pytest.mark.parametrize(
    "answers",
    [
        "parent.send_bytes(b'no safetensors')",
        "parent.send_bytes(b'')",
        "parent.send_bytes(bytes(2000))",
        "import os; os.write(parent.fileno(), bytes([0, 0, 1, 0]) + b'too few'); sys.exit()",
    ],
    ids=["of another kind", "empty", "too long", "breaks off"],
)
def test_an_answer_that_is_none_fails_that_round_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: str
) -> None:
    babbling = (
        "import sys\n"
        "from multiprocessing.connection import Connection\n"
        "parent = Connection(int(sys.argv[1]))\n"
        "parent.recv_bytes()\n"
        f"{answers}\n"
        "parent.recv_bytes()\n"
    )
    (tmp_path / "babbling_worker.py").write_text(babbling)
    with TrainingProcess() as process:
        monkeypatch.setattr(training_process, "_WORKER_MODULE", "babbling_worker")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        process._message_limit_bytes = 1_900
        with pytest.raises(EncoderTrainingError, match="encoder training: the process"):
            process.train(STATISTICS, SAMPLES[:2, :3], 0)
        monkeypatch.undo()
        process._message_limit_bytes = 2**20
        succeed(process)


def test_threads_may_share_a_process(process: TrainingProcess) -> None:
    threads = [threading.Thread(target=succeed, args=(process,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()  # an exception in a thread is a warning, which is an error
    succeed(process)


def test_a_closed_process_refuses_rounds_and_leaves_no_child() -> None:
    process = TrainingProcess()
    child = succeed(process)
    process.close()
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    with pytest.raises(EncoderTrainingError, match="closed"):
        process.train(RANDOM, SAMPLES, 0)


def test_closing_ends_a_round_in_progress() -> None:
    process = TrainingProcess()
    os.kill(succeed(process), signal.SIGSTOP)
    failures = []

    def run() -> None:
        try:
            process.train(RANDOM, SAMPLES, 0)
        except EncoderTrainingError as error:
            failures.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    process.close()
    thread.join(timeout=10.0)
    assert len(failures) == 1
    assert "closed" in failures[0]


def test_the_child_steps_back_and_leaves_a_ctrl_c_to_its_parent(process: TrainingProcess) -> None:
    child = succeed(process)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, child) == min(19, own + 10)
    os.kill(child, signal.SIGINT)
    assert succeed(process) == child


PARENT = """
import sys
import numpy as np
from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.state import initial_state
from hyperoracle_server.keyed.encoder.training_process import TrainingProcess
process = TrainingProcess()
state = initial_state(Architecture.of_statistics(3), 0)
process.train(state, np.zeros((2, 3), np.float16), 0)
print(process.process_id, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a grandchild by its pidfd")
def test_the_child_dies_with_its_parent() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            assert not select.select([child], [], [], 0.0)[0]
            parent.kill()
            assert select.select([child], [], [], 10.0)[0]
        finally:
            os.close(child)
