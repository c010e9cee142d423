"""The server's settings, each documented; environment variables start with `HYPERORACLE_`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from hyperoracle_server.oracle.admission import Usage
from hyperoracle_server.strategies.base import INDEX_RECALL
from hyperoracle_server.strategies.cost import CostLimits
from hyperoracle_server.telemetry.logs import LogFormat, LogLevel

ENVIRONMENT_ONLY = frozenset({"admin_token"})
"""Settings that are no options: others on the machine see a command line."""

OF_STUDIES = ("study_call_seconds", "study_memory_bytes", "study_disk_bytes", "index_recall")
"""Settings that hold for an embedded oracle too."""

LEAST_ADMIN_TOKEN = 24
"""Characters of an administrator's token, at least: shorter ones can be guessed."""


class ServerSettings(BaseModel):
    """Everything about a server that can be set. Argument > environment > default."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    store: str = Field(default="oracle.db", description="The SQLite file that remembers all.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port; 0 picks a free one.")
    insecure: bool = Field(
        default=False, description="Allow an address other than loopback without any token."
    )
    require_token: bool = Field(
        default=False,
        description="Ask for a token even while there is none; from the first token on, always.",
    )
    admin_token: SecretStr | None = Field(
        default=None,
        description="An administrator's token that is not in the store; from the environment only.",
    )
    admin_token_file: Path | None = Field(
        default=None, description="A file with the administrator's token, such as a mounted secret."
    )
    tls_certificate: Path | None = Field(
        default=None, description="Serve https with this certificate chain (PEM)."
    )
    tls_key: Path | None = Field(default=None, description="The certificate's private key (PEM).")
    rate_limit: float = Field(
        default=1000.0,
        ge=0,
        allow_inf_nan=False,
        description="Calls per second of each token, twice as many at once; 0 for no limit.",
    )
    study_call_seconds: float = Field(
        default=CostLimits().call_seconds,
        gt=0,
        allow_inf_nan=False,
        description="Processor seconds that a study may take for one proposal, and for what one "
        "credited decision teaches it, as computed from its definition; a costlier one is refused.",
    )
    study_memory_bytes: int = Field(
        default=CostLimits().memory_bytes,
        ge=1 << 20,
        description="Memory that a study may take, as computed from its definition and its jobs' "
        "tensors.",
    )
    study_disk_bytes: int = Field(
        default=CostLimits().disk_bytes,
        ge=1 << 20,
        description="Disk that the hyper-states and networks of a study may take, as computed.",
    )
    index_recall: float = Field(
        default=INDEX_RECALL,
        ge=0.5,
        le=1,
        description="Share of true neighbours that search graphs of a large memory must find in "
        "its worst region; where they do not, it is scanned.",
    )
    token_studies: int = Field(
        default=1000, ge=0, description="Studies of one train token; 0 for no limit."
    )
    token_jobs: int = Field(
        default=20_000, ge=0, description="Jobs of one train token; 0 for no limit."
    )
    token_bytes: int = Field(
        default=32 << 30,
        ge=0,
        description="Bytes that studies and jobs of one train token may take in the store; 0 for "
        "no limit.",
    )
    audit_log: Path | None = Field(
        default=None,
        description="Append administrative calls to this file, a line of JSON each, instead of "
        "standard error.",
    )
    lease_seconds: float = Field(
        default=120.0, gt=0, description="A job silent for so long counts as stale."
    )
    body_limit_bytes: int = Field(
        default=1 << 20, ge=1024, description="Longest request body; longer ones get 413."
    )
    snapshot_limit_bytes: int = Field(
        default=1 << 30, ge=1024, description="Longest snapshot that a call may bring to restore."
    )
    trust_store: bool = Field(
        default=False,
        description="Start without reading the whole store first, which finds damage.",
    )
    request_seconds: float = Field(
        default=20.0,
        gt=0,
        allow_inf_nan=False,
        description="A request has to arrive within this time, and 1 s more for each 64 KiB; "
        "else 408.",
    )
    connection_limit: int = Field(
        default=800, ge=1, description="Connections at once, about three for each job; else 503."
    )
    keep_alive_seconds: int = Field(
        default=300, ge=1, description="How long an idle connection stays; a rollout lasts long."
    )
    shutdown_seconds: int = Field(
        default=8, ge=1, description="How long a shutdown waits for requests under way."
    )
    disk_headroom_bytes: int = Field(
        default=256 << 20,
        ge=0,
        description="With less free space where the store is, /readyz says no.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        description="Send traces to this OpenTelemetry collector, such as http://localhost:4318; "
        "takes the extra otel. OTEL_EXPORTER_OTLP_ENDPOINT does the same.",
    )
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: LogFormat = Field(
        default="auto",
        description="json, a line for each event; human; or auto: human on a terminal.",
    )

    @field_validator("admin_token", "admin_token_file", "tls_certificate", "tls_key", "audit_log",
                     "otlp_endpoint", mode="before")  # fmt: skip
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        """An empty environment variable, as a compose file makes them, says nothing."""
        return None if value == "" else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _level_in_any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("admin_token")
    @classmethod
    def _check_admin_token(cls, token: SecretStr | None) -> SecretStr | None:
        return None if token is None else SecretStr(checked_admin_token(token.get_secret_value()))

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("https takes both tls_certificate and tls_key; got only one of them")
        if self.admin_token is not None and self.admin_token_file is not None:
            raise ValueError("give admin_token or admin_token_file, not both")
        return self

    @property
    def cost_limits(self) -> CostLimits:
        """What a study may cost."""
        return CostLimits(self.study_call_seconds, self.study_memory_bytes, self.study_disk_bytes)

    @property
    def token_quota(self) -> Usage:
        """What a `train` token may take up."""
        return Usage(self.token_studies, self.token_jobs, self.token_bytes)

    def read_admin_token(self) -> str | None:
        """The administrator's token, None if there is none.

        Raises:
            OSError: its file cannot be read.
            ValueError: what its file holds can be no token.
        """
        if self.admin_token is not None:
            return self.admin_token.get_secret_value()
        if self.admin_token_file is None:
            return None
        try:
            return checked_admin_token(self.admin_token_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.admin_token_file}: {error}") from None

    @classmethod
    def embedded(cls, store: str) -> Self:
        """Those of an oracle in a job's own process: the environment says what studies may cost."""
        names = {name: "HYPERORACLE_" + name.upper() for name in OF_STUDIES}
        found = {n: os.environ[variable] for n, variable in names.items() if variable in os.environ}
        return cls.model_validate({"store": store, **found})

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


def checked_admin_token(text: str) -> str:
    """A token as it was given, without the space around it.

    Raises:
        ValueError: it could be guessed, or no header could carry it.
    """
    token = text.strip()
    if len(token) < LEAST_ADMIN_TOKEN or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"expected a token of at least {LEAST_ADMIN_TOKEN} printable ASCII characters "
            f"(`openssl rand -hex 32` makes one), got {len(token)} characters"
        )
    return token
