"""Strategies learn from what fails: `benchmarks/what_fails.py`, one study of each, as a test.

The benchmark says in how many of 200 studies they do.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[3] / "benchmarks" / "what_fails.py"


@pytest.fixture(scope="module")
def what_fails():
    spec = importlib.util.spec_from_file_location("benchmarks_what_fails", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("world", ["kills", "kills half", "nan", "stops early"])
@pytest.mark.parametrize("strategy", ["cautious_config", "best_config", "bandit", "epgt"])
def test_exploiting_jobs_leave_what_kills_and_take_a_good_early_stop(what_fails, strategy, world):
    assert not what_fails.goes_wrong(strategy, world, 24, seed=1000)
