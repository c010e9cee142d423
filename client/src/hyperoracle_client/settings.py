"""The client's settings: argument > environment > file > default.

The environment variable of a setting is `HYPERORACLE_` and its name in capitals. Files are TOML
with the same names: `hyperoracle.toml` in the working directory, then
`~/.config/hyperoracle/client.toml` (or below `XDG_CONFIG_HOME`).
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hyperoracle_client.errors import OracleMisconfigured, one_line
from hyperoracle_protocol.names import expected_one_of

logger = logging.getLogger("hyperoracle_client")

_temporary: dict[Path, str] = {}
"""Temporary folders that stand for one of the user's, and why."""
_said: set[Path] = set()


def config_folder() -> Path | None:
    """Where the user keeps settings, by `XDG_CONFIG_HOME`; None where there is no home."""
    return _folder("XDG_CONFIG_HOME", ".config")


def state_folder() -> Path:
    """Where the user's programs keep what they need again, by `XDG_STATE_HOME`; or a stand-in.

    The stand-in is the same for all processes of a user, so that a later one finds what is there.
    """
    folder = _folder("XDG_STATE_HOME", ".local", "state")
    if folder is not None and _can_be_written(folder):
        return folder
    why = "there is no home" if folder is None else f"{folder} cannot be written"
    try:
        stand_in = _temporary_folder()
    except OSError:  # not even that: whoever writes there says what happens then
        return folder or Path("hyperoracle-state")
    _temporary[stand_in] = why
    return stand_in


def why_temporary(path: Path) -> str | None:
    """Why a path lies in a stand-in, which may not last; None where it does not."""
    return next((why for folder, why in _temporary.items() if folder in path.parents), None)


def say_if_temporary(path: Path) -> None:
    """Say once of a path that it lies in a stand-in."""
    why = why_temporary(path)
    if why is not None and path not in _said:
        _said.add(path)
        logger.warning(
            "%s, so reports that cannot be delivered wait in %s: set spool_directory (or "
            "HYPERORACLE_SPOOL_DIRECTORY) to a folder that lasts", why, path,
        )  # fmt: skip


def _folder(variable: str, *below_home: str) -> Path | None:
    named = os.environ.get(variable)
    if named:
        return Path(named)
    try:
        return Path.home().joinpath(*below_home)
    except RuntimeError:  # neither HOME nor an entry in the password file
        return None


def _can_be_written(folder: Path) -> bool:
    """Whether the folder, or the first one above it that is there, takes new files."""
    for path in (folder, *folder.parents):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return False
        return path.is_dir() and os.access(path, os.W_OK | os.X_OK)
    return False


def _temporary_folder() -> Path:
    """A folder that only this user can write, among everybody's temporary ones.

    Raises:
        OSError: there is no place for temporary files.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir()) / f"hyperoracle-{user}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode) and (found.st_uid == user or os.name == "nt"):
        return path
    return Path(tempfile.mkdtemp(prefix="hyperoracle-"))  # somebody else has taken the name


ENVIRONMENT_PREFIX = "HYPERORACLE_"
EMBEDDED_SCHEME = "embedded:"


def default_spool_directory() -> Path:
    """Where undelivered reports wait: `hyperoracle/spool` in the user's state directory."""
    return state_folder() / "hyperoracle" / "spool"


class ClientSettings(BaseModel):
    """Everything about the client that can be set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "http://127.0.0.1:8080",
        description="Where the oracle is: http://host:port, https://host, or embedded:path.",
    )
    token: str | None = Field(
        None, repr=False, description="The access token, if the oracle asks for one."
    )
    ca_bundle: Path | None = Field(
        None,
        description="Certificates (PEM) by which an https oracle is trusted, instead of the "
        "system's.",
    )
    on_error: Literal["default", "raise"] = Field(
        "default",
        description="default: a job goes on with its default values. raise: it raises instead.",
    )
    propose_deadline_seconds: float = Field(
        0.05, gt=0, le=60, description="propose returns within this time."
    )
    start_deadline_seconds: float = Field(
        2.0, ge=0, le=60, description="start_job waits so long for the oracle, then begins alone."
    )
    request_deadline_seconds: float = Field(
        10.0, gt=0, le=600, description="Any call that training does not wait for may take so long."
    )
    finish_deadline_seconds: float = Field(
        10.0,
        ge=0,
        le=600,
        description="finish waits so long for reports to be delivered, also where the oracle is "
        "dead; what is left stays in spool_directory.",
    )
    circuit_least_seconds: float = Field(
        0.02,
        gt=0,
        le=3600,
        description="The first pause after failures; a probe follows.",
    )
    circuit_most_seconds: float = Field(
        30.0, gt=0, le=3600, description="The pause doubles with each failure up to this."
    )
    spool_directory: Path = Field(
        default_factory=default_spool_directory,
        description="Reports that cannot be delivered are kept here, one file per job.",
    )
    queue_capacity: int = Field(
        10_000, ge=1, description="Reports that may wait for delivery; more are dropped."
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not url.startswith(("http://", "https://", EMBEDDED_SCHEME)):
            raise ValueError(f"expected http://…, https://… or embedded:path, got {url!r}")
        if not url.startswith(EMBEDDED_SCHEME) and "@" in urlsplit(url).netloc:
            raise ValueError(  # it stands in messages and logs; so it is not repeated here
                "expected a url without a user or password in it: give a token as token=… or "
                "HYPERORACLE_TOKEN"
            )
        # A store's path is left as it is: what ends in a slash is no file.
        return url if url.startswith(EMBEDDED_SCHEME) else url.rstrip("/")

    @field_validator("token")
    @classmethod
    def _check_token(cls, token: str | None) -> str | None:
        """A token as it can be sent: a line break would end its header."""
        token = None if token is None else token.strip()
        if token and not (token.isascii() and token.isprintable()):
            raise ValueError(
                f"expected a token of printable ASCII, got {len(token)} characters with others "
                "among them"
            )
        return token or None

    @field_validator("ca_bundle", "spool_directory", mode="before")
    @classmethod
    def _check_path(cls, path: Any) -> Any:
        """A path as shells understand it, with ~ for the home."""
        if not isinstance(path, str | Path):
            return path
        if "\0" in str(path):
            raise ValueError(f"expected a path, got {str(path)!r}")
        try:
            return Path(path).expanduser()
        except RuntimeError:
            raise ValueError(f"expected a path that needs no home, got {str(path)!r}") from None

    @property
    def embedded_path(self) -> str | None:
        """The store's path of an `embedded:` url, None for a remote oracle."""
        if not self.url.startswith(EMBEDDED_SCHEME):
            return None
        return self.url.removeprefix(EMBEDDED_SCHEME)


def load_settings(arguments: Mapping[str, Any] | None = None) -> ClientSettings:
    """The settings in force.

    Args:
        arguments: what the program itself sets; a None counts as not set.

    Raises:
        OracleMisconfigured: a value that cannot work, naming its source.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    given = {k: v for k, v in (arguments or {}).items() if v is not None}
    for source, found in (*_files(), ("the environment", _environment()), ("the call", given)):
        unknown = sorted(found.keys() - ClientSettings.model_fields.keys())
        if unknown:
            told = expected_one_of(sorted(ClientSettings.model_fields), unknown[0], "settings")
            raise OracleMisconfigured(f"{source}: {told}")
        values.update(found)
        sources.update(dict.fromkeys(found, source))
    try:
        return ClientSettings(**values)
    except ValidationError as error:
        culprit = str(error.errors()[0]["loc"][0])
        source = sources[culprit]
        if source == "the environment":
            source += f": {ENVIRONMENT_PREFIX}{culprit.upper()}"
        raise OracleMisconfigured(f"{one_line(error)} (from {source})") from None


def _environment() -> dict[str, str]:
    names = {f"{ENVIRONMENT_PREFIX}{name.upper()}": name for name in ClientSettings.model_fields}
    return {name: os.environ[key] for key, name in names.items() if os.environ.get(key)}


def _files() -> list[tuple[str, dict[str, Any]]]:
    """The settings files that exist and that the user may look for, the weakest first."""
    config = config_folder()
    paths = [] if config is None else [config / "hyperoracle" / "client.toml"]
    found = []
    for path in (*paths, Path("hyperoracle.toml")):
        try:
            found.append((str(path), tomllib.loads(path.read_text(encoding="utf-8"))))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
            if isinstance(error, PermissionError) and not _can_be_looked_for(path):
                continue  # a home, or a working directory, of somebody else's
            raise OracleMisconfigured(f"expected TOML in {path}: {error}") from None
    return found


def _can_be_looked_for(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        return False
    return True
