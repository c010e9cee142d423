"""What the oracle tells of itself: metrics, readiness, logs."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import threading
from concurrent.futures import Future

import pytest
from support.handles import deployed, oracle_of
from support.oracle_process import OracleProcess
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.errors import StoreUnavailable
from hyperoracle_server.keyed import indexes
from hyperoracle_server.ledger.store import Ledger
from hyperoracle_server.oracle import calls, upkeep
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.oracle.services import Clock
from hyperoracle_server.telemetry import logs
from hyperoracle_server.views import readiness

EPGT = {"name": "epgt", "memory": {"capacity": 3}, "encoder": {"minimum_samples": 4}}


@pytest.fixture
def transport(tmp_path):
    opened = EmbeddedTransport(str(tmp_path / "oracle.db"))
    yield opened
    opened.close()


@pytest.fixture
def oracle(transport):
    return oracle_of(transport)


def samples(wire) -> dict[str, float]:
    """Every sample of /metrics by its name with labels."""
    lines = wire.call("GET", "/metrics").json.splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def train(wire, study, phases, first=1):
    job = wire.job(study)
    for sequence in range(first, first + 2 * phases, 2):
        wire.propose(job, sequence, seed=sequence)
        wire.report(job, sequence + 1, sequence, [float(sequence)])
    return job


# -- metrics -------------------------------------------------------------------------------------


def test_every_report_is_counted_once_by_what_came_of_it(wire, name):
    wire.study(name)
    before = samples(wire)
    job = wire.job(name)
    wire.propose(job, 1)
    wire.report(job, 2, 1)
    wire.report(job, 2, 1)
    assert wire.report(job, 2, 1, [5.0]).status == 422
    assert wire.report(job, 3, 4).status == 422
    assert wire.call("POST", f"/v1/jobs/{job['job_id']}/report", {"sequence": "x"}).status == 422
    assert wire.report(job, 6, 5, previous_report=4).json["status"] == "waiting"
    after = samples(wire)

    def counted(result):
        series = f'hyperoracle_reports_total{{result="{result}"}}'
        return after[series] - before[series]

    assert [counted(r) for r in ("applied", "duplicate", "rejected", "waiting", "late")] == [
        1, 1, 3, 1, 0,
    ]  # fmt: skip


def test_each_stage_of_a_decision_and_of_a_report_is_timed(running_oracle, name):
    wire = Wire(url=running_oracle.url)
    wire.study(name, strategy=EPGT)
    before = samples(wire)
    train(wire, name, phases=3)
    after = samples(wire)
    wire.close()
    count = {
        stage: after[series] - before[series]
        for stage in ("parse", "encode", "search", "choose", "commit")
        for series in [f'hyperoracle_stage_duration_seconds_count{{stage="{stage}"}}']
    }
    assert count == {"parse": 6, "encode": 3, "search": 3, "choose": 3, "commit": 3}
    assert after["hyperoracle_fsync_duration_seconds_count"] > 0
    assert after["process_resident_memory_bytes"] > 0


def test_evictions_are_counted(transport, name):
    wire = Wire(transport=transport)
    wire.study(name, strategy=EPGT)
    train(wire, name, phases=8)
    found = samples(wire)
    assert found["hyperoracle_memory_entries"] == 3
    assert found["hyperoracle_evictions_total"] == found["hyperoracle_reports_stored"] - 3


def test_a_job_that_falls_silent_is_counted_and_logged_once_for_each_silence(tmp_path, caplog):
    class Turned(Clock):
        ahead = 0.0

        def monotonic(self):
            return super().monotonic() + self.ahead

    class Counting(upkeep_observer()):
        silent = 0

        def lease_expired(self):
            self.silent += 1

    from hyperoracle_protocol.jobs import Heartbeat, StartJob
    from hyperoracle_protocol.studies import StudyDefinition

    clock, observer = Turned(), Counting()
    ledger = Ledger(tmp_path / "oracle.db")
    oracle = Oracle(ledger, lease_seconds=120, clock=clock, observer=observer)
    space = {"learning_rate": {"type": "relative", "values": [0.5, 1, 2]}}
    definition = StudyDefinition.model_validate({"space": space, "strategy": {"name": "random"}})
    oracle.create_study("s", definition)
    started = oracle.start_job("s", StartJob(total_env_steps=10, tensors=[]))
    assert upkeep.note_expired(oracle) == 0
    clock.ahead += 121
    with caplog.at_level(logging.WARNING):
        assert [upkeep.note_expired(oracle) for _ in range(3)] == [1, 0, 0]
    record = next(r for r in caplog.records if r.getMessage() == "a job fell silent")
    assert record.about == {"study": "s", "job": started.job_id}
    calls.heartbeat(oracle, started.job_id, Heartbeat())
    assert upkeep.note_expired(oracle) == 0
    clock.ahead += 121
    assert upkeep.note_expired(oracle) == 1
    assert observer.silent == 2
    ledger.close()


def upkeep_observer():
    from hyperoracle_server.telemetry.observer import Observer

    return Observer


def test_search_graphs_are_compared_with_exact_search(transport, oracle, name, monkeypatch):
    wire = Wire(transport=transport)
    memory = {"capacity": 50, "index": "hnsw"}
    wire.study(name, strategy={**EPGT, "memory": memory})
    train(wire, name, phases=10)
    told = []
    monkeypatch.setattr(oracle.observer, "index_sampled", told.append)
    indexes.RecallSamples(oracle).run(oracle.studies(), threading.Event())
    assert told == [1.0]


def test_no_label_holds_a_name_that_callers_choose(wire, name):
    wire.study(name)
    job = train(wire, name, phases=1)
    wire.call("GET", f"/v1/studies/{name}-no")
    text = wire.call("GET", "/metrics").json
    assert name not in text
    assert job["job_id"] not in text


# -- readiness -----------------------------------------------------------------------------------


def readyz(transport):
    deployed(transport).readiness._found = None  # look now
    status, _, body = transport.handle("GET", "/readyz", {}, b"")
    return status, json.loads(body)


def test_a_ready_oracle_says_what_it_looked_at(transport):
    assert readyz(transport) == (
        200,
        {"status": "ok", "checks": {"recovery": "ok", "store": "ok", "disk": "ok"}},
    )


def test_a_store_that_cannot_be_written_is_not_ready_and_the_process_lives(transport, monkeypatch):
    def fails():
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(oracle_of(transport).ledger, "check_writable", fails)
    status, found = readyz(transport)
    assert status == 503
    assert found["checks"]["store"] == "the store cannot be written: Read-only file system"
    assert transport.handle("GET", "/livez", {}, b"")[0] == 200


def test_too_little_room_is_not_ready(transport, monkeypatch):
    monkeypatch.setattr(oracle_of(transport).ledger, "free_bytes", lambda: 1000)
    status, found = readyz(transport)
    assert status == 503
    assert "got 1000" in found["checks"]["disk"]


def test_studies_that_cannot_be_loaded_again_are_not_ready(transport, monkeypatch):
    def fails():
        raise ValueError("the ledger holds nonsense")

    monkeypatch.setattr(oracle_of(transport), "studies", fails)
    status, found = readyz(transport)
    assert status == 503
    assert "ValueError" in found["checks"]["recovery"]


def test_a_writer_that_does_not_answer_or_refuses_is_not_ready(transport, monkeypatch):
    """Seen to fail (500, or for ever) where either is not caught."""
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.05)
    writer = oracle_of(transport).ledger.writer
    monkeypatch.setattr(writer, "submit_durably", lambda *_: Future())
    status, found = readyz(transport)
    assert (status, "did not answer within" in found["checks"]["store"]) == (503, True)

    def refuses(*_):
        raise StoreUnavailable("it is closing")

    monkeypatch.setattr(writer, "submit_durably", refuses)
    status, found = readyz(transport)
    assert (status, "it is closing" in found["checks"]["store"]) == (503, True)


def test_free_space_that_cannot_be_told_is_not_ready(transport, monkeypatch):
    """Seen to fail (500) where the error is not caught."""

    def fails():
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(oracle_of(transport).ledger, "free_bytes", fails)
    status, found = readyz(transport)
    assert (status, found["checks"]["disk"]) == (503, "free space is not known: Stale file handle")


def test_a_finding_holds_for_a_second_and_a_change_is_logged_once(transport, monkeypatch, caplog):
    """Seen to fail with a finding that holds for ever, and with changes that are not logged."""
    now, free = [1000.0], [10**15]
    oracle = oracle_of(transport)
    monkeypatch.setattr(oracle.clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(oracle.ledger, "free_bytes", lambda: free[0])
    statuses = []
    with caplog.at_level(logging.WARNING, "hyperoracle_server.views.readiness"):
        assert readyz(transport)[0] == 200
        for seconds, room in ((0.9, 0), (1.1, 0), (2.2, 0), (3.3, 10**15), (4.4, 10**15)):
            now[0], free[0] = 1000.0 + seconds, room
            statuses.append(transport.handle("GET", "/readyz", {}, b"")[0])
    assert statuses == [200, 503, 503, 200, 200]
    assert [r.getMessage() for r in caplog.records] == ["readiness changed"] * 2


def test_many_questions_make_one_look(transport, monkeypatch):
    looks = []
    monkeypatch.setattr(oracle_of(transport).ledger, "check_writable",
                        lambda: looks.append(1))  # fmt: skip
    monkeypatch.setattr(oracle_of(transport).clock, "monotonic", lambda: 1e9)
    for _ in range(20):
        transport.handle("GET", "/readyz", {}, b"")
    assert len(looks) <= 1


# -- logs ----------------------------------------------------------------------------------------


def record(text, **fields):
    made = logging.LogRecord("hyperoracle_server.x", logging.INFO, "x.py", 1, text, (), None)
    made.about = fields
    return made


def test_a_line_for_machines_is_one_json_object():
    line = logs.JsonLines().format(record("job started", study="a\nb", job="job-1"))
    assert "\n" not in line
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found.pop("time"))
    assert found == {
        "level": "info", "logger": "hyperoracle_server.x", "event": "job started",
        "study": "a\nb", "job": "job-1",
    }  # fmt: skip


def test_a_line_for_people_cannot_be_forged():
    line = logs.HumanLines().format(record("refused", call="GET /v1/x\n12:00:00 INFO forged"))
    assert line.count("\n") == 0
    assert line.endswith('INFO    refused  call="GET /v1/x\\n12:00:00 INFO forged"')


def test_lines_are_for_people_on_a_terminal_and_for_machines_elsewhere():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    root = logging.getLogger()
    kept, level = root.handlers, root.level
    try:
        for stream, start in ((io.StringIO(), "{"), (Terminal(), "")):
            logs.configure("info", "auto", stream)
            logging.getLogger("x").info("event", extra=logs.about(a=1))
            assert stream.getvalue().startswith(start)
        assert "event  a=1" in stream.getvalue()
    finally:
        root.handlers = kept
        root.setLevel(level)


@pytest.mark.slow
def test_a_request_id_goes_from_the_caller_into_log_answer_and_error(tmp_path, name):
    with OracleProcess(tmp_path, log_level="debug") as process:
        wire = Wire(url=process.url)
        wire.raw("PUT", f"/v1/studies/{name}", DEFINITION, x_request_id="asked-1")
        job = wire.job(name)
        wire.report(job, 1, 0)
        refused = wire.raw("GET", "/v1/studies/nobody", x_request_id="asked-2")
        assert refused.json["request_id"] == refused.headers["x-request-id"] == "asked-2"
        wire.close()
        process.terminate()
        lines = [json.loads(x) for x in process.log().splitlines() if x.startswith('{"time"')]
    by_id = {line.get("request_id"): line for line in lines}
    assert (by_id["asked-1"]["event"], by_id["asked-1"]["study"]) == ("study created", name)
    assert by_id["asked-2"]["code"] == "study_not_found"
    answered = next(line for line in lines if line["event"] == "report answered")
    assert (answered["study"], answered["job"]) == (name, job["job_id"])
    assert len(answered["request_id"]) == 16


DEFINITION = json.dumps(
    {"space": {"learning_rate": {"type": "relative", "values": [0.5, 1, 2]}}}
).encode()
