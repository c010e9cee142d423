"""The server's settings, each documented; environment variables start with `HYPERORACLE_`."""

from __future__ import annotations

import os
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field


class ServerSettings(BaseModel):
    """Everything about a server that can be set. Argument > environment > default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str = Field(default="oracle.db", description="The SQLite file that remembers all.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port; 0 picks a free one.")
    insecure: bool = Field(
        default=False, description="Allow an address other than loopback without any token."
    )
    lease_seconds: float = Field(
        default=120.0, gt=0, description="A job silent for so long counts as stale."
    )
    body_limit_bytes: int = Field(
        default=1 << 20, ge=1024, description="Longest request body; longer ones get 413."
    )
    keep_alive_seconds: int = Field(
        default=300, ge=1, description="How long an idle connection stays; a rollout lasts long."
    )
    shutdown_seconds: int = Field(
        default=8, ge=1, description="How long a shutdown waits for requests under way."
    )
    log_level: str = Field(default="info", description="debug, info, warning or error.")

    @classmethod
    def load(cls, **arguments: Any) -> Self:
        """Settings from arguments that are not None, then the environment, then defaults."""
        prefix = "HYPERORACLE_"
        names = cls.model_fields
        found = {
            n: os.environ[prefix + n.upper()] for n in names if prefix + n.upper() in os.environ
        }
        found.update({name: value for name, value in arguments.items() if value is not None})
        return cls.model_validate(found)
