"""Rounds of what a server lives through, and what it has of memory and descriptors after each.

A round leaves nothing behind that a server should keep: its studies are deleted at its end, and
what the study that stays may keep is bounded by its settings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from support.wire_client import Wire

PHASES = 4
"""Proposals, and reports, of a job that comes and goes."""

_KEYED = {
    "encoder": {"minimum_samples": 8, "publish_seconds": 0, "gradient_updates": 2, "replay": 16}
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "epgt": {"name": "epgt", "memory": {"capacity": 12}, **_KEYED},
    "dqn": {"name": "dqn", "q_learning": {"replay_capacity": 12, "replay_start": 8}, **_KEYED},
    "best-config": {"name": "best_config"},
    "cautious-config": {"name": "cautious_config"},
    "anchored": {"name": "anchored"},
}
"""Of the studies that come and go. The keyed ones evict, thin their hyper-states and train."""


class Sample(NamedTuple):
    """What a server had after so many operations since its start."""

    seconds: float
    operations: int
    memory_bytes: int
    descriptors: int


class Rounds:
    """Jobs, studies and connections that come and go, and one study with a job that stays.

    Args:
        connect: opens a connection to the server.
        callers: threads that call at the same time.

    Attributes:
        number: of rounds so far.
        operations: calls that were answered.
        reports: of the job that stays, acknowledged.
    """

    def __init__(self, connect: Callable[[], Wire], callers: int = 2) -> None:
        self._connect = connect
        self._callers = callers
        self._lock = threading.Lock()
        self.number = 0
        self.operations = 0
        self.reports = 0
        wire = connect()
        wire.study("stays", strategy=STRATEGIES["epgt"])
        self._stays = wire.job("stays", total=10**9)
        wire.close()

    def run(self) -> None:
        """One round: each caller lives through its share of the studies."""
        self.number += 1
        names = list(STRATEGIES)
        failures: list[BaseException] = []

        def live(share: Sequence[str]) -> None:
            try:
                wire = self._connect()
                for name in share:
                    self._study(wire, name)
                wire.close()
            except BaseException as error:
                failures.append(error)

        shares = [names[caller :: self._callers] for caller in range(self._callers)]
        threads = [threading.Thread(target=live, args=(share,)) for share in shares]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        wire = self._connect()
        for _ in names:
            self._phases(wire, self._stays, 2 * self.reports)
            self.reports += PHASES
        wire.close()

    def check(self) -> None:
        """What was acknowledged to the job that stays is there once."""
        wire = self._connect()
        study = wire.call("GET", "/v1/studies/stays").json
        assert study["reports"] == study["credited_proposals"] == self.reports
        assert study["memory_size"] == min(self.reports, 12)
        assert [s["name"] for s in wire.call("GET", "/v1/studies").json["studies"]] == ["stays"]
        wire.close()

    def _study(self, wire: Wire, strategy: str) -> None:
        """A study from its creation to its deletion, with jobs that end and one that is killed."""
        name = f"{strategy}-{self.number % 3}"
        assert wire.study(name, strategy=STRATEGIES[strategy]).status == 201
        for ending in ("completed", "interrupted", None):
            job = wire.job(name, total=4 * PHASES, metadata={"ending": str(ending)})
            self._phases(wire, job, 0)
            if ending is not None:
                path = f"/v1/jobs/{job['job_id']}/finish"
                assert wire.call("POST", path, {"reason": ending}).status == 200
        for path in (f"/v1/studies/{name}", f"/v1/studies/{name}/jobs", "/metrics", "/readyz"):
            assert wire.call("GET", path).status == 200
        assert wire.call("GET", f"/v1/studies/{name}-nobody").status == 404
        assert wire.call("DELETE", f"/v1/studies/{name}").status == 204
        self._count(12)

    def _phases(self, wire: Wire, job: Any, sequence: int) -> None:
        """Propose and report after this sequence; every fourth report comes twice."""
        for phase in range(PHASES):
            sequence += 2
            assert wire.propose(job, sequence - 1, seed=sequence).status == 200
            for _ in range(1 + (phase % 4 == 0)):
                assert wire.report(job, sequence, sequence - 1, [float(phase)]).status == 200
        self._count(2 * PHASES + PHASES // 4)

    def _count(self, operations: int) -> None:
        with self._lock:
            self.operations += operations


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that no file stands behind: what it has allocated."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return int(fields["RssAnon"].split()[0]) * 1024


def descriptors(pid: int) -> int:
    """Open files and connections of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def slope(points: Iterator[tuple[float, float]] | Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs of points (Theil-Sen): outliers do not bend it.

    Args:
        points: (x, y), at least two different x.

    Source: Sen, Journal of the American Statistical Association 63 (1968).
    """
    x, y = np.array(list(points)).T
    first, second = np.triu_indices(len(x), 1)
    run = x[second] - x[first]
    return float(np.median((y[second] - y[first])[run != 0] / run[run != 0]))
