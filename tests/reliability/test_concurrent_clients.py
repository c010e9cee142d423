"""R5: many clients of one study, against a model in which they come one after another.

Seen to fail with a memory that writes nine tenths of what Eq. 4 says.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from support.oracle_process import OracleProcess
from support.plain_model import Entry, write
from support.wire_client import Wire, hyper_state

from hyperoracle_protocol.hyper_state import HyperStateLayout
from hyperoracle_protocol.strategies import EncoderSetting
from hyperoracle_server.keyed.agent import architecture_of
from hyperoracle_server.keyed.encoder.serving import ServedEncoder
from hyperoracle_server.keyed.encoder.state import initial_state

SEED = 11
# Of 8 hidden units all are silent for one hyper-state in some thousand, whose keys are the same.
ENCODER = {"kind": "random", "key_size": 4, "hidden_size": 64, "minimum_samples": 100_000}
MEMORY = {"capacity": 200_000, "neighbours_write": 3, "write_rate": 0.5,
          "write_rule": "average", "index": "exact"}  # fmt: skip
SPACE = {name: {"type": "relative", "values": [0.5, 1, 2]} for name in ("alpha", "beta", "gamma")}
STRATEGY = {"name": "epgt", "hyper_state": {"width": 2, "orders": 0}, "encoder": ENCODER,
            "memory": MEMORY}  # fmt: skip


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with OracleProcess(tmp_path_factory.mktemp("crowds")) as process:
        yield process


class Client(threading.Thread):
    """One job: a proposal and its report, again and again.

    Attributes:
        returns: that were acknowledged, by the sequence of the proposal that they credit.
        states: of the hyper-states' seeds, by the same.
    """

    def __init__(self, url: str, job: Any, number: int, operations: int, together: Any) -> None:
        super().__init__()
        self._url, self.job, self._number, self._operations = url, job, number, operations
        self._together = together
        self.returns: dict[int, float] = {}
        self.seeds: dict[int, int] = {}
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.failure = error

    def _run(self) -> None:
        wire = Wire(url=self._url)
        chance = np.random.default_rng(self._number)
        self._together.wait()
        for phase in range(self._operations // 2):
            sequence = 2 * phase + 1
            self.seeds[sequence] = self._number * 1_000_000 + sequence
            g = float(chance.normal())
            proposed = wire.propose(self.job, sequence, seed=self.seeds[sequence])
            assert proposed.status == 200, proposed
            reported = wire.report(self.job, sequence + 1, sequence, [g])
            assert (reported.status, reported.json["credited"]) == (200, 1), reported
            self.returns[sequence] = g
        wire.close()


def remembered(wire: Wire, study: str) -> list[Any]:
    entries: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = wire.call("GET", f"/v1/studies/{study}/memory?limit=1000&after={after}").json
        entries += page["entries"]
        after = page["next_after"]
    return entries


def serial(found: list[Any], clients: dict[str, Client], layout: Any) -> list[Entry]:
    """What one writer leaves who writes the same returns one after another, in this order."""
    architecture = architecture_of(HyperStateLayout.model_validate(layout),
                                   EncoderSetting(**ENCODER))  # fmt: skip
    encoder = ServedEncoder(initial_state(architecture, SEED))
    by_bins: dict[tuple[int, ...], list[Entry]] = {}
    entries = []
    for told in found:
        job_id, _, sequence = told["proposal_id"].rpartition(".")
        client = clients[job_id]
        key = encoder.encode(hyper_state(layout, client.seeds[int(sequence)])).tolist()
        entry = Entry(
            job_id, int(sequence), told["bins"], tuple(key), client.returns[int(sequence)]
        )
        entries.append(entry)  # written to its own kind only: others are never touched
        write(by_bins.setdefault(tuple(told["bins"]), []), entry, MEMORY, maximise=True)
    return entries


def crowd(process: OracleProcess, clients: int, operations: int) -> None:
    study = f"crowd-of-{clients}"
    wire = Wire(url=process.url)
    assert wire.study(study, SPACE, strategy=STRATEGY, seed=SEED,
                      returns={"kind": "phase_episodes"}).status == 201  # fmt: skip
    jobs = [wire.job(study, total=operations) for _ in range(clients)]
    wire.close()  # idle for longer than the server keeps a connection
    together = threading.Barrier(clients)
    running = [Client(process.url, job, n, operations, together) for n, job in enumerate(jobs)]
    for client in running:
        client.start()
    for client in running:
        client.join()
    failures = [client.failure for client in running if client.failure is not None]
    assert not failures, failures[0]

    acknowledged = clients * (operations // 2)
    wire = Wire(url=process.url)
    told = wire.call("GET", f"/v1/studies/{study}").json
    counts = [told[n] for n in ("proposals", "reports", "credited_proposals", "memory_size")]
    assert counts == [acknowledged] * 4
    found = remembered(wire, study)
    assert {e["proposal_id"] for e in found} == {
        f"{c.job['job_id']}.{s}" for c in running for s in c.returns
    }
    returns = [g for client in running for g in client.returns.values()]
    values = np.array([entry["value"] for entry in found])
    assert min(returns) <= values.min()
    assert values.max() <= max(returns)
    expected = serial(found, {c.job["job_id"]: c for c in running}, jobs[0]["layout"])
    np.testing.assert_allclose(values, [entry.value for entry in expected], rtol=0, atol=1e-5)
    wire.close()


@pytest.mark.parametrize(("clients", "operations"), [(1, 200), (8, 50), (32, 20), (128, 8)])
def test_many_clients_leave_what_they_would_leave_one_after_another(process, clients, operations):
    """R5, quick form: 2,264 operations."""
    crowd(process, clients, operations)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("clients", [1, 8, 32, 128])
def test_many_clients_with_a_thousand_operations_each_leave_what_one_would(process, clients):
    """R5, long form."""
    crowd(process, clients, 1000)
