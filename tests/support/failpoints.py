"""Lets the process end at a failpoint: `python -m support.failpoints SETTING serve|db ...`.

That is `python -m hyperoracle_server` which ends at once, without any clean-up, when it comes to
the failpoint of the setting: `before_commit:3` when it does so for the third time.
"""

from __future__ import annotations

import logging
import os
import runpy
import sys
import threading
from itertools import count

from hyperoracle_server.telemetry.failpoints import FAILPOINTS, on_passing

log = logging.getLogger(__name__)

EXIT_CODE = 86
"""Of a process that ended at a failpoint."""


def arm(setting: str | None) -> None:
    """Arm one failpoint in the place of any other; None or nothing arms none.

    Args:
        setting: a name of `FAILPOINTS`, and after a colon the passage that ends the process, 1 if
            it is left out.

    Raises:
        ValueError: there is no such failpoint, or no such passage.
    """
    on_passing(None)
    if not setting:
        return
    name, _, passage = setting.partition(":")
    if name not in FAILPOINTS or not (passage or "1").isdecimal() or int(passage or 1) < 1:
        raise ValueError(
            f"expected one of {', '.join(FAILPOINTS)}, with :N for its N-th passage, got "
            f"{setting!r}"
        )
    last, passages, lock = int(passage or 1), count(1), threading.Lock()

    def end_at(passed: str) -> None:
        if passed == name:
            with lock:
                if next(passages) == last:
                    os._exit(EXIT_CODE)

    on_passing(end_at)
    log.critical("THIS PROCESS WILL END ITSELF at the failpoint %s, passage %d", name, last)


def program(setting: str) -> tuple[str, ...]:
    """What `OracleProcess` is to run, so that it ends at a failpoint."""
    return ("-m", __name__, setting)


if __name__ == "__main__":
    arm(sys.argv.pop(1))
    runpy.run_module("hyperoracle_server", run_name="__main__", alter_sys=True)
