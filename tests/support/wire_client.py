"""A bare caller of the wire contract, so that server tests do not lean on the client package."""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple

import numpy as np

from hyperoracle_protocol.codec import BINARY_MEDIA_TYPE, encode_frame

LEARNING_RATE = {"learning_rate": {"type": "relative", "values": [0.5, 1, 2]}}


class Answer(NamedTuple):
    """Status and decoded JSON (None where the body is empty, else text, or a snapshot's bytes)."""

    status: int
    json: Any
    headers: dict[str, str]


class Wire:
    """Calls an oracle over a socket, or in-process through `handle`."""

    def __init__(
        self, url: str | None = None, transport: Any = None, token: str | None = None
    ) -> None:
        self._transport = transport
        self._token = token
        self._connection = None
        if url is not None:
            host, _, port = url.removeprefix("http://").partition(":")
            self._connection = http.client.HTTPConnection(host, int(port), timeout=30)

    @property
    def is_embedded(self) -> bool:
        return self._connection is None

    def raw(
        self, method: str, path: str, body: bytes = b"", media_type: str = "application/json",
        **headers: str,
    ) -> Answer:  # fmt: skip
        sent = {"content-type": media_type, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if self._token is not None:
            sent.setdefault("authorization", f"Bearer {self._token}")
        if self._connection is None:
            status, got, content = self._transport.handle(method, path, sent, body)
        else:
            self._connection.request(method, path, body, sent)
            with self._connection.getresponse() as response:  # also where it breaks off
                content, status = response.read(), response.status
                got = {k.lower(): v for k, v in response.getheaders()}
        kind = got.get("content-type", "")
        if "json" in kind and content:
            return Answer(status, json.loads(content), got)
        decoded = content if "snapshot" in kind else content.decode()
        return Answer(status, decoded or None, got)

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        return self.raw(method, path, b"" if body is None else json.dumps(body).encode())

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    # -- the usual sequence --------------------------------------------------------------------

    def study(self, name: str, space: Any = None, **definition: Any) -> Answer:
        """With a seed, that a test's outcome is not by chance; `seed=None` has one drawn."""
        return self.call("PUT", f"/v1/studies/{name}",
                         {"space": space or LEARNING_RATE, "strategy": {"name": "epgt"},
                          "seed": 1, **definition})  # fmt: skip

    def job(self, study: str, *, total: int = 1000, **start: Any) -> Any:
        tensors = [{"name": "w", "shape": [4, 3]}, {"name": "b", "shape": [4]}]
        body = {"total_env_steps": total, "tensors": tensors, **start}
        answer = self.call("POST", f"/v1/studies/{study}/jobs", body)
        assert answer.status == 201, answer
        return answer.json

    def propose(self, job: Any, sequence: int, *, seed: int = 0, binary: bool = True,
                **fields: Any) -> Answer:  # fmt: skip
        layout = job["layout"]
        meta = {"sequence": sequence, "update_step": sequence, "env_step": sequence, **fields}
        path = f"/v1/jobs/{job['job_id']}/propose"
        features = hyper_state(layout, seed)
        if not binary:
            if features.size:
                state = {"signature": layout["signature"], "values": features.tolist()}
                meta["hyper_state"] = state
            return self.call("POST", path, meta)
        if not features.size:
            return self.raw("POST", path, encode_frame(json.dumps(meta).encode()),
                            BINARY_MEDIA_TYPE)  # fmt: skip
        meta["signature"] = layout["signature"]
        frame = encode_frame(json.dumps(meta).encode(), layout["dtype"], features.tobytes())
        return self.raw("POST", path, frame, BINARY_MEDIA_TYPE)

    def report(self, job: Any, sequence: int, through: int, returns: Any = (1.0,),
               **fields: Any) -> Answer:  # fmt: skip
        body = {"sequence": sequence, "credits_through": through, "env_step": sequence,
                "episode_returns": list(returns), **fields}  # fmt: skip
        return self.call("POST", f"/v1/jobs/{job['job_id']}/report", body)


def hyper_state(layout: Any, seed: int) -> np.ndarray:
    """A random hyper-state of a layout."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=layout["feature_count"]).astype(layout["dtype"])
