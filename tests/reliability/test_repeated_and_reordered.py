"""R6: duplicates, reordering, replays after a restart, the same sequence with another body."""

from __future__ import annotations

import random

import pytest
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport

PHASES = 12
ALL_CHANCE = {"name": "epgt", "exploration": {"start": 1, "end": 1},
              "encoder": {"minimum_samples": 100_000}}  # fmt: skip


def reported(wire: Wire, job, phase: int, returns=None):
    """The report of a phase, which names the report before it."""
    sequence = 2 * phase + 2
    chain = {"credits_after": max(sequence - 3, 0), "previous_report": sequence - 2}
    return wire.report(job, sequence, sequence - 1, returns or [float(phase**2 % 7)], **chain)


def remembered(path, deliveries: list[int], restarts: frozenset[int]):
    """What a study remembers after its reports arrived like this.

    Args:
        path: of a new store.
        deliveries: phases, in the order of arrival.
        restarts: before which deliveries the oracle is closed and opened.
    """
    transport = EmbeddedTransport(str(path))
    wire = Wire(transport=transport)
    wire.study("s", strategy=ALL_CHANCE, seed=1)
    job = wire.job("s", job_key="the-only-one")
    for phase in range(PHASES):
        wire.propose(job, 2 * phase + 1, seed=phase)
    answers: dict[int, dict] = {}
    for number, phase in enumerate(deliveries):
        if number in restarts:
            transport.close()
            transport = EmbeddedTransport(str(path))
            wire = Wire(transport=transport)
        answer = reported(wire, job, phase)
        assert answer.status == 200
        assert answers.setdefault(phase, answer.json) == answer.json, "a repeated answer"
    before = wire.call("GET", "/v1/studies/s").json
    for phase in range(PHASES):
        other = reported(wire, job, phase, [99.0])
        assert (other.status, other.json["code"]) == (422, "sequence_conflict")
    study = wire.call("GET", "/v1/studies/s").json
    assert study == before
    assert (study["reports"], study["credited_proposals"]) == (PHASES, PHASES)
    page = wire.call("GET", "/v1/studies/s/memory").json["entries"]
    transport.close()
    return [(e["proposal_id"].partition(".")[2], e["hyperparameters"], e["value"]) for e in page]


@pytest.mark.parametrize("seed", range(3))
def test_reports_count_exactly_once_in_whatever_order_and_number_they_come(tmp_path, seed):
    """Seen to fail with `StudyRuntime._repeated` finding nothing in the ledger (a repetition after
    a restart is a 503). Would fail with `previous_report` not sent (other credits)."""
    chance = random.Random(seed)
    deliveries = [*range(PHASES), *chance.choices(range(PHASES), k=PHASES)]
    chance.shuffle(deliveries)
    restarts = frozenset(chance.sample(range(len(deliveries)), 4))
    in_order = remembered(tmp_path / "in-order.db", list(range(PHASES)), frozenset())
    assert remembered(tmp_path / "shuffled.db", deliveries, restarts) == in_order
    assert len(in_order) == PHASES
