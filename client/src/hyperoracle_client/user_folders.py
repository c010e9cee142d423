"""The user's own folders, also where there is no home, or none that can be written.

A container's user may have no entry in the password file, a service's home may be a file or belong
to somebody else. Nothing needs one: settings are then those of the environment and the working
directory, and reports that cannot be delivered wait in a temporary folder.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from pathlib import Path

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
