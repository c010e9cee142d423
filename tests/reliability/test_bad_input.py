"""R7: a hundred and more of each kind of bad input, to a real server.

Each gets a 4xx (or, where its body never comes to its end, no answer), what the server knows stays
as it was, and its process does not grow.

Seen to fail with the check for finite features taken out of `job_calls.check_features`, without a
bound of returns in JSON (their sums overflow: 500) or in binary bodies (they are taken in), and
while a caller that hung up counted as a bug.
"""

from __future__ import annotations

import gzip
import json
import random
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.oracle_process import OracleProcess
from support.wire_client import Wire, hyper_state

from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, encode_frame

OF_EACH = 100
TOKEN = "an-administrators-token-of-the-tests"
MAX_GROWTH_BYTES = 50 << 20
BODY_LIMIT_BYTES = 1 << 20
BOMB = gzip.compress(bytes(64 << 20), 1)
GIVEN_UP = 0
"""Instead of a status: the server hung up without an answer."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad-input")
    (folder / "token").write_text(TOKEN)
    with OracleProcess(folder, admin_token_file=folder / "token", require_token=True,
                       rate_limit=0) as process:  # fmt: skip
        yield process


class Attacker:
    """Makes bad input for one running job, of the kinds of its methods; see `of`."""

    def __init__(self, process: OracleProcess, job: Any) -> None:
        self.process = process
        self.layout = job["layout"]
        self.path = f"/v1/jobs/{job['job_id']}"
        self.chance = random.Random(7)

    def features(self) -> np.ndarray:
        return hyper_state(self.layout, self.chance.randrange(1000))

    def spoiled(self, by: float) -> np.ndarray:
        """Good features, some of which are something else."""
        features = self.features()
        places = self.chance.sample(range(features.size), self.chance.randint(1, features.size))
        features[places] = by
        return features

    def frame(self, features: np.ndarray, dtype: str = "float16") -> bytes:
        meta = {"sequence": self.chance.randint(100, 10**6), "update_step": 0, "env_step": 0,
                "signature": self.layout["signature"]}  # fmt: skip
        return encode_frame(json.dumps(meta).encode(), dtype, features.tobytes())

    def call(self, body: bytes, call: str = "propose", **headers: str) -> int:
        """An ordinary POST of a binary body, to a proposal's or a report's place."""
        host, _, port = self.process.url.removeprefix("http://").partition(":")
        path = headers.pop("path", f"{self.path}/{call}")
        hangs_up = bool(headers.pop("hangs_up", ""))
        sent = {
            "host": f"{host}:{port}",
            "authorization": f"Bearer {TOKEN}",
            "content-type": BINARY_MEDIA_TYPE,
            "content-length": str(len(body)),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return self.raw(path, {n: v for n, v in sent.items() if v}, body, hangs_up=hangs_up)

    def json(self, text: str, call: str = "report") -> int:
        return self.call(text.encode(), call, content_type="application/json")

    def raw(self, path: str, headers: dict[str, str], *parts: bytes, hangs_up: bool = False) -> int:
        """Send a request as it is, say no more or not; returns the status of the first answer."""
        host, _, port = self.process.url.removeprefix("http://").partition(":")
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with closing(socket.create_connection((host, int(port)), timeout=30)) as connection:
            try:
                connection.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode())
                for part in parts:
                    connection.sendall(part)
                if hangs_up:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has answered and hung up
            try:
                line = connection.recv(65536).split(b"\r\n")[0]
            except OSError:
                return GIVEN_UP
        return int(line.split()[1]) if line else GIVEN_UP

    # -- the kinds -----------------------------------------------------------------------------

    def features_with_nan(self) -> int:
        return self.call(self.frame(self.spoiled(np.nan)))

    def features_with_infinity(self) -> int:
        return self.call(self.frame(self.spoiled(self.chance.choice([np.inf, -np.inf]))))

    def no_body(self) -> int:
        return self.call(b"", self.chance.choice(["propose", "report"]))

    def a_length_that_does_not_fit_the_dtype(self) -> int:
        frame = self.frame(self.features())
        return self.call(frame[: -self.chance.choice([1, 3, 5, 7])])

    def a_wrong_dimension(self) -> int:
        size = self.chance.choice([n for n in range(200) if n != self.layout["feature_count"]])
        return self.call(self.frame(np.zeros(size, "f2")))

    def more_than_the_cap(self) -> int:
        body = bytes(BODY_LIMIT_BYTES + self.chance.randint(1, 9))
        return self.call(body, self.chance.choice(["propose", "report"]))

    def a_wrong_dtype(self) -> int:
        dtype = self.chance.choice(["float32", "float64"])
        return self.call(self.frame(self.features().astype(dtype), dtype))

    def an_unknown_job(self) -> int:
        job = self.chance.choice(["nobody", "%00", "..%2f", "x" * 300, str(self.chance.random())])
        return self.call(self.frame(self.features()), path=f"/v1/jobs/{job}/propose")

    def a_bad_token(self) -> int:
        token = self.chance.choice(["", "Bearer", "Basic Og==", f"Bearer {TOKEN}x", "Bearer é",
                                    f"Bearer {self.chance.random()}"])  # fmt: skip
        return self.call(self.frame(self.features()), authorization=token)

    def deep_json(self) -> int:
        opening = self.chance.choice(["[", '{"a":', '[{"a":'])
        deep = opening * self.chance.randint(1_000, 100_000)
        if self.chance.random() < 0.5:
            deep = f'{{"sequence": 100, "credits_through": 0, "env_step": 0, "x": {deep}'
        where = self.chance.choice(["propose", "report", "finish", "heartbeat"])
        return self.json(deep, where)

    def a_gzip_bomb(self) -> int:
        bomb = BOMB[: self.chance.randint(20, len(BOMB))]
        encoding = self.chance.choice(["gzip", "GZIP", "x-gzip", "deflate", "br", "gzip, gzip"])
        return self.call(bomb, content_encoding=encoding)

    def a_content_length_that_lies(self) -> int:
        frame = self.frame(self.features())
        length = self.chance.choice([len(frame) - self.chance.randint(1, 50), len(frame) + 100,
                                     -1, "many", "1e3", 10**30, BODY_LIMIT_BYTES + 1])  # fmt: skip
        return self.call(frame, content_length=str(length), hangs_up="yes")

    def no_content_length(self) -> int:
        return self.call(self.frame(self.features()), content_length="")

    def an_endless_chunked_body(self) -> int:
        chunk = bytes(self.chance.choice([1 << 12, 1 << 16, 1 << 18]))
        framed = b"%x\r\n%s\r\n" % (len(chunk), chunk)
        headers = {"host": "x", "authorization": f"Bearer {TOKEN}", "transfer-encoding": "chunked"}
        chunks = 2 * BODY_LIMIT_BYTES // len(chunk)
        return self.raw(f"{self.path}/report", headers, *[framed] * chunks)

    def returns_that_are_no_numbers_to_reckon_with(self) -> int:
        value = self.chance.choice(["NaN", "Infinity", "-Infinity", "1e999", "1.7e308", "-1e101",
                                    "null", "[]", "{}", '"many"'])  # fmt: skip
        field = self.chance.choice(["phase_return", "custom_return"])
        what = f'"episode_returns": [1.0, {value}]'
        if value != "null" and self.chance.random() < 0.5:
            what = f'"{field}": {value}'
        return self.json(f'{{"sequence": 100, "credits_through": 0, "env_step": 0, {what}}}')

    def binary_returns_that_are_no_numbers_to_reckon_with(self) -> int:
        numbers = np.ones(self.chance.randint(1, 9))
        numbers[self.chance.randrange(numbers.size)] = self.chance.choice(
            [np.nan, np.inf, -np.inf, 1.7e308, -1e101]
        )
        meta = json.dumps({"sequence": 100, "credits_through": 0, "env_step": 0}).encode()
        return self.call(encode_frame(meta, "float64", numbers.tobytes()), "report")


KINDS = [name for name, found in vars(Attacker).items() if callable(found) and name not in (
    "__init__", "features", "spoiled", "frame", "call", "json", "raw")]  # fmt: skip
NEVER_WHOLE = {"a_content_length_that_lies", "an_endless_chunked_body"}
"""Kinds whose body may never come to its end: no answer is an answer."""


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10


def everything(wire: Wire) -> Iterator[Any]:
    """All that the server tells of its studies."""
    yield wire.call("GET", "/v1/studies").json
    for place in ("jobs", "gain", "memory", "memory/map", "schedule", "diagnosis"):
        yield wire.call("GET", f"/v1/studies/s/{place}").json


@pytest.fixture(scope="module")
def attacked(served):
    wire = Wire(url=served.url, token=TOKEN)
    wire.study("s")
    job = wire.job("s")
    for sequence in (1, 2, 3):
        wire.propose(job, sequence, seed=sequence)
    wire.report(job, 4, 2, [3.0])
    yield wire, Attacker(served, job)
    wire.close()


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_gets_a_4xx_and_changes_nothing(served, attacked, kind):
    wire, attacker = attacked
    before = list(everything(wire))
    attack = getattr(attacker, kind)
    attack()  # what is loaded at first is no growth
    size = resident_bytes(served.pid)
    statuses = [attack() for _ in range(OF_EACH)]
    allowed = [GIVEN_UP] if kind in NEVER_WHOLE else []
    odd = [status for status in statuses if not 400 <= status < 500 and status not in allowed]
    assert not odd
    assert statuses.count(GIVEN_UP) < OF_EACH / 2
    assert list(everything(wire)) == before
    growth = resident_bytes(served.pid) - size
    print(f"{kind}: {growth / 2**20:.1f} MiB")
    assert growth <= MAX_GROWTH_BYTES
    assert served.errors() == []
