"""Handles on what runs inside this process, for tests that look in or change something there."""

from __future__ import annotations

from typing import Any

from hyperoracle_server.api.deployment import Deployment, deployment_of
from hyperoracle_server.oracle.oracle import Oracle


def oracle_of(caller: Any) -> Oracle:
    """The oracle that answers a caller in this process.

    Args:
        caller: an application, an embedded transport, or whatever calls through one (`Wire`).
    """
    return deployed(caller).oracle


def deployed(caller: Any) -> Deployment:
    """What the application consists of that answers a caller in this process.

    Args:
        caller: as for `oracle_of`.
    """
    while hasattr(caller, "_transport"):
        caller = caller._transport
    return deployment_of(getattr(caller, "_app", caller))
