"""Which slots each group holds, in rows that NumPy can work on many at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int

_WIDTHS = [8, 32, 64, *(base << up for up in range(5, 31) for base in (3, 4))]
"""Row widths: few while rows are cheap, then half an octave apart (96, 128, 192 ...)."""


class Table:
    """The rows of the groups that have one width.

    Attributes:
        slots: int64 [allocated, width], padded with the sentinel anywhere in a row.
        groups: the group of each row, int64 [allocated].
        used: how many rows are in use.
    """

    def __init__(self, width: int, sentinel: int) -> None:
        self.slots = np.full((1, width), sentinel, np.int64)
        self.groups = np.zeros(1, np.int64)
        self.used = 0
        self._sentinel = sentinel

    def new_row(self, group: int) -> int:
        """Takes a row of nothing but the sentinel."""
        if self.used == len(self.slots):
            more = np.full_like(self.slots, self._sentinel)
            self.slots = np.concatenate([self.slots, more])
            self.groups = np.concatenate([self.groups, np.zeros_like(self.groups)])
        row = self.used
        self.groups[row] = group
        self.used += 1
        return row

    def free_row(self, row: int) -> int:
        """Gives a row back; the last row moves into its place. Returns that row's group."""
        self.used -= 1
        self.slots[row] = self.slots[self.used]
        self.groups[row] = self.groups[self.used]
        self.slots[self.used] = self._sentinel
        return int(self.groups[row])


class GroupTables:
    """The slots of every group; a group without slots takes no row.

    A row fills from left to right; a removal leaves a hole; a full row is closed up, or moves to
    a wider table. So adding and removing cost O(1) on average, and nothing is ever re-sorted.

    Args:
        n_groups: the number of groups.
        capacity: slots are below it; it is itself the sentinel that pads rows.
    """

    def __init__(self, n_groups: int, capacity: int) -> None:
        self.n_groups = n_groups
        self.sentinel = capacity
        self.tables: dict[int, Table] = {}
        self.groups_in_use = 0
        self._width = [0] * n_groups
        self._row = [0] * n_groups
        self._tail = [0] * n_groups
        self._count = [0] * n_groups
        self._column = np.empty(capacity, np.int64)

    def count(self, group: int) -> int:
        """How many slots a group holds."""
        return self._count[group]

    def slots(self, group: int) -> Int[np.ndarray, " n"]:
        """The slots of a group in the order they were added, as a copy."""
        if not self._count[group]:
            return np.empty(0, np.int64)
        table = self.tables[self._width[group]]
        row = table.slots[self._row[group], : self._tail[group]]
        slots: Int[np.ndarray, " n"] = row[row != self.sentinel]
        return slots

    def add(self, slot: int, group: int) -> None:
        """Appends a slot to a group."""
        if self._tail[group] == self._width[group]:
            self._place(group, np.append(self.slots(group), slot))
            return
        tail = self._tail[group]
        self.tables[self._width[group]].slots[self._row[group], tail] = slot
        self._column[slot] = tail
        self._tail[group] = tail + 1
        self._count[group] += 1

    def add_many(self, slots: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"]) -> None:
        """Appends many slots, each to its group, in their order."""
        if not len(slots):
            return
        order = np.argsort(groups, kind="stable")
        present, starts = np.unique(groups[order], return_index=True)
        for group, added in zip(present.tolist(), np.split(slots[order], starts[1:]), strict=True):
            self._place(group, np.concatenate([self.slots(group), added]))

    def remove(self, slot: int, group: int) -> None:
        """Takes a slot out of its group."""
        width = self._width[group]
        self.tables[width].slots[self._row[group], self._column[slot]] = self.sentinel
        self._count[group] -= 1
        if self._count[group] * 4 < width and (width > _WIDTHS[0] or not self._count[group]):
            self._place(group, self.slots(group))

    def _place(self, group: int, slots: Int[np.ndarray, " n"]) -> None:
        """Gives a group a row with room to spare that holds exactly these slots."""
        if self._width[group]:
            self._release(group)
        if len(slots) == 0:
            return
        # A share of the row is free: closing rows up then costs O(1) per slot added.
        needed = len(slots) + len(slots) // 8 + 1
        width = next(width for width in _WIDTHS if width >= needed)
        table = self.tables.get(width)
        if table is None:
            table = self.tables[width] = Table(width, self.sentinel)
        row = table.new_row(group)
        table.slots[row, : len(slots)] = slots
        self._column[slots] = np.arange(len(slots))
        self._width[group], self._row[group] = width, row
        self._tail[group] = self._count[group] = len(slots)
        self.groups_in_use += 1

    def _release(self, group: int) -> None:
        """Takes a group's row away."""
        width, row = self._width[group], self._row[group]
        table = self.tables[width]
        moved = table.free_row(row)
        if moved != group:
            self._row[moved] = row
        if not table.used:
            del self.tables[width]
        self._width[group] = self._tail[group] = self._count[group] = 0
        self.groups_in_use -= 1
