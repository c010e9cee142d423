"""Lives of an oracle in processes of their own, each of which may end at a failpoint.

A process that has all modules forks a child per life, so that a life costs its work and no
imports. `python -m support.mortal` is that process: a line of JSON asks for a life, a line answers
with its exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.keyed import indexes
from hyperoracle_server.keyed.encoder.training import TrainingReport
from hyperoracle_server.keyed.rounds import EncoderRounds
from hyperoracle_server.oracle import upkeep
from hyperoracle_server.snapshots.stores import restore_store
from hyperoracle_server.snapshots.taking import take_store
from support import failpoints
from support.handles import oracle_of
from support.wire_client import Wire

PHASES = 14
JOBS = 2
EXPLORING = {"name": "epgt", "exploration": {"start": 0.5, "end": 0.5},
             "encoder": {"minimum_samples": 8}, "memory": {"index": "hnsw"}}  # fmt: skip

Tell = Callable[[str, Any], None]


class Mortals:
    """Starts lives and waits for their ends. A context manager."""

    def __enter__(self) -> Self:
        tests = str(Path(__file__).parents[1])
        path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def live(self, what: str, folder: Path, failpoint: str | None = None) -> bool:
        """Whether a life in a folder ended at its failpoint, and not by itself.

        Args:
            what: a key of `LIVES`.
            folder: has `oracle.db`; what the life tells is added to `told.jsonl`.
            failpoint: what to arm.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, str(folder), failpoint]) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        if code not in (0, failpoints.EXIT_CODE):
            raise AssertionError(f"it ended with {code}:\n{(folder / 'error.txt').read_text()}")
        return code == failpoints.EXIT_CODE


def told(folder: Path) -> list[tuple[str, Any]]:
    """What the lives in a folder were told, the earliest first: what it is of, and the answer."""
    path = folder / "told.jsonl"
    if not path.exists():
        return []
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


def work(folder: Path, tell: Tell) -> None:
    """A whole course of a study, each call of which may have been made in an earlier life.

    Two jobs report in turn; the oracle is closed, opened and its graphs are built; an encoder is
    published; the study is copied by snapshot and restore. It tells every receipt, and at last
    what is remembered.
    """
    upkeep.LOOK_SECONDS = 1e6  # what it does is done here, when it is due
    transport = EmbeddedTransport(str(folder / "oracle.db"))
    wire = Wire(transport=transport)
    assert wire.call("GET", "/readyz").status == 200
    assert wire.study("s", strategy=EXPLORING, seed=5).status in (200, 201)
    jobs = [wire.job("s", job_key=f"the-job-{number}") for number in range(JOBS)]
    _report(wire, jobs, range(6), tell)
    transport.close()

    transport = EmbeddedTransport(str(folder / "oracle.db"))
    wire = Wire(transport=transport)
    oracle = oracle_of(transport)
    for study in oracle.studies():
        indexes.build_indexes(study, threading.Event())
    _report(wire, jobs, range(6, 10), tell)
    _publish(oracle)
    _report(wire, jobs, range(10, PHASES), tell)

    if wire.call("GET", "/v1/studies/copy").status == 404:
        snapshot = wire.call("POST", "/v1/studies/s/snapshots")
        assert snapshot.status == 200
        restored = wire.raw("POST", "/v1/studies/copy/restore", snapshot.json,
                            "application/vnd.hyperoracle.snapshot")  # fmt: skip
        assert restored.status == 201, restored
    tell("remembered", {name: _remembered(wire, oracle, name) for name in ("s", "copy")})
    transport.close()


def _report(wire: Wire, jobs: list[Any], phases: range, tell: Tell) -> None:
    for phase in phases:
        for number, job in enumerate(jobs):
            sequence = 2 * phase + 1
            made = wire.propose(job, sequence, seed=phase % 5 + 100 * number)
            assert made.status == 200, made
            returned = float((sum(made.json["bins"]) + phase) ** 2 % 11 + number)
            receipt = wire.report(job, sequence + 1, sequence, [returned])
            assert receipt.status == 200, receipt
            tell(f"{number}.{sequence + 1}", {"bins": made.json["bins"], **receipt.json})


def _publish(oracle: Any) -> None:
    """Publish the study's second encoder, unless an earlier life did."""
    with oracle.study("s") as study:
        (recollection,) = study.agent.recollections.values()
    if recollection.state.version:
        return
    rounds = EncoderRounds(oracle)
    rounds._process.train = _trained  # what a round does is tested elsewhere; it takes seconds
    assert rounds.run_due() == 1
    rounds.close()


def _trained(state: Any, samples: Any, *_: object) -> tuple[Any, TrainingReport]:
    """A state of the next version with other keys."""
    arrays = {name: array.copy() for name, array in state.arrays.items()}
    arrays["version"] += 1
    arrays["mean_weight"] *= 0.5
    return type(state)(state.architecture, arrays), TrainingReport(True, "", len(samples), 1)


def _remembered(wire: Wire, oracle: Any, name: str) -> dict[str, Any]:
    """What comparable can be said of a study."""
    page = wire.call("GET", f"/v1/studies/{name}").json
    counts = {what: page[what] for what in ("reports", "credited_proposals", "memory_size")}
    with oracle.study(name) as study:
        (recollection,) = study.agent.recollections.values()
        entries = recollection.memory.entries()
        order = sorted(job.id for job in study.jobs.values())
        owners = [order.index(study.entry_jobs[i]) for i in entries.ids.tolist()]
        return {
            **counts, "owners": owners, "actions": entries.actions.tolist(),
            "values": entries.values.tolist(), "keys": entries.keys.tobytes().hex(),
            "version": recollection.state.version,
        }  # fmt: skip


def open_it(folder: Path, tell: Tell) -> None:
    """Open the store, which makes or migrates it, and tell how much it knows."""
    transport = EmbeddedTransport(str(folder / "oracle.db"))
    wire = Wire(transport=transport)
    assert wire.call("GET", "/readyz").status == 200
    studies = wire.call("GET", "/v1/studies").json["studies"]
    tell("studies", {study["name"]: study["credited_proposals"] for study in studies})
    transport.close()


def back_up(folder: Path, tell: Tell) -> None:
    """Back the store up."""
    take_store(folder / "oracle.db", folder / "backup")
    tell("backed up", True)


def restore(folder: Path, tell: Tell) -> None:
    """Restore the store from its backup."""
    restore_store(folder / "backup", folder / "oracle.db", replace=True)
    tell("restored", True)


LIVES: dict[str, Callable[[Path, Tell], None]] = {
    "work": work, "open": open_it, "back up": back_up, "restore": restore,
}  # fmt: skip


def _child(what: str, folder: Path, failpoint: str | None) -> None:
    journal = os.open(folder / "told.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def tell(of: str, answer: Any) -> None:
        os.write(journal, json.dumps([of, answer]).encode() + b"\n")

    code = 1
    try:
        failpoints.arm(failpoint)
        LIVES[what](folder, tell)
        code = 0
    except BaseException:
        (folder / "error.txt").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def _serve() -> None:
    with tempfile.TemporaryDirectory() as folder:  # what is compiled once is compiled here
        work(Path(folder), lambda _of, _answer: None)
    assert threading.active_count() == 1, "a fork takes one thread along"
    for line in sys.stdin:
        what, folder, failpoint = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(what, Path(folder), failpoint)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(code, flush=True)


if __name__ == "__main__":
    _serve()
