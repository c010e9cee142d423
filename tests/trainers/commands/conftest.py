"""An environment without anybody's own oracle, and one that is interrupted."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete


class Interrupting(gymnasium.Env[Any, Any]):
    """Rewards 1 in episodes of four env steps; a signal comes with the 150th env step.

    Args:
        number: of the signal, sent to this very process as a terminal would.
    """

    observation_space = Box(0.0, 1.0, (1,), np.float32)
    action_space = Discrete(2)

    def __init__(self, number: int) -> None:
        self._number = number
        self._count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self._count += 1
        if self._count == 150:
            os.kill(os.getpid(), self._number)
        return np.zeros(1, np.float32), 1.0, self._count % 4 == 0, False, {}


@pytest.fixture(scope="session", autouse=True)
def _interrupting() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        name = f"Interrupting{number.name}-v0"
        gymnasium.register(name, Interrupting, kwargs={"number": int(number)})


@pytest.fixture(autouse=True)
def _nobodys_oracle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("HYPERORACLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HYPERORACLE_SPOOL_DIRECTORY", str(tmp_path / "spool"))
    # The default of 50 ms is missed now and then on a busy machine, and counts as a fallback.
    monkeypatch.setenv("HYPERORACLE_PROPOSE_DEADLINE_SECONDS", "30")
    monkeypatch.setenv("HYPERORACLE_START_DEADLINE_SECONDS", "30")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
