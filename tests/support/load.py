"""Jobs that ask a server as fast as it answers, and remember what it acknowledged."""

from __future__ import annotations

import http.client
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from hyperoracle_server.snapshots.stores import verify
from support.oracle_process import OracleProcess
from support.wire_client import Wire


class Load:
    """Threads with one job each; a call that fails is repeated until the server is back.

    Attributes:
        acknowledged: what was answered 2xx to reports: the receipts by job and sequence.
    """

    def __init__(self, process: OracleProcess, study: str, clients: int) -> None:
        self._process = process
        self._study = study
        with closing(Wire(url=process.url)) as wire:
            wire.study(study)
            self.jobs = [wire.job(study) for _ in range(clients)]
        self.acknowledged: dict[tuple[str, int], Any] = {}
        self.answered = 0
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(job,)) for job in self.jobs]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _run(self, job: Any) -> None:
        wire = Wire(url=self._process.url)
        sequence = 0
        try:
            while not self._stop.is_set():
                try:
                    self._phase(wire, job, sequence)
                    sequence += 2
                except (OSError, http.client.HTTPException):
                    wire.close()  # it is gone: the same calls again when it is back
                    wire = Wire(url=self._process.url)
                    self._stop.wait(0.02)
        except BaseException as error:
            self._failures.append(error)
        finally:
            wire.close()

    def _phase(self, wire: Wire, job: Any, sequence: int) -> None:
        seed = 64 * sequence + self.jobs.index(job)  # no two hyper-states are alike
        proposed = wire.propose(job, sequence + 1, seed=seed)
        reported = None
        if proposed.status == 200:
            reported = wire.report(job, sequence + 2, sequence + 1, [float(sequence)])
        for answer in (proposed, reported):
            if answer is not None and answer.status != 200:
                assert answer.status == 503, answer
                raise ConnectionError("it is closing")
        self.acknowledged[job["job_id"], sequence + 2] = reported.json
        self.answered += 1

    def check(self, store: Path) -> None:
        """Every acknowledged report is there once, as it was acknowledged. After the load's end."""
        assert verify(store) == (None, [])
        with closing(Wire(url=self._process.url)) as wire:
            self._check(wire)

    def _check(self, wire: Wire) -> None:
        for (job_id, sequence), receipt in self.acknowledged.items():
            job = {"job_id": job_id}
            again = wire.report(job, sequence, sequence - 1, [float(sequence - 2)])
            assert (again.status, again.json) == (200, receipt), (job_id, sequence)
        jobs = {
            j["job_id"]: j for j in wire.call("GET", f"/v1/studies/{self._study}/jobs").json["jobs"]
        }
        for job in self.jobs:
            mine = [r for (owner, _), r in self.acknowledged.items() if owner == job["job_id"]]
            found = jobs[job["job_id"]]
            # The last report may have been taken in while its answer was lost.
            assert found["reports"] - len(mine) in (0, 1)
            credited = sum(receipt["credited"] for receipt in mine)
            assert found["credited_proposals"] - credited in (0, found["reports"] - len(mine))
        study = wire.call("GET", f"/v1/studies/{self._study}").json
        capacity = study["definition"]["strategy"]["memory"]["capacity"]
        assert study["memory_size"] == min(study["credited_proposals"], capacity)
