from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

HEAVY = ("torch", "fastapi", "starlette", "sqlalchemy", "hyperoracle_server", "httpx")


def heavy_imports_of(module: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after importing the module."""
    code = f"import sys, {module}; print(*(set(sys.modules) & set({HEAVY!r})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("module", ["hyperoracle_client", "hyperoracle_client.cli"])
def test_the_client_imports_nothing_heavy(module: str) -> None:
    assert heavy_imports_of(module) == set()


def test_the_test_above_can_fail() -> None:
    assert "httpx" in heavy_imports_of("hyperoracle_client.api")
    assert "sqlalchemy" in heavy_imports_of("sqlalchemy.exc")
