"""The episodic memory in plain loops and float64, written from the paper's equations.

Le et al., Episodic Policy Gradient Training, AAAI 2022, Eq. 3 and 4. Slow, and shares no line
with the memory that it checks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Triple:
    """One entry: M[key, action] = value."""

    entry_id: int
    key: tuple[float, ...]
    action: int
    value: float


def squared_distance(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def sim(squared: float) -> float:
    return 1.0 / (squared + 1e-3)


def kernel_mean(pairs: list[tuple[float, float]]) -> float:
    """Of (squared distance, value) pairs."""
    above = math.fsum(sim(squared) * value for squared, value in pairs)
    below = math.fsum(sim(squared) for squared, _ in pairs)
    return above / below


class ReferenceMemory:
    """Reads and writes as the equations say, over a list in the order of addition."""

    def __init__(
        self,
        n_actions: int,
        capacity: int,
        neighbours_read: int,
        neighbours_write: int,
        write_rate: float,
        write_rule: str,
        reading: str,
        unknown: str,
    ) -> None:
        self.n_actions = n_actions
        self.capacity = capacity
        self.neighbours_read = neighbours_read
        self.neighbours_write = neighbours_write
        self.write_rate = write_rate
        self.write_rule = write_rule
        self.reading = reading
        self.unknown = unknown
        self.triples: list[Triple] = []

    def nearest_keys(self, query: tuple[float, ...], triples: list[Triple]) -> list:
        """The K nearest distinct keys of some triples; ties by the earliest entry at the key."""
        first: dict[tuple[float, ...], int] = {}
        for triple in triples:
            first.setdefault(triple.key, triple.entry_id)
        ordered = sorted(first, key=lambda key: (squared_distance(query, key), first[key]))
        return ordered[: self.neighbours_read]

    def neighbours(self, query: tuple[float, ...], action: int) -> list[Triple]:
        """N(i), as far as it knows the action, nearest first."""
        of_action = [triple for triple in self.triples if triple.action == action]
        if self.reading == "per-action":
            keys = self.nearest_keys(query, of_action)
        else:
            keys = self.nearest_keys(query, self.triples)
        return [triple for key in keys for triple in of_action if triple.key == key]

    def read(self, query: tuple[float, ...]) -> tuple[list[float], list[bool], list[list[int]]]:
        """Q-values, whether known, ids of neighbours."""
        q_values, known, ids = [], [], []
        around = self.nearest_keys(query, self.triples)
        everything_near = [triple for triple in self.triples if triple.key in around]
        for action in range(self.n_actions):
            neighbours = self.neighbours(query, action)
            ids.append([triple.entry_id for triple in neighbours])
            known.append(bool(neighbours))
            if not neighbours and self.unknown == "kernel-mean":
                neighbours = everything_near
            pairs = [(squared_distance(query, t.key), t.value) for t in neighbours]
            q_values.append(kernel_mean(pairs) if pairs else 0.0)
        return q_values, known, ids

    def write(
        self, key: tuple[float, ...], action: int, hyper_return: float, entry_id: int
    ) -> tuple[dict[int, float], bool, list[int]]:
        """Updated values by id, whether inserted, evicted ids."""
        same = [triple for triple in self.triples if triple.action == action]
        stored = [triple for triple in same if triple.key == key]
        updated: dict[int, float] = {}
        if self.write_rule == "average":
            same.sort(key=lambda t: (squared_distance(key, t.key), t.entry_id))
            near = same[: self.neighbours_write]
            below = math.fsum(sim(squared_distance(key, t.key)) for t in near)
            for triple in near:
                share = sim(squared_distance(key, triple.key)) / below
                updated[triple.entry_id] = (
                    triple.value + self.write_rate * (hyper_return - triple.value) * share
                )
        elif stored and hyper_return > stored[0].value:
            updated[stored[0].entry_id] = hyper_return
        for triple in same:
            triple.value = updated.get(triple.entry_id, triple.value)
        evicted = []
        if not stored:
            self.triples.append(Triple(entry_id, key, action, hyper_return))
            while len(self.triples) > self.capacity:
                evicted.append(self.triples.pop(0).entry_id)
        return updated, not stored, evicted
