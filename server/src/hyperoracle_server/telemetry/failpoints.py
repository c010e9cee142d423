"""Places where a test lets the process die, as `kill -9` at that very moment would.

None is armed unless somebody asks for it: `HYPERORACLE_FAILPOINT=before_commit:3` lets
`hyperoracle serve` or `hyperoracle db` end at once, without any clean-up, when it comes to
`before_commit` for the third time. An oracle inside a training job reads no such variable. While
nothing is armed a failpoint costs one comparison.
"""

from __future__ import annotations

import logging
import os
import threading

log = logging.getLogger(__name__)

VARIABLE = "HYPERORACLE_FAILPOINT"
"""The environment variable that arms one: its name, and after a colon which passage ends it."""

EXIT_CODE = 86
"""Of a process that ended at a failpoint."""

FAILPOINTS = {
    "before_write": "changes wait to be committed, nothing of them is written",
    "amid_write": "some of their rows are written, in a transaction that is open",
    "before_commit": "their rows are written, in a transaction that is open",
    "before_acknowledgement": "they are committed and nobody has been told",
    "before_encoder_publish": "a new encoder's memory is built, nothing is swapped or written",
    "after_encoder_publish": "its version and keys are committed",
    "before_index_swap": "search graphs are built and not in use",
    "after_index_swap": "search graphs are in use",
    "before_snapshot_seal": "a snapshot's rows are copied",
    "before_snapshot_name": "a snapshot is sealed and does not have its name yet",
    "before_restore_commit": "a study's rows are in the store, in a transaction that is open",
    "after_restore_commit": "a restored study is committed and not in mind",
    "before_store_moves": "the store to restore is whole, under another name",
    "between_stores": "the former store has moved away and the restored one has not its name",
    "after_store_moves": "the restored store has its name",
    "before_store_name": "a new store is made and has not its name",
    "before_migration_commit": "a schema's changes are made, in a transaction that is open",
}
"""What has and has not happened at each."""


class _Armed:
    def __init__(self, name: str, passage: int) -> None:
        self.name = name
        self._left = passage
        self._lock = threading.Lock()

    def passed(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os._exit(EXIT_CODE)


_armed: _Armed | None = None


def failpoint(name: str) -> None:
    """Go on, or end the process here if this failpoint is armed and its passage has come."""
    if _armed is not None and _armed.name == name:
        _armed.passed()


def arm(setting: str | None) -> None:
    """Arm one failpoint in the place of any other; None or nothing arms none.

    Args:
        setting: a name of `FAILPOINTS`, and after a colon the passage that ends the process, 1 if
            it is left out.

    Raises:
        ValueError: there is no such failpoint, or no such passage.
    """
    global _armed  # noqa: PLW0603 - one process, one death
    _armed = None
    if not setting:
        return
    name, _, passage = setting.partition(":")
    if name not in FAILPOINTS or not (passage or "1").isdecimal() or int(passage or 1) < 1:
        raise ValueError(
            f"{VARIABLE}: expected one of {', '.join(FAILPOINTS)}, with :N for its N-th passage, "
            f"got {setting!r}; unset it, it is for tests of crashes only"
        )
    _armed = _Armed(name, int(passage or 1))
    log.critical(
        "THIS PROCESS WILL END ITSELF at the failpoint %s, passage %s (%s is set; unset it where "
        "this is no test)", name, passage or 1, VARIABLE,
    )  # fmt: skip


def arm_from_environment() -> None:
    """Arm what `HYPERORACLE_FAILPOINT` names, if it is set.

    Raises:
        ValueError: as `arm`.
    """
    arm(os.environ.get(VARIABLE))
