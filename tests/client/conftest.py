from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from client.scripted_oracle import ScriptedOracle

from hyperoracle_client import Choice, Job, Oracle, Scale

SPACE = {"learning_rate": Scale([0.5, 1, 2]), "clip_range": Choice([0.1, 0.2, 0.3], default=0.2)}
DEFAULTS = {"learning_rate": 1.0, "clip_range": 0.2}
CHOSEN = {"learning_rate": 2.0, "clip_range": 0.3}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("URL", "TOKEN", "ON_ERROR"):
        monkeypatch.delenv(f"HYPERORACLE_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "1000")  # whole rows, whatever terminal the tests have
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hyperoracle_client.oracle.CLOSE_SECONDS", 0.1)


@pytest.fixture
def server() -> Iterator[ScriptedOracle]:
    scripted = ScriptedOracle()
    yield scripted
    scripted.close()


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[..., Oracle]]:
    """Makes oracles that keep their spool in the test's directory and are closed after it."""
    opened = []

    def connect(url: str, **settings: Any) -> Oracle:
        quick = {"spool_directory": tmp_path / "spool", "finish_deadline_seconds": 5.0}
        oracle = Oracle(url, **{**quick, **settings})
        opened.append(oracle)
        return oracle

    yield connect
    for oracle in opened:
        oracle.close()


@pytest.fixture
def start(server: ScriptedOracle, connect: Callable[..., Oracle]) -> Callable[..., Job]:
    """Starts a job at the scripted oracle; `settings` are the oracle's."""

    def start(settings: dict[str, Any] | None = None, **arguments: Any) -> Job:
        oracle = connect(server.url, **(settings or {}))
        defaults = {"study": "s", "space": SPACE, "total_env_steps": 1000}
        return oracle.start_job(**{**defaults, **arguments})

    return start


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a state that another thread reaches and announces by no event."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)


def network(rng: np.random.Generator, inputs: int = 5, hidden: int = 8) -> dict[str, Any]:
    """An actor's weights and biases as float32 arrays, output units first."""
    shapes = {
        "in.weight": (hidden, inputs),
        "in.bias": (hidden,),
        "mid.weight": (hidden, hidden),
        "mid.bias": (hidden,),
        "out.weight": (2, hidden),
        "out.bias": (2,),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
