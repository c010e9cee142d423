"""Each kind of hyper-state and encoder, from the study's definition to a key that finds itself."""

import pytest
from support.handles import oracle_of

from hyperoracle_server.keyed.rounds import EncoderRounds

# On a busy machine the oracle's own upkeep would come first with a round.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_upkeep")]

KINDS = {
    "vae on a sketch": ("sketch", "vae", 32),
    "random mapping of a sketch": ("sketch", "random", 32),
    "plain statistics": ("statistics", "plain", 22),
    "vae on statistics": ("statistics", "vae", 32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_stored_is_its_own_nearest_neighbour_before_and_after_a_round(embedded, kind):
    wire = embedded
    hyper_state, encoder, key_size = KINDS[kind]
    strategy = {
        "name": "epgt",
        "hyper_state": {"kind": hyper_state},
        "encoder": {"kind": encoder, "minimum_samples": 8, "publish_seconds": 0},
        "exploration": {"start": 0, "end": 0},
    }
    # One hyper-action only, so that chance has no say in whose neighbours are told.
    wire.study("s", {"factor": {"type": "relative", "values": [1]}}, strategy=strategy)
    job = wire.job("s")
    for sequence in range(1, 31):
        wire.propose(job, sequence, seed=sequence)
    wire.report(job, 31, 30)
    oracle = oracle_of(wire)
    rounds = EncoderRounds(oracle)
    asked = 31
    for version in (0, 1):
        with oracle.study("s") as study:
            (recollection,) = study.agent.recollections.values()
            assert recollection.state.version == version
            assert recollection.encoder.key_size == key_size
        # The same hyper-state again: distance 0 to what it left.
        nearest = []
        for seed in range(1, 11):
            asked += 1
            answer = wire.propose(job, asked, seed=seed).json
            path = f"/v1/proposals/{answer['proposal_id']}/explanation"
            nearest.append(wire.call("GET", path).json["neighbours"][0]["distance"])
        # Keys are float32; encoded in a batch or alone they differ in the last bits.
        assert max(nearest) < 1e-8
        if version == 0:
            assert rounds.run_due() == 1
    rounds.close()
