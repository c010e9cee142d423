"""Stands inside `learn` of a Stable-Baselines3 algorithm: around each update, and where it fails.

A callback hears nothing of an exception in `learn`, and cannot tell where an update ends. So the
algorithm gets, from the start of `learn` to its end, a class that is its own but for the steps of
that loop. (Functions put on the object itself would be saved with it.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

_STEPS = ("collect_rollouts", "dump_logs", "_dump_logs")
_WATCHER = "_hyperoracle_watcher"


class Watcher(Protocol):
    """Told of the steps of `learn`."""

    def update(self, train: Callable[[], None]) -> None:
        """Do an update by calling `train`."""
        ...

    def broke(self, error: BaseException) -> None:
        """`learn` ends by this error."""
        ...


def watch(algorithm: Any, watcher: Watcher) -> None:
    """Let a watcher stand in `learn` until `release`."""
    kind = type(algorithm)

    def train(self: Any) -> None:
        with _watching(watcher):
            watcher.update(lambda: kind.train(self))

    steps = {name: _watched(kind, name, watcher) for name in _STEPS if hasattr(kind, name)}
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    members = {**names, **steps, "train": train, _WATCHER: watcher}
    algorithm.__class__ = type(kind.__name__, (kind,), members)


def watcher_of(algorithm: Any) -> Any | None:
    """Who stands in the algorithm's `learn`, None if nobody."""
    return getattr(type(algorithm), _WATCHER, None)


def release(algorithm: Any) -> None:
    """Give the algorithm its own class back."""
    while _WATCHER in vars(type(algorithm)):
        algorithm.__class__ = type(algorithm).__bases__[0]


def _watched(kind: type, name: str, watcher: Watcher) -> Callable[..., Any]:
    own = getattr(kind, name)

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _watching(watcher):
            return own(self, *args, **kwargs)

    return step


@contextmanager
def _watching(watcher: Watcher) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        watcher.broke(error)
        raise
