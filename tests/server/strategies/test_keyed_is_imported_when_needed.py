"""What decides by keys of hyper-states is in no process that has no study of that kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hyperoracle_protocol.strategies import KeyedStrategy, StrategyDefinition
from hyperoracle_server.strategies.registry import REGISTRY

LIFE = """
import sys, time
from support.wire_client import Wire
from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.oracle import upkeep
import hyperoracle_server.commands.serve

upkeep.LOOK_SECONDS = 0.01
folder, strategies = sys.argv[1], sys.argv[2].split(",")
for start in range(2):
    transport = EmbeddedTransport(folder + "/oracle.db")
    wire = Wire(transport=transport)
    for strategy in strategies:
        wire.study(strategy, strategy={"name": strategy})
        job = wire.job(strategy)
        assert wire.propose(job, 1, env_step=0).status == 200
        assert wire.report(job, 2, 1, [1.0], env_step=1000).status == 200
        assert wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", {}).status == 200
        for page in ("gain", "diagnosis", "schedule", "memory", "memory/map"):
            assert wire.call("GET", f"/v1/studies/{strategy}/{page}").status == 200, page
        assert wire.call("GET", f"/v1/proposals/{job['job_id']}.1/explanation").status == 200
        snapshot = wire.call("POST", f"/v1/studies/{strategy}/snapshots").json
        kind = "application/vnd.hyperoracle.snapshot"
        name = f"{strategy}-{start}"
        assert wire.raw("POST", f"/v1/studies/{name}/restore", snapshot, kind).status in (200, 201)
    for page in ("/metrics", "/readyz", "/v1/studies", "/openapi.json"):
        assert wire.call("GET", page).status == 200, page
    time.sleep(0.1)  # upkeep looks ten times; nothing tells when it has found nothing to do
    transport.close()
prefixes = ("hyperoracle_server.keyed", "hnswlib", "torch")
print(",".join(sorted(name for name in sys.modules if name.startswith(prefixes))))
"""


def imported(folder: Path, *strategies: str) -> str:
    """What a server with these studies has of the keyed wing, and of what that needs."""
    tests = str(Path(__file__).parents[2])
    path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    command = [sys.executable, "-c", LIFE, str(folder), ",".join(strategies)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_server_of_the_default_strategy_has_nothing_of_it(tmp_path):
    assert imported(tmp_path, "cautious_config") == ""


def test_nor_has_one_of_all_strategies_without_keys(tmp_path):
    others = [name for name, row in REGISTRY.items() if not row.by_keys]
    assert imported(tmp_path, *others) == ""


def test_a_study_that_needs_it_brings_it(tmp_path):
    assert "hnswlib" in imported(tmp_path, "cautious_config", "epgt").split(",")


@pytest.mark.parametrize("name", list(REGISTRY))
def test_the_row_says_which_need_it(name):
    from hyperoracle_protocol.strategies import STRATEGIES

    assert issubclass(STRATEGIES[name], StrategyDefinition)
    assert issubclass(STRATEGIES[name], KeyedStrategy) == REGISTRY[name].by_keys
