"""R14: an earlier or a later version, of a store or a peer, works or is told what to upgrade."""

from __future__ import annotations

import http.server
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from support.wire_client import Wire

from hyperoracle_client.api import OracleApi
from hyperoracle_client.errors import ProtocolMismatch
from hyperoracle_protocol.version import PROTOCOL_HEADER
from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.ledger import store

REVISIONS = [f"{number:04}" for number in range(1, int(store.HEAD) + 1)]
STRATEGIES = {
    "epgt": {"name": "epgt", "memory": {"capacity": 4}},
    "dqn": {"name": "dqn"},
    "best": {"name": "best_config"},
}
PHASES = 6


def work(wire: Wire, job, first: int, phases: int = PHASES) -> None:
    for sequence in range(first, first + 2 * phases, 2):
        assert wire.propose(job, sequence, seed=sequence).status == 200
        assert wire.report(job, sequence + 1, sequence, [float(sequence)]).status == 200


def counts(wire: Wire, study: str):
    found = wire.call("GET", f"/v1/studies/{study}").json
    return {k: found[k] for k in ("reports", "proposals", "credited_proposals", "memory_size")}


def bring_back(path: Path, revision: str) -> None:
    """Give a store the schema that it would have had at an earlier revision."""
    engine = store._engine(path)
    config = Config()
    config.set_main_option("script_location", str(store._MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_store_of_every_earlier_schema_is_brought_up_and_used(revision, tmp_path):
    """Seen to fail where `recovery` does not replace a missing `chance_number` (0001 to 0005).

    The store is written today and brought back by the migrations' own downgrades."""
    path = tmp_path / "oracle.db"
    transport = EmbeddedTransport(str(path))
    wire = Wire(transport=transport)
    names = [n for n in STRATEGIES if n != "dqn" or revision >= "0004"]  # when it came
    jobs = {}
    for name in names:
        assert wire.study(name, strategy=STRATEGIES[name]).status == 201
        jobs[name] = wire.job(name, total=1000)
        work(wire, jobs[name], 1)
    before = {name: counts(wire, name) for name in names}
    transport.close()
    bring_back(path, revision)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == (revision,)

    transport = EmbeddedTransport(str(path))
    wire = Wire(transport=transport)
    assert {name: counts(wire, name) for name in names} == before
    for name in names:
        again = wire.report(jobs[name], 2, 1, [1.0])
        assert (again.status, again.json["credited"]) == (200, 1), "the answer of then"
        work(wire, jobs[name], 1 + 2 * PHASES)
        work(wire, wire.job(name, total=1000), 1)
        after = counts(wire, name)
        assert after["reports"] == after["proposals"] == 3 * PHASES
        held = name == "best"  # one decision per job
        assert after["credited_proposals"] == (2 if held else 3 * PHASES)
        assert wire.call("GET", f"/v1/studies/{name}/gain").status == 200
    transport.close()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == (store.HEAD,)


@pytest.mark.parametrize("version", ["0.9", "2.0", "10.1"])
def test_a_client_of_another_protocol_is_told_to_upgrade_the_older_one(version, embedded):
    """Seen to fail without the check of the version in `routes.gate`."""
    answer = embedded.raw("GET", "/v1/studies", **{PROTOCOL_HEADER.replace("-", "_"): version})
    assert answer.status == 426
    assert answer.json["code"] == "protocol_mismatch"
    assert "upgrade the older one" in answer.json["detail"]
    assert "\n" not in answer.json["detail"]
    assert answer.json["got"] == version


@pytest.mark.parametrize("version", ["1.0", "1.7"])
def test_a_client_of_a_later_minor_version_is_answered(version, embedded):
    """Seen to fail where the whole version must be equal."""
    answer = embedded.raw("GET", "/v1/studies", **{PROTOCOL_HEADER.replace("-", "_"): version})
    assert answer.status == 200


def test_fields_of_a_later_minor_version_are_ignored(embedded):
    """Seen to fail with messages that forbid unknown fields."""
    embedded.study("s")
    job = embedded.job("s", a_field_of_tomorrow=1)
    assert embedded.propose(job, 1, a_field_of_tomorrow={"x": []}).status == 200
    assert embedded.report(job, 2, 1, a_field_of_tomorrow="y").status == 200


@pytest.mark.parametrize("version", ["0.9", "2.0"])
def test_a_server_of_another_protocol_is_told_of_in_one_line_that_says_what_to_upgrade(version):
    """Seen to fail without the client's own check in `api`."""

    class Another(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header(PROTOCOL_HEADER, version)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "14")
            self.end_headers()
            self.wfile.write(b'{"studies":[]}')

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Another)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    api = OracleApi(f"http://127.0.0.1:{server.server_port}", None, timeout_seconds=10)
    try:
        with pytest.raises(ProtocolMismatch) as caught:
            api.studies()
    finally:
        api.close()
        server.shutdown()
        thread.join()
        server.server_close()
    assert "upgrade" in str(caught.value)
    assert version in str(caught.value)
    assert "\n" not in str(caught.value)
