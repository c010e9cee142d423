"""What no route sees: what is no HTTP, HEAD, methods that a path does not take."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.oracle_process import OracleProcess

from hyperoracle_server.api.connections import LONGEST_HEAD_BYTES

HOST = b"host: a\r\n"
CLOSE = b"connection: close\r\n"


def ask(process: OracleProcess, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to bytes, after which the server hangs up."""
    where = urlsplit(process.url)
    answer = b""
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # it has answered and hung up
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:  # what it did not read of a request: the answer is there
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    named = (line.partition(": ") for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, _, value in named}, body


def problem(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str, Any]:
    status, headers, body = answer
    assert headers["content-type"] == "application/problem+json"
    assert headers["hyperoracle-protocol"] == "1.0"
    assert int(headers["content-length"]) == len(body)
    found = json.loads(body)
    assert found["status"] == status
    assert found["request_id"] == headers["x-request-id"]
    return status, found["code"], found


GET = b"GET /v1/studies HTTP/1.1\r\n"
NO_HTTP = {
    "no method": b"HELLO WORLD\r\n\r\n",
    "a method that is none": b"FETCH /v1/studies HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in small letters": b"get /v1/studies HTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /v1/studies\r\n" + HOST + b"\r\n",
    "a version that is none": b"GET /v1/studies HTTP/9.9\r\n" + HOST + b"\r\n",
    "another protocol": b"GET /v1/studies SIP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "no path": b"GET  HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path that is none": b"GET http://[ HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a header without a colon": GET + HOST + b"nothing\r\n\r\n",
    "a blank in a header's name": GET + HOST + b"a b: c\r\n\r\n",
    "a header with a zero": GET + HOST + b"a: \x00\r\n\r\n",
    "a length that is none": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: x\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 1\r\n" * 2 + b"\r\nx",
    "length and chunks": b"POST / HTTP/1.1\r\n" + HOST
    + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk that is none": b"POST / HTTP/1.1\r\n" + HOST
    + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "no host": GET + b"\r\n",
    "two hosts": GET + HOST + b"Host: b\r\n\r\n",
    "the same host twice": GET + HOST * 2 + b"\r\n",
    "two tokens": GET + HOST + b"authorization: Bearer a\r\n" * 2 + b"\r\n",
    "two origins": GET + HOST + b"origin: http://a\r\n" * 2 + b"\r\n",
    "two kinds of body": GET + HOST + b"content-type: application/json\r\n" * 2 + b"\r\n",
}  # fmt: skip


@pytest.mark.parametrize("what", NO_HTTP.values(), ids=list(NO_HTTP))
def test_what_is_no_request_is_answered_with_a_problem_document(running_oracle, what):
    """Seen to fail: plain text, and two of a header were one."""
    status, code, found = problem(ask(running_oracle, what))
    assert (status, code) == (400, "malformed_request")
    assert found["expected"]


def test_which_header_is_there_twice_is_said(running_oracle):
    _, _, found = problem(ask(running_oracle, GET + HOST * 2 + b"\r\n"))
    assert found["detail"] == "the header Host is there more than once"


def test_a_proxys_old_version_needs_no_host(running_oracle):
    assert ask(running_oracle, b"GET /livez HTTP/1.0\r\n\r\n")[0] == 200


def test_a_refusal_is_never_taken_for_the_answer_to_the_request_before(running_oracle):
    """Seen to fail: with both in one piece the first is never answered but with the refusal."""
    first = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    status, _, body = ask(running_oracle, first + NO_HTTP["no method"])
    assert (status, json.loads(body)["status"]) == (200, "ok")


def head_of(length: int) -> bytes:
    """A request whose head is so long."""
    rest = b"GET /livez HTTP/1.1\r\n" + HOST + CLOSE + b"x: \r\n\r\n"
    return rest.replace(b"x: ", b"x: " + b"y" * (length - len(rest)))


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_head_may_have_64_kib_and_not_a_byte_more(running_oracle, pieces):
    """Seen to fail: what came with the head's last piece was not counted, 64 KiB and more."""
    for length, expected in ((LONGEST_HEAD_BYTES, 200), (LONGEST_HEAD_BYTES + 1, 413),
                             (LONGEST_HEAD_BYTES + 50_000, 413)):  # fmt: skip
        request = head_of(length)
        assert len(request) == length
        size = -(-length // pieces)
        parts = [request[at : at + size] for at in range(0, length, size)]
        status, headers, body = ask(running_oracle, *parts)
        assert status == expected, length
        if expected == 413:
            assert problem((status, headers, body))[1] == "body_too_large"


def test_a_long_body_is_no_head(running_oracle):
    body = b" " * 300_000 + b"{"
    request = b"POST /v1/jobs/none/report HTTP/1.1\r\n" + HOST + CLOSE
    answer = ask(running_oracle, request + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert problem(answer)[:2] == (422, "invalid_request")


def test_trailers_count_as_head_in_one_piece_too(running_oracle):
    chunked = b"POST /v1/jobs/none/report HTTP/1.1\r\n" + HOST + CLOSE
    chunked += b"transfer-encoding: chunked\r\n\r\n1\r\n \r\n0\r\n"
    answer = ask(running_oracle, chunked + b"a: " + b"x" * 70_000 + b"\r\n\r\n")
    assert problem(answer)[:2] == (413, "body_too_large")


PLACES = ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/v1/studies",
          "/v1/studies/{study}", "/v1/studies/{study}/gain", "/v1/studies/{study}/schedule",
          "/v1/jobs/{job}", "/v1/tokens"]  # fmt: skip


def test_head_is_answered_wherever_get_is_and_alike(wire, name):
    """Seen to fail with 405."""
    wire.study(name)
    job = wire.job(name)["job_id"]
    for place in PLACES:
        path = place.format(study=name, job=job)
        asked, headed = wire.call("GET", path), wire.call("HEAD", path)
        assert (headed.status, headed.json) == (200, None), path
        kept = {"content-type", "content-security-policy", "x-content-type-options"}
        assert {k: v for k, v in headed.headers.items() if k in kept} == {
            k: v for k, v in asked.headers.items() if k in kept
        }
        if place not in ("/metrics", "/readyz"):  # which say something else each time
            assert headed.headers["content-length"] == asked.headers["content-length"], path
    for path in ("/v1/nothing", "/v1/studies/none", f"/v1/jobs/{job}/propose"):
        headed, asked = wire.call("HEAD", path), wire.call("GET", path)
        assert (headed.status, headed.json) == (asked.status, None), path


def test_a_head_in_place_of_a_change_changes_nothing(wire, name):
    wire.study(name)
    assert wire.call("HEAD", f"/v1/studies/{name}").status == 200
    assert wire.call("HEAD", f"/v1/studies/{name}/snapshots").status == 405


def test_a_method_that_a_path_does_not_take_is_told_which_ones_it_takes(wire, name):
    answer = wire.call("PATCH", f"/v1/studies/{name}")
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PUT"
    assert wire.call("GET", "/v1/jobs/x/propose").headers["allow"] == "POST"
