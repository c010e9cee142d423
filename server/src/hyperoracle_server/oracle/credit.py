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
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from hyperoracle_protocol.jobs import MAX_EPISODE_RETURNS, Report, ReturnField
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


class AppliedPhase(NamedTuple):
    """An environment phase whose report was applied.

    Attributes:
        env_step: made by its end.
        through: the last proposal's sequence that its policy has seen.
        value: the return G after it; None where it is not known.
        own: the mean of the returns that this phase brought itself; None where it brought none.
        is_lost: whether a return of it was no finite number.
    """

    env_step: int
    through: int
    value: float | None
    own: float | None
    is_lost: bool


@dataclass
class Settlement:
    """What one report changed.

    Attributes:
        status: of the report itself.
        credits: proposals that now have their hyper-return.
        uncredited: sequences of proposals that will never have one.
        applied_reports: sequences of the reports that were applied: itself, or others with it.
        last_return: the latest return G, None if none is known.
        phases: those of the applied reports, in order.
    """

    status: Literal["applied", "waiting", "late"]
    credits: list[Credit] = field(default_factory=list)
    uncredited: list[int] = field(default_factory=list)
    applied_reports: list[int] = field(default_factory=list)
    last_return: float | None = None
    phases: list[AppliedPhase] = field(default_factory=list)

    @property
    def curve(self) -> list[tuple[int, float | None]]:
        """(env step, return G) after each phase of which G is known, or is lost: None."""
        return [
            (phase.env_step, None if phase.is_lost else phase.value)
            for phase in self.phases
            if phase.is_lost or phase.value is not None
        ]


_FIELD_OF_KIND: dict[str, ReturnField] = {
    "last_episodes": "episode_returns", "phase_episodes": "episode_returns",
    "phase_return": "phase_return", "custom": "custom_return",
}  # fmt: skip


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

    Attributes:
        lost_decisions: proposals that the job says it used and that are not known here.
    """

    def __init__(self, phases_per_episode: int, returns: ReturnSetting) -> None:
        self._phases_per_episode = phases_per_episode
        self._returns = returns
        self._open: set[int] = set()
        self._not_applied: set[int] = set()
        self._waiting: dict[int, Report] = {}  # by the sequence of the report it waits for
        self._episode: list[_Phase] = []
        # None stands for a return that was lost.
        self._recent: deque[float | None] = deque(maxlen=returns.count)
        self._worst_of = max if returns.direction == "minimise" else min
        self._worst: float | None = None
        self._covered_through = 0
        self._last_applied = 0
        self.lost_decisions = 0

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

    def add_report(self, report: Report, floor: float | None = None) -> Settlement:
        """Apply a report, or let it wait for its predecessor.

        Args:
            report: as it came.
            floor: the hyper-reward of a phase that lost a return: the worst that is known, in the
                return's own unit and direction. With None the job's own worst stands for it.
        """
        previous = report.previous_report
        if previous is None:
            in_order = report.sequence > self._last_applied
        elif previous > self._last_applied:
            self._waiting[previous] = report
            if len(self._waiting) <= MAX_WAITING:
                return Settlement("waiting", last_return=self._return_of(None))
            return self._skip_gap(Settlement("waiting"), floor)
        else:
            in_order = previous == self._last_applied
        if not in_order:
            return Settlement("late", last_return=self._return_of(None))
        settlement = Settlement("applied")
        self._apply(report, settlement, floor)
        self._apply_waiting(settlement, floor)
        return settlement

    def give_up_gaps(self, floor: float | None = None) -> Settlement:
        """Apply every waiting report in order of sequence, without those that never came."""
        settlement = Settlement("applied", last_return=self._return_of(None))
        while self._waiting:
            self._skip_gap(settlement, floor)
        return settlement

    def finish(self, floor: float | None = None, *, died: bool = False) -> Settlement:
        """Apply every waiting report in order of sequence and settle all that is still open.

        Args:
            floor: as for `add_report`.
            died: whether the job was lost; then what is still open led to the floor.
        """
        settlement = self.give_up_gaps(floor)
        if died and floor is not None:
            self._episode.append(_Phase(sorted(self._open), floor))
            self._close_episode(settlement)
        settlement.uncredited.extend(
            sorted(self.open_sequences - {c.sequence for c in settlement.credits})
        )
        self._open.clear()
        self._episode.clear()
        return settlement

    def _skip_gap(self, settlement: Settlement, floor: float | None) -> Settlement:
        """Give up the missing predecessor of the earliest waiting report."""
        settlement.uncredited.extend(s for phase in self._episode for s in phase.sequences)
        self._episode.clear()
        earliest = min(self._waiting.values(), key=lambda report: report.sequence)
        del self._waiting[earliest.previous_report or 0]
        self._apply(earliest, settlement, floor)
        self._apply_waiting(settlement, floor)
        return settlement

    def _apply_waiting(self, settlement: Settlement, floor: float | None) -> None:
        while (follower := self._waiting.pop(self._last_applied, None)) is not None:
            self._apply(follower, settlement, floor)

    def _apply(self, report: Report, settlement: Settlement, floor: float | None) -> None:
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
        is_lost = report.dropped_returns.get(_FIELD_OF_KIND[self._returns.kind], 0) > 0
        own = self._mean(self._returns_in(report))
        phase = AppliedPhase(report.env_step, through, last_return, own, is_lost)
        settlement.phases.append(phase)
        reward = last_return
        if is_lost:
            reward = self._worst if floor is None else floor
        if covered or self._episode:
            self._episode.append(_Phase(covered, reward))
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
        if report is not None:
            values, kind = self._returns_in(report), self._returns.kind
            known = [value for value in values if value is not None]
            if known:
                worst = known if self._worst is None else [*known, self._worst]
                self._worst = self._worst_of(worst)
            if kind == "last_episodes":
                self._recent.extend(values)
            else:
                mean = self._mean(values)
                self._recent = deque([] if mean is None else [mean], maxlen=1)
        return self._mean(self._recent)

    def _mean(self, values: Collection[float | None]) -> float | None:
        """Their mean, a lost one counting as the job's worst; None where nothing is known."""
        if not values or self._worst is None:
            return None
        return sum(self._worst if value is None else value for value in values) / len(values)

    def _returns_in(self, report: Report) -> list[float | None]:
        """The returns of the study's kind that a report brings; None for each that was lost."""
        kind = self._returns.kind
        given: list[float | None]
        if kind in ("last_episodes", "phase_episodes"):
            given = list(report.episode_returns)
        else:
            value = report.phase_return if kind == "phase_return" else report.custom_return
            given = [] if value is None else [value]
        lost = report.dropped_returns.get(_FIELD_OF_KIND[kind], 0)
        return given + [None] * min(lost, MAX_EPISODE_RETURNS)

    def dump(self) -> dict[str, Any]:
        """The state as JSON values; the open proposals and waiting reports are stored apart."""
        return {
            "not_applied": sorted(self._not_applied),
            "episode": [[phase.sequences, phase.hyper_reward] for phase in self._episode],
            "recent": list(self._recent),
            "worst": self._worst,
            "covered_through": self._covered_through,
            "last_applied": self._last_applied,
            "lost_decisions": self.lost_decisions,
        }

    def restore(
        self, state: dict[str, Any], open_sequences: Sequence[int], waiting: Sequence[Report]
    ) -> None:
        """Go on from `dump`'s state with the open proposals and waiting reports of the store."""
        self._not_applied = set(state["not_applied"])
        self._episode = [_Phase(sequences, reward) for sequences, reward in state["episode"]]
        self._recent = deque(state["recent"], maxlen=self._returns.count)
        known = [value for value in self._recent if value is not None]
        # A state of an earlier release has no worst return.
        self._worst = state.get("worst", self._worst_of(known) if known else None)
        self._covered_through = state["covered_through"]
        self._last_applied = state["last_applied"]
        self.lost_decisions = state.get("lost_decisions", 0)  # of before there is none
        in_episode = {s for phase in self._episode for s in phase.sequences}
        self._open = set(open_sequences) - in_episode
        self._waiting = {report.previous_report or 0: report for report in waiting}
