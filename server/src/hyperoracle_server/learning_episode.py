"""Which proposals a report credits, and with what (Eq. 1).

A job alternates environment phases and update phases. A proposal is made in an update phase; the
environment phase that follows runs the policy it led to, and the report of that phase brings the
empirical return G. G is the hyper-reward of the last update of the update phase, the other updates
get 0; the hyper-return of a proposal is the sum of the hyper-rewards from it to the end of its
learning episode, which spans n phases (n = 1 in the paper: G itself).

Everything goes by `sequence`, never by arrival. A report names the report before it; one that
overtook its predecessor waits until that has come, so any order of arrival gives the same credit.
A predecessor that never comes is given up when `MAX_WAITING` reports wait or the job finishes: its
own proposals are then never credited, and neither is a learning episode that it cuts through.

Pure bookkeeping: knows no clock, no store, no memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from hyperoracle_protocol.jobs import Report
from hyperoracle_protocol.studies import ReturnSetting

MAX_WAITING = 64
"""Reports of one job that may wait for a missing one."""

MAX_NOT_APPLIED = 100_000
"""Proposals to come of one job that it may say it does not apply, as many as one call can name."""


class Credit(NamedTuple):
    """A proposal's hyper-return.

    Attributes:
        sequence: the proposal's.
        hyper_return: sum of the hyper-rewards from it to the end of its learning episode.
        last_in_phase: whether it was the last update of its update phase.
        position: how many creditable updates of its phase came before it.
        hyper_reward: sum of the hyper-rewards from it to the next proposal of its learning
            episode, or to the end where it is the last: 0 but for the last of a phase.
        ends_episode: whether it was the last proposal of its learning episode.
    """

    sequence: int
    hyper_return: float
    last_in_phase: bool
    position: int
    hyper_reward: float
    ends_episode: bool


@dataclass
class Settlement:
    """What one report changed.

    Attributes:
        status: of the report itself.
        credits: proposals that now have their hyper-return.
        uncredited: sequences of proposals that will never have one.
        applied_reports: sequences of the reports that were applied: itself, or others with it.
        last_return: the latest return G, None if none is known.
        curve: (env step, return G) after each applied report where G is known.
    """

    status: Literal["applied", "waiting", "late"]
    credits: list[Credit] = field(default_factory=list)
    uncredited: list[int] = field(default_factory=list)
    applied_reports: list[int] = field(default_factory=list)
    last_return: float | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)


class _Phase(NamedTuple):
    sequences: list[int]
    hyper_reward: float | None


def hyper_returns(phases: Sequence[tuple[Sequence[int], float | None]]) -> dict[int, float | None]:
    """The hyper-return of each update of a learning episode.

    Args:
        phases: per phase the sequences of its updates and the hyper-reward of the last of them
            (None where the phase's return is unknown).

    Returns:
        Per sequence the sum of the hyper-rewards of its own and all later phases; None where one
        of them is unknown.

    Source: Le et al., AAAI 2022, Eq. 1 and the definition of the hyper-return below it.
    """
    result: dict[int, float | None] = {}
    total: float | None = 0.0
    for sequences, reward in reversed(phases):
        total = None if total is None or reward is None else total + reward
        result.update(dict.fromkeys(sequences, total))
    return result


def hyper_rewards(phases: Sequence[tuple[Sequence[int], float | None]]) -> dict[int, float | None]:
    """The hyper-reward of each update of a learning episode.

    Args:
        phases: as for `hyper_returns`.

    Returns:
        Per sequence 0, but for the last update of each phase the phase's hyper-reward, with those
        of the phases without an update that follow; None where one of them is unknown.

    Source: Le et al., AAAI 2022, Eq. 1.
    """
    result: dict[int, float | None] = {}
    pending: float | None = 0.0
    for sequences, reward in reversed(phases):
        pending = None if pending is None or reward is None else pending + reward
        if sequences:
            result.update(dict.fromkeys(sequences, 0.0))
            result[sequences[-1]] = pending
            pending = 0.0
    return result


class CreditBook:
    """The open proposals, waiting reports and current learning episode of one job.

    Args:
        phases_per_episode: n.
        returns: which number is the return.
    """

    def __init__(self, phases_per_episode: int, returns: ReturnSetting) -> None:
        self._phases_per_episode = phases_per_episode
        self._returns = returns
        self._open: set[int] = set()
        self._not_applied: set[int] = set()
        self._waiting: dict[int, Report] = {}  # by the sequence of the report it waits for
        self._episode: list[_Phase] = []
        self._recent: deque[float] = deque(maxlen=returns.count)
        self._covered_through = 0
        self._last_applied = 0

    @property
    def open_sequences(self) -> frozenset[int]:
        """Proposals that may still be credited, those of the current episode included."""
        in_episode = (s for phase in self._episode for s in phase.sequences)
        return frozenset(self._open).union(in_episode)

    @property
    def last_applied_report(self) -> int:
        """Sequence of the newest report that was applied; 0 if none."""
        return self._last_applied

    @property
    def not_applied_count(self) -> int:
        """How many not applied proposals it remembers, in case that they have yet to arrive."""
        return len(self._not_applied)

    def add_proposal(self, sequence: int) -> bool:
        """Note a creditable proposal; False if a report has already covered its sequence."""
        if sequence <= self._covered_through or sequence in self._not_applied:
            return False
        self._open.add(sequence)
        return True

    def mark_not_applied(self, sequences: Sequence[int]) -> list[int]:
        """Note proposals whose answer was not used; returns those that had been open."""
        newly = sorted(self._open.intersection(sequences))
        self._open.difference_update(newly)
        self._not_applied.update(s for s in sequences if s > self._covered_through)
        if len(self._not_applied) > MAX_NOT_APPLIED:  # no job means that; it is kept in memory
            self._not_applied = set(sorted(self._not_applied)[:MAX_NOT_APPLIED])
        return newly

    def add_report(self, report: Report) -> Settlement:
        """Apply a report, or let it wait for its predecessor."""
        previous = report.previous_report
        if previous is None:
            in_order = report.sequence > self._last_applied
        elif previous > self._last_applied:
            self._waiting[previous] = report
            if len(self._waiting) <= MAX_WAITING:
                return Settlement("waiting", last_return=self._return_of(None))
            return self._skip_gap(Settlement("waiting"))
        else:
            in_order = previous == self._last_applied
        if not in_order:
            return Settlement("late", last_return=self._return_of(None))
        settlement = Settlement("applied")
        self._apply(report, settlement)
        self._apply_waiting(settlement)
        return settlement

    def finish(self) -> Settlement:
        """Apply every waiting report in order of sequence and settle all that is still open."""
        settlement = Settlement("applied", last_return=self._return_of(None))
        while self._waiting:
            self._skip_gap(settlement)
        settlement.uncredited.extend(sorted(self.open_sequences))
        self._open.clear()
        self._episode.clear()
        return settlement

    def _skip_gap(self, settlement: Settlement) -> Settlement:
        """Give up the missing predecessor of the earliest waiting report."""
        settlement.uncredited.extend(s for phase in self._episode for s in phase.sequences)
        self._episode.clear()
        earliest = min(self._waiting.values(), key=lambda report: report.sequence)
        del self._waiting[earliest.previous_report or 0]
        self._apply(earliest, settlement)
        self._apply_waiting(settlement)
        return settlement

    def _apply_waiting(self, settlement: Settlement) -> None:
        while (follower := self._waiting.pop(self._last_applied, None)) is not None:
            self._apply(follower, settlement)

    def _apply(self, report: Report, settlement: Settlement) -> None:
        settlement.uncredited.extend(self.mark_not_applied(report.not_applied))
        through = max(report.credits_through, self._covered_through)
        after = self._covered_through if report.credits_after is None else report.credits_after
        settled = sorted(s for s in self._open if s <= through)
        covered = [s for s in settled if s > after]
        settlement.uncredited.extend(s for s in settled if s <= after)
        self._open.difference_update(settled)
        self._not_applied = {s for s in self._not_applied if s > through}
        self._covered_through = through
        self._last_applied = report.sequence
        settlement.applied_reports.append(report.sequence)
        last_return = self._return_of(report)
        if last_return is not None:  # else that of a report applied with it stays the latest
            settlement.last_return = last_return
            settlement.curve.append((report.env_step, last_return))
        if covered or self._episode:
            self._episode.append(_Phase(covered, last_return))
            if len(self._episode) == self._phases_per_episode:
                self._close_episode(settlement)

    def _close_episode(self, settlement: Settlement) -> None:
        returns = hyper_returns(self._episode)
        rewards = hyper_rewards(self._episode)
        final = max(returns, default=None)
        for phase in self._episode:
            for position, sequence in enumerate(phase.sequences):
                hyper_return, hyper_reward = returns[sequence], rewards[sequence]
                if hyper_return is None or hyper_reward is None:
                    settlement.uncredited.append(sequence)
                else:
                    last = position == len(phase.sequences) - 1
                    settlement.credits.append(
                        Credit(sequence, hyper_return, last, position, hyper_reward,
                               ends_episode=sequence == final)
                    )  # fmt: skip
        self._episode.clear()

    def _return_of(self, report: Report | None) -> float | None:
        """The return G after this report; with None the last known one."""
        kind = self._returns.kind
        if report is not None:
            self._recent.extend(report.episode_returns if kind == "last_episodes" else ())
            if kind == "phase_episodes":
                values = report.episode_returns
                self._recent = deque([sum(values) / len(values)] if values else [], maxlen=1)
            elif kind in ("phase_return", "custom"):
                value = report.phase_return if kind == "phase_return" else report.custom_return
                self._recent = deque([] if value is None else [value], maxlen=1)
        return sum(self._recent) / len(self._recent) if self._recent else None

    def dump(self) -> dict[str, Any]:
        """The state as JSON values; the open proposals and waiting reports are stored apart."""
        return {
            "not_applied": sorted(self._not_applied),
            "episode": [[phase.sequences, phase.hyper_reward] for phase in self._episode],
            "recent": list(self._recent),
            "covered_through": self._covered_through,
            "last_applied": self._last_applied,
        }

    def restore(
        self, state: dict[str, Any], open_sequences: Sequence[int], waiting: Sequence[Report]
    ) -> None:
        """Go on from `dump`'s state with the open proposals and waiting reports of the store."""
        self._not_applied = set(state["not_applied"])
        self._episode = [_Phase(sequences, reward) for sequences, reward in state["episode"]]
        self._recent = deque(state["recent"], maxlen=self._returns.count)
        self._covered_through = state["covered_through"]
        self._last_applied = state["last_applied"]
        in_episode = {s for phase in self._episode for s in phase.sequences}
        self._open = set(open_sequences) - in_episode
        self._waiting = {report.previous_report or 0: report for report in waiting}
