"""Adding a hyper-agent touches three places: the protocol's union, the registry, its own module.

Done here to a copy of the source, which then has to pass what every strategy must.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hyperoracle_protocol
import hyperoracle_server

SETTINGS = '''class TurnsStrategy(StrategyDefinition):
    """Every hyper-action in turn.

    Attributes:
        stride: how far it goes from one decision to the next.
    """

    name: Literal["turns"] = "turns"
    stride: int = Field(default=1, ge=1, le=100)


Strategy = Annotated[
    TurnsStrategy
    | EpgtStrategy'''

ROW = """REGISTRY = {
    "turns": StrategyRow(
        f"{_HERE}.turns:TurnsAgent", "To see every value in a job that is long enough."
    ),"""

MODULE = '''"""Every hyper-action in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from hyperoracle_server.strategies.base import Given, HyperAgent
from hyperoracle_server.strategies.decisions import Decision


@dataclass
class Turn:
    """What is noted of a job: the hyper-action that is next."""

    following: int = 0


class TurnsAgent(HyperAgent[Turn]):
    """Goes on by the stride; a control job gets the default."""

    def __init__(self, grid, stride) -> None:
        super().__init__(Turn)
        self._grid, self._stride = grid, stride

    @classmethod
    def of(cls, given: Given) -> Self:
        return cls(given.grid, given.strategy.stride)

    def decide(self, moment, rng) -> Decision:
        if moment.role == "control":
            return Decision(self._grid.default_joint_index)
        turn = self._jobs.of(moment.job_id)
        action = turn.following
        turn.following = (action + self._stride) % self._grid.joint_count
        return Decision(action)
'''


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Protocol and server with a hyper-agent more."""
    folder = tmp_path_factory.mktemp("source")
    for package in (hyperoracle_protocol, hyperoracle_server):
        found = Path(package.__file__).parent
        shutil.copytree(found, folder / found.name, ignore=shutil.ignore_patterns("__pycache__"))
    edited(folder / "hyperoracle_protocol/strategies.py",
           "Strategy = Annotated[\n    EpgtStrategy", SETTINGS)  # fmt: skip
    strategies = folder / "hyperoracle_server/strategies"
    edited(strategies / "registry.py", "REGISTRY = {", ROW)
    (strategies / "turns.py").write_text(MODULE)
    return folder


def test_a_hyper_agent_more_passes_what_every_strategy_must(source, tmp_path):
    tests = Path(__file__).parents[2]
    paths = [str(source), os.environ.get("PYTHONPATH", "")]
    command = [
        sys.executable, "-m", "pytest", str(Path(__file__).parent / "test_contract.py"),
        "-k", "turns", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
        "--basetemp", str(tmp_path / "inner"),
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths).rstrip(os.pathsep)}
    env = {name: value for name, value in env.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=tests.parent, env=env, text=True, capture_output=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    assert " failed" not in done.stdout
