"""A client written from `docs/protocol.md` alone, with Python's standard library and nothing else.

It is what a client in another language would be: short, slow, and independent of this project's
code. Numbers are lists of lists, and Python's own floats.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import math
import struct
from typing import Any

Matrix = list[list[float]]

BINARY = "application/vnd.hyperoracle.v1+binary"
CLIP = 60_000.0
TINY = 1e-30
POOLED = ("log_gradient_norm", "gradient_cosine", "log_update_ratio")
SIGNALS = ("approx_kl", "clip_fraction", "entropy_fraction", "explained_variance")


# -- hyper-states ----------------------------------------------------------------------------------


def as_matrix(tensor: Any, shape: list[int]) -> Matrix:
    """Nested lists of a shape as rows by everything else."""

    def flat(part: Any) -> list[float]:
        return [n for each in part for n in flat(each)] if isinstance(part, list) else [part]

    if len(shape) < 2:
        return [flat(tensor)]
    return [flat(row) for row in tensor]


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def flat_of(m: Matrix) -> list[float]:
    return [x for row in m for x in row]


def columns(m: Matrix) -> Matrix:
    return [list(column) for column in zip(*m, strict=True)]


def times(m: Matrix, v: list[float]) -> list[float]:
    return [dot(row, v) for row in m]


def norm(x: list[float]) -> list[float]:
    length = math.sqrt(dot(x, x))
    return [each / (length + TINY) for each in x]


def ln0(x: float) -> float:
    return math.log(x) if x > TINY else 0.0


def clipped(x: float) -> float:
    return max(-CLIP, min(CLIP, x))


class Statistics:
    """The 22 numbers of one job, proposal by proposal."""

    def __init__(self, shapes: list[list[int]]) -> None:
        self.shapes = shapes
        self.vectors: dict[int, list[float]] = {}
        self.weights: dict[int, list[float]] = {}
        self.gradients: dict[int, list[float]] = {}

    def features(
        self, weights: list[Any], gradients: list[Any], signals: dict[str, float], progress: float
    ) -> list[float]:
        rows = [
            self.of_tensor(i, as_matrix(weights[i], shape), gradients[i] and flat_of(
                as_matrix(gradients[i], shape)))
            for i, shape in enumerate(self.shapes)
            if len(shape) >= 2
        ]  # fmt: skip
        found = []
        for name in ("log_weight_norm", "log_gradient_norm", "log_top_singular_value",
                     "gradient_cosine", "log_update_ratio"):  # fmt: skip
            of = [row[name] for row in rows] or [0.0]
            found.append(math.fsum(of) / len(of))
            found += [min(of), max(of), of[0], of[-1]] if name in POOLED else []
        found += [signals.get(name, 0.0) for name in SIGNALS]
        return [clipped(x) for x in (*found, progress)]

    def of_tensor(self, i: int, w: Matrix, g: list[float] | None) -> dict[str, float]:
        flat = flat_of(w)
        length = math.sqrt(dot(flat, flat))
        across = columns(w)
        v = self.vectors.get(i)
        if v is None:
            v = norm([math.sqrt(dot(column, column)) for column in across])
            for _ in range(11):
                v = norm(times(across, times(w, v)))
        u = times(w, v)
        self.vectors[i] = norm(times(across, u))
        before, g_before = self.weights.get(i, flat), self.gradients.pop(i, None)
        step = [x - y for x, y in zip(flat, before, strict=True)]
        self.weights[i] = flat
        of_g = cosine = 0.0
        if g is not None:
            self.gradients[i] = g
            of_g = math.sqrt(dot(g, g))
            if g_before is not None:
                both = of_g * math.sqrt(dot(g_before, g_before))
                cosine = dot(g, g_before) / both if both > TINY else 0.0
        return {
            "log_weight_norm": ln0(length / math.sqrt(len(w))),
            "log_gradient_norm": ln0(of_g / math.sqrt(len(w))),
            "log_top_singular_value": ln0(math.sqrt(dot(u, u))),
            "gradient_cosine": cosine,
            "log_update_ratio": ln0(math.sqrt(dot(step, step)) / length) if length**2 > TINY else 0,
        }


class Sketch:
    """The sketches of one job, proposal by proposal."""

    def __init__(self, layout: dict[str, Any], names: list[str], shapes: list[list[int]]) -> None:
        self.layout = layout
        self.tensors = [(names.index(t["name"]), t) for t in layout["tensors"]]
        self.shapes = shapes
        nothing = [[[0.0] * layout["width"]] * t["rows"] for _, t in self.tensors]
        self.orders = [nothing] * layout["orders"]

    def sign(self, tensor: str, column: int, j: int) -> int:
        digest = hashlib.sha256(f"{self.layout['seed']}:{tensor}:{column}".encode()).digest()
        return 1 if digest[j // 8] >> (j % 8) & 1 else -1

    def product(self, tensor: dict[str, Any], m: Matrix, scale: float) -> Matrix:
        width = self.layout["width"]
        across = [
            [self.sign(tensor["name"], c, j) * scale / math.sqrt(width)
             for c in range(tensor["columns"])]
            for j in range(width)
        ]  # fmt: skip
        return [times(across, row) for row in m]

    def features(self, weights: list[Any], gradients: list[Any]) -> list[float]:
        now, newest = [], []
        for i, tensor in self.tensors:
            now.append(self.product(tensor, as_matrix(weights[i], self.shapes[i]), 1.0))
            g = gradients[i]
            zeros = [[0.0] * tensor["columns"]] * tensor["rows"]
            g = zeros if g is None else as_matrix(g, self.shapes[i])
            newest.append(self.product(tensor, g, self.layout["gradient_scale"]))
        if self.orders and newest != self.orders[0]:
            self.orders = [newest, *self.orders[:-1]]
        return [
            clipped(x)
            for i in range(len(self.tensors))
            for order in (now, *self.orders)
            for x in flat_of(order[i])
        ]


# -- calls -----------------------------------------------------------------------------------------


class Refused(Exception):
    """An answer that is a problem document."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"])
        self.code = problem["code"]


def frame(metadata: dict[str, Any], dtype: int, numbers: list[float]) -> bytes:
    """A binary body; dtype 1 float16, 2 float32, 3 float64."""
    text = json.dumps(metadata).encode()
    text += b" " * (-len(text) % 8)
    kind = {1: "e", 2: "f", 3: "d"}[dtype]
    head = struct.pack("<4sBBHII", b"HYOR", 1, dtype, 0, len(text), len(numbers))
    return head + text + struct.pack(f"<{len(numbers)}{kind}", *numbers)


class ForeignClient:
    """One job of one study.

    Args:
        host: with its port.
        study: made with `definition`, or confirmed.
        start: the fields of *start a job*, with `tensors`.
        binary: whether the hot calls go as binary bodies.
    """

    def __init__(
        self, host: str, study: str, definition: dict[str, Any], start: dict[str, Any], *,
        binary: bool,
    ) -> None:  # fmt: skip
        self.connection = http.client.HTTPConnection(host, timeout=30)
        self.binary = binary
        self.call("PUT", f"/v1/studies/{study}", definition)
        started = self.call("POST", f"/v1/studies/{study}/jobs", start)
        self.job = started["job_id"]
        self.layout = started["layout"]
        self.sequence = started["last_sequence"]
        self.previous = self.covered = self.proposed = self.sequence
        self.total = start["total_env_steps"]
        names = [tensor["name"] for tensor in start["tensors"]]
        shapes = [tensor["shape"] for tensor in start["tensors"]]
        self.statistics = Statistics(shapes)
        self.sketch = Sketch(self.layout, names, shapes)

    def propose(
        self, update_step: int, env_step: int, weights: list[Any], gradients: list[Any],
        **signals: float,
    ) -> dict[str, Any]:  # fmt: skip
        """Ask for the hyperparameters of the next update."""
        self.sequence += 1
        self.proposed = self.sequence
        body: dict[str, Any] = {"sequence": self.sequence, "update_step": update_step,
                                "env_step": env_step, "signals": signals}  # fmt: skip
        features: list[float] = []
        if self.layout["kind"] == "statistics":
            progress = min(1.0, env_step / self.total)
            features = self.statistics.features(weights, gradients, signals, progress)
        elif self.layout["kind"] == "sketch":
            features = self.sketch.features(weights, gradients)
        path = f"/v1/jobs/{self.job}/propose"
        if self.binary and features:
            body["signature"] = self.layout["signature"]
            dtype = {"float16": 1, "float32": 2}[self.layout["dtype"]]
            return self.send("POST", path, frame(body, dtype, features), BINARY)
        if features:
            body["hyper_state"] = {"signature": self.layout["signature"], "values": features}
        return self.call("POST", path, body)

    def report(self, env_step: int, returns: list[float]) -> dict[str, Any]:
        """Tell what the environment phase brought."""
        self.sequence += 1
        body: dict[str, Any] = {"sequence": self.sequence, "credits_through": self.proposed,
                                "credits_after": self.covered, "previous_report": self.previous,
                                "env_step": env_step}  # fmt: skip
        self.previous, self.covered = self.sequence, self.proposed
        path = f"/v1/jobs/{self.job}/report"
        if self.binary:
            return self.send("POST", path, frame(body, 3, returns), BINARY)
        return self.call("POST", path, {**body, "episode_returns": returns})

    def finish(self, reason: str = "completed") -> dict[str, Any]:
        """End the job."""
        end = {"reason": reason, "last_sequence": self.sequence}
        return self.call("POST", f"/v1/jobs/{self.job}/finish", end)

    def call(self, method: str, path: str, body: Any) -> dict[str, Any]:
        return self.send(method, path, json.dumps(body).encode(), "application/json")

    def send(self, method: str, path: str, body: bytes, kind: str) -> dict[str, Any]:
        self.connection.request(method, path, body, {"content-type": kind})
        with self.connection.getresponse() as response:
            found: dict[str, Any] = json.loads(response.read())
        if response.status >= 400:
            raise Refused(found)
        return found

    def close(self) -> None:
        self.connection.close()
