from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hyperoracle_server.keyed.memory.tables import GroupTables

CAPACITY, N_GROUPS = 400, 3


class TablesAgainstLists(RuleBasedStateMachine):
    """Group tables against a plain list per group."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = GroupTables(N_GROUPS, CAPACITY)
        self.lists: list[list[int]] = [[] for _ in range(N_GROUPS)]

    def free(self) -> list[int]:
        used = {slot for slots in self.lists for slot in slots}
        return [slot for slot in range(CAPACITY) if slot not in used]

    @rule(group=st.integers(0, N_GROUPS - 1), n=st.integers(1, 40))
    def add_one_by_one(self, group: int, n: int) -> None:
        for slot in self.free()[:n]:
            self.tables.add(slot, group)
            self.lists[group].append(slot)

    @rule(seed=st.integers(0, 100), n=st.integers(1, 60))
    def add_many(self, seed: int, n: int) -> None:
        rng = np.random.default_rng(seed)
        slots = rng.permutation(self.free())[:n].astype(np.int64)
        groups = rng.integers(0, N_GROUPS, len(slots))
        self.tables.add_many(slots, groups)
        for slot, group in zip(slots.tolist(), groups.tolist(), strict=True):
            self.lists[group].append(slot)

    @precondition(lambda self: any(self.lists))
    @rule(data=st.data(), n=st.integers(1, 60), from_the_front=st.booleans())
    def remove(self, data: st.DataObject, n: int, from_the_front: bool) -> None:
        group = data.draw(st.sampled_from([g for g in range(N_GROUPS) if self.lists[g]]))
        for _ in range(min(n, len(self.lists[group]))):
            slot = self.lists[group].pop(0 if from_the_front else -1)
            self.tables.remove(slot, group)

    @invariant()
    def groups_hold_their_slots_in_order(self) -> None:
        for group, slots in enumerate(self.lists):
            assert self.tables.slots(group).tolist() == slots
            assert self.tables.count(group) == len(slots)
        assert self.tables.groups_in_use == sum(map(bool, self.lists))

    @invariant()
    def rows_hold_nothing_else_and_are_not_much_wider_than_needed(self) -> None:
        seen = []
        for width, table in self.tables.tables.items():
            assert table.used > 0
            for row, group in zip(
                table.slots[: table.used], table.groups[: table.used].tolist(), strict=True
            ):
                assert sorted(row[row != CAPACITY].tolist()) == sorted(self.lists[group])
                assert width <= max(32, 4 * len(self.lists[group]))
                seen.append(group)
        assert sorted(seen) == [g for g in range(N_GROUPS) if self.lists[g]]


TestTablesAgainstLists = TablesAgainstLists.TestCase
TestTablesAgainstLists.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no fault of the tables
)
