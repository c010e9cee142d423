"""Which proposals an environment phase's report credits: the client's bookkeeping of sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hyperoracle_protocol.jobs import MAX_APPLIED


class ReportCredits(NamedTuple):
    """What a report says of the proposals that came before it; see the protocol's `Report`."""

    sequence: int
    credits_through: int
    credits_after: int
    not_applied: list[int]


class SequenceBook:
    """Hands out a job's sequences and remembers the fate of its proposals.

    A proposal is *issued* when its request is sent and *settled* when its answer was applied or
    given up; at most one is unsettled at a time. A report covers the proposals that were settled
    since the previous report: those are the ones that the phase's policy has seen.
    """

    def __init__(self, last_sequence: int = 0) -> None:
        """Begin a book.

        Args:
            last_sequence: everything up to here was handed out before, by an earlier process.
        """
        self._last_sequence = last_sequence
        self._last_settled = last_sequence
        self._covered = last_sequence
        self._not_applied: list[int] = []
        self._applied: dict[int, dict[str, Any]] = {}
        self._unsettled: int | None = None

    def issue(self) -> tuple[int, list[int]]:
        """A sequence for a new proposal, and the not applied ones that no report has covered.

        An earlier proposal that was never settled (an interrupt came between) counts as not
        applied.
        """
        if self._unsettled is not None:
            self.settle(applied=False)
        self._last_sequence += 1
        self._unsettled = self._last_sequence
        return self._last_sequence, list(self._not_applied)

    def settle(self, *, applied: bool) -> None:
        """Record whether the unsettled proposal's answer is used."""
        assert self._unsettled is not None
        self._last_settled = self._unsettled
        if not applied:
            self._not_applied.append(self._unsettled)
        self._unsettled = None

    def used_instead(self, sequence: int, values: Mapping[str, Any]) -> None:
        """A settled proposal's update used these values instead; it is credited nothing.

        Where a report has covered it already, the oracle is told nevertheless.
        """
        if sequence > self._covered and sequence not in self._not_applied:
            self._not_applied.append(sequence)
        self._applied[sequence] = dict(values)
        if len(self._applied) > MAX_APPLIED:
            del self._applied[min(self._applied)]

    def report(self) -> ReportCredits:
        """The sequence and credits of a report on the phase that just ended."""
        self._last_sequence += 1
        through, after, not_applied = self._last_settled, self._covered, self._not_applied
        self._covered = self._last_settled
        self._not_applied = []
        return ReportCredits(self._last_sequence, through, after, not_applied)

    def applied(self) -> list[dict[str, Any]]:
        """What was used instead since this was last asked, as the report that follows tells it."""
        applied, self._applied = _as_fields(self._applied), {}
        return applied

    def state(self) -> dict[str, Any]:
        """The book as JSON values; an unsettled proposal counts as not applied."""
        unsettled = [] if self._unsettled is None else [self._unsettled]
        return {
            "last_sequence": self._last_sequence,
            "last_settled": max([self._last_settled, *unsettled]),
            "covered": self._covered,
            "not_applied": [*self._not_applied, *unsettled],
            "applied": _as_fields(self._applied),
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> SequenceBook:
        """The book whose `state` this is: sequences go on after the last one in it."""
        book = cls(state["last_sequence"])
        book._last_settled = state["last_settled"]
        book._covered = state["covered"]
        book._not_applied = list(state["not_applied"])
        applied = state.get("applied", ())  # earlier releases had none
        book._applied = {each["sequence"]: each["hyperparameters"] for each in applied}
        return book

    def leave_behind(self, last_sequence: int) -> None:
        """Go on after `last_sequence`: an earlier process used the sequences up to it otherwise.

        Its proposals among them count as not applied.
        """
        assert self._unsettled is None
        self._not_applied.extend(range(self._last_sequence + 1, last_sequence + 1))
        self._last_sequence = max(self._last_sequence, last_sequence)
        self._last_settled = self._last_sequence


def _as_fields(applied: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The protocol's `AppliedValues`, as JSON values."""
    return [
        {"sequence": sequence, "hyperparameters": dict(values)}
        for sequence, values in applied.items()
    ]
