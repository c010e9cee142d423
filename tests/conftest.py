"""What holds for all tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example may take, and how fast examples must be made, depend on the machine.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

SLOW_FOLDERS = ("reliability", "system", "trainers/bench", "trainers/experiments")
"""Nearly every test there starts processes or trains."""

SERVERS = {"running_oracle", "oracle_process"}
"""Fixtures that are servers in processes of their own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow by its folder or by a server that it asks for needs no mark of its own."""
    slow = [Path(__file__).parent / folder for folder in SLOW_FOLDERS]
    for item in items:
        asked = set(getattr(item, "fixturenames", ()))
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        asks_for_server = bool(asked & SERVERS) or parameters.get("wire") == "http"
        if asks_for_server or any(item.path.is_relative_to(folder) for folder in slow):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _new_stores_are_copies() -> Iterator[None]:
    """In this process; see `support.new_stores`."""
    if "hyperoracle_server.ledger.store" not in sys.modules:  # nothing here opens a store
        yield
        return
    from support import new_stores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyperoracle_server.ledger.store.upgrade", new_stores.upgrade)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_logs_of_other_libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stable-Baselines3 leaves a folder for each of its runs, in the one of temporary files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_LOGDIR", str(tmp_path_factory.mktemp("sb3")))
        yield
