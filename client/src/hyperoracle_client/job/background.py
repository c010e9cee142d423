"""One background thread per job, for everything that training does not wait for."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from typing import Protocol

logger = logging.getLogger("hyperoracle_client")


class Task(Protocol):
    """Something to be done now and then."""

    def due(self) -> float:
        """When to run next, on the monotonic clock; infinite: not before a wake-up."""
        ...

    def run(self) -> None:
        """Do it once; it moves `due` on."""
        ...


class Background:
    """A daemon thread that runs the task that is most overdue, and sleeps until one is due."""

    def __init__(self, name: str, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._wake = threading.Event()
        self._stopped = False
        self._sleeps_until = math.inf
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the tasks' due times again."""
        self._wake.set()

    def wake_for(self, task: Task) -> None:
        """Look at the due times again if this task's is before the one that is awaited."""
        if task.due() < self._sleeps_until:
            self._wake.set()

    def stop(self, seconds: float) -> None:
        """End after the task that is running, if any; wait so long for that."""
        self._stopped = True
        self._wake.set()
        self._thread.join(seconds)

    def _loop(self) -> None:
        while not self._stopped:
            self._sleeps_until = math.inf  # awake: what becomes due now may be seen too late
            self._wake.clear()
            task = min(self._tasks, key=lambda task: task.due())
            due = task.due()
            pause = due - time.monotonic()
            if pause > 0:
                self._sleeps_until = due
                self._wake.wait(min(pause, threading.TIMEOUT_MAX))
                continue
            try:
                task.run()
            except Exception:  # a bug of ours must not end the thread that delivers reports
                if self._stopped:  # the channels are being closed
                    return
                logger.exception("oracle background task %s failed", type(task).__name__)
                self._wake.wait(1.0)
