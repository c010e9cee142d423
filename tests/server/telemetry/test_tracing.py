"""Traces: what is sent of a call, what never is, and that no call waits for their collector.

Seen to fail with the guard removed: the framework's telemetry left on, the query in a span, spans
sent within the call, a shutdown that waits for the collector, the exporter's warnings passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import socket
import subprocess
import sys
import time

import pytest
from support.handles import deployed, oracle_of
from support.oracle_process import OracleProcess
from support.trace_collector import Collector
from support.wire_client import Wire, hyper_state

from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, encode_frame
from hyperoracle_server.api.app import create_app
from hyperoracle_server.errors import StoreUnavailable
from hyperoracle_server.settings import ServerSettings
from hyperoracle_server.telemetry.observer import Observer, all_of
from hyperoracle_server.telemetry.tracing import Tracing

pytestmark = pytest.mark.slow

EPGT = {"name": "epgt", "encoder": {"minimum_samples": 4, "publish_seconds": 0}}
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TOKEN = "0123456789abcdef0123456789abcdef"
PROPOSE, REPORT = "POST /v1/jobs/{job}/propose", "POST /v1/jobs/{job}/report"


@pytest.fixture
def collector():
    with Collector() as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def sends_at_once():
    """Spans are sent every 50 ms, not every 5 s, by the servers that a test starts."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield


@pytest.fixture(scope="module")
def traced(tmp_path_factory, sends_at_once):
    """An oracle that sends its traces to a collector, and this one; several tests share them."""
    folder = tmp_path_factory.mktemp("oracle")
    with Collector() as opened, OracleProcess(folder, otlp_endpoint=opened.url) as process:
        yield process, opened


def propose(wire, job, sequence, flags="01", trace=TRACE, **headers):
    """A proposal as a part of the caller's trace; returns its hyper-state too."""
    layout = job["layout"]
    features = hyper_state(layout, sequence)
    meta = {"sequence": sequence, "update_step": sequence, "env_step": sequence,
            "signature": layout["signature"]}  # fmt: skip
    frame = encode_frame(json.dumps(meta).encode(), layout["dtype"], features.tobytes())
    headers["traceparent"] = f"00-{trace}-{CALLER}-{flags}"
    answer = wire.raw("POST", f"/v1/jobs/{job['job_id']}/propose", frame, BINARY_MEDIA_TYPE,
                      **headers)  # fmt: skip
    assert answer.status == 200, answer
    return features


def named(spans, name):
    return [span for span in spans if span.name == name]


def of_study(spans, study):
    """The spans of a study's requests."""
    return [span for span in spans if span.attributes.get("hyperoracle.study") == study]


def test_a_call_is_a_span_of_the_callers_trace_with_its_stages_below(traced, name):
    process, collector = traced
    wire = Wire(url=process.url)
    wire.study(name, strategy=EPGT)
    job = wire.job(name)
    propose(wire, job, 1, x_request_id="asked-1")
    wire.report(job, 2, 1)
    # A request's span is made after those of its stages, and they are sent in this order.
    spans = collector.wait_for(lambda found: named(of_study(found, name), REPORT))
    wire.close()
    of_calls = of_study(spans, name)
    [call] = named(of_calls, PROPOSE)
    assert (call.trace_id, call.parent_id, call.is_server) == (TRACE, CALLER, True)
    port = int(process.url.rpartition(":")[2])
    assert call.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/jobs/{job}/propose",
        "http.response.status_code": 200,
        "url.path": f"/v1/jobs/{job['job_id']}/propose",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": port,
        "client.address": "127.0.0.1",
        "hyperoracle.request_id": "asked-1",
        "hyperoracle.study": name,
        "hyperoracle.job": job["job_id"],
    }
    stages = [span for span in spans if span.parent_id == call.span_id]
    assert [stage.name for stage in stages] == ["parse", "encode", "search", "choose"]
    [report] = named(of_calls, REPORT)
    assert report.trace_id != TRACE
    assert report.parent_id == ""
    below = [span for span in spans if span.parent_id == report.span_id]
    assert [stage.name for stage in below] == ["parse", "commit"]
    for parent, children in ((call, stages), (report, below)):
        for child in children:
            assert child.trace_id == parent.trace_id
            assert parent.began <= child.began <= child.ended <= parent.ended
            assert not child.is_server
    [started] = named(of_calls, "POST /v1/studies/{study}/jobs")
    assert started.resource["service.name"] == "hyperoracle"
    assert collector.paths == {"/v1/traces"}


def test_a_caller_that_does_not_record_is_not_recorded(traced, name):
    process, collector = traced
    wire = Wire(url=process.url)
    wire.study(name, strategy=EPGT)
    job = wire.job(name)
    silent, spoken = TRACE[::-1], TRACE[1:] + TRACE[0]
    propose(wire, job, 1, flags="00", trace=silent)
    propose(wire, job, 2, trace=spoken)
    wire.close()
    spans = collector.wait_for(lambda found: [s for s in found if s.trace_id == spoken])
    assert not [span for span in spans if span.trace_id == silent]  # they come in their order


def test_what_never_leaves_the_process(tmp_path, collector, name, monkeypatch):
    monkeypatch.setenv("HYPERORACLE_ADMIN_TOKEN", TOKEN)
    with OracleProcess(tmp_path, otlp_endpoint=collector.url) as process:
        wire = Wire(url=process.url, token=TOKEN)
        wire.study(name, strategy=EPGT)
        job = wire.job(name)
        features = propose(wire, job, 1, cookie="a-cookie", user_agent="an-agent")
        assert wire.propose(job, 2, seed=2, binary=False).status == 200
        as_json = hyper_state(job["layout"], 2)
        state = {"signature": "another", "values": [12345.678]}
        body = {"sequence": 3, "update_step": 3, "env_step": 3, "hyper_state": state}
        path = f"/v1/jobs/{job['job_id']}/propose"
        assert wire.call("POST", path, body).status == 422
        assert wire.report(job, 4, 2, [98765.4321]).status == 200
        wrong = Wire(url=process.url, token="hyo_guessed_guessedguessedguessed")
        assert wrong.call("GET", f"/v1/studies?token={TOKEN}").status == 401
        made = wire.call("POST", "/v1/tokens", {"name": "t", "scope": "train"})
        assert made.status == 201, made
        spans = collector.wait_for(lambda found: named(found, "POST /v1/tokens"))
        wire.close()
        wrong.close()
    sent = b"".join(collector.bodies)
    assert name.encode() in sent
    for size in (8, 64):  # bytes of a body's numbers, wherever they begin
        raw = features.tobytes() + as_json.tobytes()
        assert not [raw[i : i + size] for i in range(0, len(raw) - size, size)
                    if raw[i : i + size] in sent]  # fmt: skip
    numbers = ["12345.678", "98765.4321", *(repr(value) for value in as_json.tolist())]
    never = [TOKEN, made.json["token"], "guessed", "a-cookie", "an-agent", *numbers]
    assert [text for text in never if text.encode() in sent] == []
    assert {span.attributes["http.response.status_code"] for span in spans if span.is_server} == {
        200, 201, 401, 422,
    }  # fmt: skip
    assert not [span for span in spans if span.is_error]  # the caller's mistakes are not ours


def test_opentelemetrys_own_variables_turn_it_on_and_name_the_service(
    tmp_path, collector, monkeypatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=for-the-collector")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "oracle-of-team-7")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    with OracleProcess(tmp_path) as process:
        wire = Wire(url=process.url)
        wire.call("GET", "/v1/studies")
        [span] = collector.wait_for(lambda found: found)
        wire.close()
        assert "for-the-collector" not in process.log()
    assert span.name == "GET /v1/studies"
    assert span.resource["service.name"] == "oracle-of-team-7"
    assert span.resource["deployment.environment.name"] == "test"
    assert collector.headers[0]["api-key"] == "for-the-collector"


def test_log_lines_name_the_trace_and_probes_make_none(traced, name):
    process, collector = traced
    wire = Wire(url=process.url)
    for path in ("/livez", "/readyz", "/metrics"):
        assert wire.call("GET", path).status == 200
    body = json.dumps({"space": {"x": {"type": "choice", "values": [1, 2]}}}).encode()
    parent = f"00-{TRACE}-{CALLER}-01"
    wire.raw("GET", f"/v1/studies/no-{name}", x_request_id=name, traceparent=parent)
    wire.raw("PUT", f"/v1/studies/{name}", body)
    spans = collector.wait_for(lambda found: of_study(found, name))
    wire.close()
    paths = {span.attributes.get("url.path") for span in spans}
    assert f"/v1/studies/no-{name}" in paths
    assert not paths & {"/livez", "/readyz", "/metrics"}
    lines = [json.loads(x) for x in process.log().splitlines() if x.startswith('{"time"')]
    [refused] = [line for line in lines if line.get("request_id") == name]
    assert (refused["event"], refused["trace_id"]) == ("refused", TRACE)
    assert "trace_id" not in lines[0]


def test_work_beside_the_calls_is_a_trace_of_its_own(tmp_path, collector, name):
    with OracleProcess(tmp_path, otlp_endpoint=collector.url) as process:
        wire = Wire(url=process.url)
        wire.study(name, strategy={**EPGT, "memory": {"capacity": 50, "index": "hnsw"}})
        job = wire.job(name)
        for sequence in range(1, 21, 2):
            wire.propose(job, sequence, seed=sequence)
            wire.report(job, sequence + 1, sequence, [float(sequence)])
        wire.close()
        collector.wait_for(lambda found: named(found, "encoder round"))
        process.terminate()
        process.start()  # its graphs are built anew
        spans = collector.wait_for(lambda found: named(found, "index build"))
    for work in (*named(spans, "encoder round"), *named(spans, "index build")):
        assert (work.parent_id, work.attributes) == ("", {"hyperoracle.study": name})
        assert work.ended > work.began


@pytest.mark.parametrize("fault", ["hangs", "is not there"])
def test_a_collector_that_is_no_good_costs_no_call_anything_but_one_warning(
    fault, tmp_path, monkeypatch, name
):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "32")  # soon full
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    with Collector(hangs=True) as collector, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else will
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
        endpoint = collector.url if fault == "hangs" else nowhere
        with OracleProcess(tmp_path, otlp_endpoint=endpoint) as process:
            wire = Wire(url=process.url)
            wire.study(name, strategy=EPGT)
            job = wire.job(name)
            longest = 0.0
            for sequence in range(1, 101, 2):
                began = time.perf_counter()
                assert wire.propose(job, sequence, seed=sequence).status == 200
                assert wire.report(job, sequence + 1, sequence).status == 200
                longest = max(longest, time.perf_counter() - began)
            if fault == "hangs":
                collector.wait_for_a_request()
            wire.close()
            began = time.perf_counter()
            process.terminate()
            assert time.perf_counter() - began < 10
            log = process.log()
    # The collector is waited for for 10 s a batch: a call that waited with it would show.
    assert longest < 5
    assert log.count("spans get lost") == 1
    assert log.count('"warning"') + log.count('"error"') == 1


# -- in this process -----------------------------------------------------------------------------


@pytest.fixture
def untouched_logger():
    logger = logging.getLogger("opentelemetry")
    kept = logger.handlers, logger.propagate
    yield
    logger.handlers, logger.propagate = kept


@pytest.fixture
def app(tmp_path, collector, untouched_logger):
    tracing = Tracing(f"{collector.url}/v1/traces")
    opened = create_app(ServerSettings(store=str(tmp_path / "oracle.db")), tracing=tracing)
    yield opened
    deployed(opened).close()


def get(app, path):
    """The status of an answer; what the server does with a bug's exception is left out."""
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http",
             "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
             "headers": [], "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1)}  # fmt: skip
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    async def answer():
        with contextlib.suppress(ValueError):
            await app(scope, receive, send)

    asyncio.run(answer())
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ValueError("a bug with 0.1234567 in it"), 500, "ValueError"),
        (StoreUnavailable("0.1234567"), 503, "503"),
    ],
)
def test_a_failure_of_ours_is_an_error_whose_text_stays_here(
    app, collector, monkeypatch, error, status, kind
):
    def fails():
        raise error

    monkeypatch.setattr(oracle_of(app), "studies", fails)
    assert get(app, "/v1/studies") == status
    [span] = collector.wait_for(lambda found: found)
    monkeypatch.undo()
    assert span.is_error
    assert span.attributes["error.type"] == kind
    assert span.attributes["http.response.status_code"] == status
    assert (span.message, span.events) == ("", 0)
    assert b"0.1234567" not in b"".join(collector.bodies)


def test_observers_tell_each_of_everything():
    methods = {n: m for n, m in vars(Observer).items() if inspect.isfunction(m)}
    told = []

    class Noting(Observer):
        def __getattribute__(self, name):
            return lambda *arguments: told.append((name, arguments)) if name in methods else None

    both = all_of(Noting(), Noting())
    for method, function in methods.items():
        arguments = tuple(range(len(inspect.signature(function).parameters) - 1))
        getattr(both, method)(*arguments)
        assert told == [(method, arguments)] * 2
        told.clear()


# -- without the extra, and without being asked --------------------------------------------------


def child(script):
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )


def test_without_the_extra_one_line_says_what_to_install(tmp_path):
    ended = child(
        "import sys, runpy\n"
        "sys.modules['opentelemetry.sdk'] = None\n"
        f"sys.argv = ['serve', '--store', {str(tmp_path / 'o.db')!r}, '--port', '0',"
        " '--otlp-endpoint', 'http://localhost:4318']\n"
        "runpy.run_module('hyperoracle_server', run_name='__main__')"
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "pip install 'hyperoracle-server[otel]'" in ended.stderr


def test_an_oracle_that_is_not_asked_for_traces_loads_nothing_that_makes_them(tmp_path):
    ended = child(
        "import sys\n"
        "import hyperoracle_server.commands.serve\n"
        "from hyperoracle_server.api.embedded import EmbeddedTransport\n"
        f"transport = EmbeddedTransport({str(tmp_path / 'o.db')!r})\n"
        "assert transport.handle('GET', '/v1/studies', {}, b'')[0] == 200\n"
        "transport.close()\n"
        "loaded = {'opentelemetry.sdk', 'opentelemetry.exporter', 'requests',"
        " 'hyperoracle_server.telemetry.tracing', 'hyperoracle_server.api.traced'"
        "} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_embedded_oracle_tells_nothing_to_what_its_process_has_set_up(tmp_path):
    ended = child(
        "import sys\n"
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "kept = InMemorySpanExporter()\n"
        "provider = TracerProvider()\n"
        "provider.add_span_processor(SimpleSpanProcessor(kept))\n"
        "trace.set_tracer_provider(provider)\n"
        "from hyperoracle_server.api.embedded import EmbeddedTransport\n"
        f"transport = EmbeddedTransport({str(tmp_path / 'o.db')!r})\n"
        "assert transport.handle('GET', '/v1/studies?secret=1', {}, b'')[0] == 200\n"
        "transport.close()\n"
        "trace.get_tracer('job').start_span('its own').end()\n"
        "names = [span.name for span in kept.get_finished_spans()]\n"
        "sys.exit(None if names == ['its own'] else str(names))"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
