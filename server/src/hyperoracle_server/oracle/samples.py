"""Which hyper-states are kept for training encoders: the newest of each layout.

A hyper-state is kept, too, while its proposal may still be credited and while it is in the memory;
of the latter the ledger knows.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Samples:
    """The proposals whose hyper-states a study keeps for training, by layout.

    They are thinned when there are twice as many as training takes, not at every proposal.

    Args:
        needed: how many of the newest training takes; positive.
    """

    def __init__(self, needed: int) -> None:
        self._needed = needed
        self._kept: dict[str, deque[int]] = {}

    def of(self, signature: str) -> Sequence[int]:
        """The kept ones of a layout, the earliest first."""
        return self._kept.get(signature, ())

    def restore(self, signature: str, proposals: Iterable[int]) -> None:
        """Take back the newest of a layout, from the ledger."""
        self._kept[signature] = deque(sorted(proposals), maxlen=2 * self._needed)

    def add(self, signature: str, proposal: int) -> bool:
        """Keep a proposal's; whether it is time to thin."""
        kept = self._kept.setdefault(signature, deque(maxlen=2 * self._needed))
        kept.append(proposal)
        return len(kept) == 2 * self._needed

    def thin(self, signature: str, open_proposals: Iterable[int]) -> int:
        """Keep the newest only.

        Args:
            signature: the layout's.
            open_proposals: those that may still be credited, in any order.

        Returns:
            The first proposal that is still needed; none before it is, but for the memory.
        """
        kept = self._kept[signature]
        while len(kept) > self._needed:
            kept.popleft()
        return min(kept[0], min(open_proposals, default=kept[0]))
