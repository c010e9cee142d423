"""How long the missing runs of an experiment will take, judged by those that are made."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

Kind = tuple[str, str]
"""Task and strategy: runs of one kind take about equally long."""


class Pace:
    """Runs that are missing, and how long such runs took.

    A run is expected to take what runs of its kind took on average, else what those of its task
    took, else what any took.

    Args:
        missing: a kind for each missing run.
    """

    def __init__(self, missing: Iterable[Kind]) -> None:
        self._missing = Counter(missing)
        self._made_now: Counter[Kind] = Counter()
        self._seconds: defaultdict[Kind | str | None, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def know(self, kind: Kind, seconds: float) -> None:
        """Note how long a run took, such as one that was made earlier."""
        for group in (kind, kind[0], None):
            self._seconds[group][0] += seconds
            self._seconds[group][1] += 1

    def make(self, kind: Kind, seconds: float) -> None:
        """Note that a missing run was made."""
        self.know(kind, seconds)
        self._missing[kind] -= 1
        self._made_now[kind] += 1

    def seconds_left(self, elapsed_seconds: float, processes: int) -> float | None:
        """Return in how many seconds all runs will be made; None if no run says anything.

        Args:
            elapsed_seconds: since the first of the runs that were made now was begun. What they
                were expected to take in this time tells how fast the work goes, whatever slows it.
            processes: that work, to judge by as long as no run was made.
        """
        if not self._seconds:
            return None
        done = sum(self._expected(kind) * number for kind, number in self._made_now.items())
        seconds_each = elapsed_seconds / done if done > 0 else 1.0 / processes
        left = sum(self._expected(kind) * number for kind, number in self._missing.items())
        return left * seconds_each

    def _expected(self, kind: Kind) -> float:
        group = next(each for each in (kind, kind[0], None) if each in self._seconds)
        total, number = self._seconds[group]
        return total / number
