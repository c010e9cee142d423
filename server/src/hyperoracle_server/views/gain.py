"""Gain over default: what the jobs of a study that ended say of its decisions, with uncertainty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np

from hyperoracle_protocol.gain import (
    EndCounts,
    GuardReport,
    Interval,
    RoleComparison,
    ScoreComparison,
    StudyGain,
    Verdict,
)
from hyperoracle_protocol.jobs import Role
from hyperoracle_server.oracle.job import JobState
from hyperoracle_server.oracle.oracle import Oracle
from hyperoracle_server.views.confidence_sequences import LEAST_JOBS, LEAST_JOBS_FOR_MEANS
from hyperoracle_server.views.group_comparison import AnytimeEstimate, GroupComparison, compare

JOBS_NEEDED = 2
"""Jobs of either role that ended with a score, for any statistic."""

_PARTICIPLES: Mapping[Role, str] = {
    "exploit": "exploiting", "explore": "exploring", "control": "control", "auto": "auto",
}  # fmt: skip


class _Scores(NamedTuple):
    """Of jobs of one role that ended, greater is better; see `job_account`."""

    final_return: np.ndarray
    mean_return: np.ndarray


class _Group(NamedTuple):
    """The jobs of one role that are compared.

    Attributes:
        scores: by kind.
        lost: how many of the jobs broke down, diverged, or fell silent.
        jobs: how many there are.
    """

    scores: _Scores
    lost: int
    jobs: int

    def is_lost_more_often_than(self, other: _Group) -> bool:
        """Whether a greater share of these jobs was lost."""
        return self.lost * other.jobs > other.lost * self.jobs


def study_gain(oracle: Oracle, study_name: str) -> StudyGain:
    """Exploiting jobs against controls, controls against exploring ones, and the memory's share.

    The same jobs give the same answer. Intervals and verdicts hold however often one looks.

    Raises:
        RequestRefused: `study_not_found`.
    """
    with oracle.study(study_name) as study:
        jobs = list(study.jobs.values())
        ended = [job for job in jobs if job.ending is not None]
        task, others = most_common_task(ended)
        compared = [job for job in ended if job.task == task]
        groups = {role: _group(compared, role) for role in get_args(Role)}
        by_role = whole_jobs(jobs)
        ends = {role: _ends(jobs, role) for role in get_args(Role)}
        read, other, reads, hits = evidence_counts(jobs)
        sign = study.sign
        direction = study.definition.returns.direction
        guards = study.agent.guards()
    # The comparisons are made outside the study's lock.
    return StudyGain(
        study=study_name,
        direction=direction,
        jobs_needed=JOBS_NEEDED,
        whole_jobs=by_role,
        whole_jobs_without_scores=sum(
            job.ending.kind == "whole" and job.ending.final is None
            for job in ended
            if job.ending is not None
        ),
        ends=ends,
        jobs_of_other_tasks=others,
        gain_over_default=_compare_roles("exploit", "control", groups, sign),
        regret_of_exploration=_compare_roles("control", "explore", groups, sign),
        neighbours_read=read,
        neighbours_from_other_jobs=other / read if read else None,
        memory_reads=reads,
        memory_hit_rate=hits / reads if reads else None,
        guards=None if guards is None else GuardReport(**guards._asdict()),
    )


def whole_jobs(jobs: Sequence[JobState]) -> dict[Role, int]:
    """How many jobs of each role came to their planned end."""
    counts = Counter(job.role for job in jobs if job.ending and job.ending.kind == "whole")
    return {role: counts[role] for role in get_args(Role)}


def most_common_task(ended: Sequence[JobState]) -> tuple[str, int]:
    """The task of which most jobs ended (of two alike the newer), and how many are of others.

    Returns of different environments, or over different lengths, cannot be compared.
    """
    if not ended:
        return "", 0
    counts = Counter(job.task for job in reversed(ended))
    task, count = counts.most_common(1)[0]
    return task, len(ended) - count


def _ends(jobs: Sequence[JobState], role: Role) -> EndCounts:
    own = [job for job in jobs if job.role == role]
    kinds = Counter("running" if job.ending is None else job.ending.kind for job in own)
    return EndCounts(
        **kinds,
        without_return=sum(job.curve is not None and not job.curve.is_known for job in own
                           if job.ending is not None),
        with_lost_returns=sum(job.curve is not None and job.curve.lost_weight > 0 for job in own),
    )  # fmt: skip


def evidence_counts(jobs: Sequence[JobState]) -> tuple[int, int, int, int]:
    """Neighbours read, those that other jobs left, reads of the memory, those that found any."""
    return (
        sum(job.counts.neighbours_read for job in jobs),
        sum(job.counts.neighbours_other for job in jobs),
        sum(job.counts.memory_reads for job in jobs),
        sum(job.counts.memory_hits for job in jobs),
    )


def _group(compared: Sequence[JobState], role: Role) -> _Group:
    endings = [job.ending for job in compared if job.role == role and job.ending is not None]
    final = [ending.final for ending in endings if ending.final is not None]
    mean = [ending.score for ending in endings if ending.score is not None]
    lost = [ending for ending in endings if ending.is_dead and ending.score is not None]
    scores = _Scores(np.array(final, np.float64), np.array(mean, np.float64))
    return _Group(scores, len(lost), len(mean))


def _compare_roles(
    group: Role, baseline: Role, groups: Mapping[Role, _Group], sign: float
) -> RoleComparison:
    own, other = groups[group], groups[baseline]
    kinds = {
        kind: _compare_scores(group, baseline, own, other, kind, sign) for kind in _Scores._fields
    }
    return RoleComparison(
        group=group, baseline=baseline, lost=own.lost, baseline_lost=other.lost, **kinds
    )


def _compare_scores(
    group: Role, baseline: Role, own_group: _Group, other_group: _Group, kind: str, sign: float
) -> ScoreComparison:
    own: np.ndarray = getattr(own_group.scores, kind)
    other: np.ndarray = getattr(other_group.scores, kind)
    found = compare(own, other) if min(len(own), len(other)) >= JOBS_NEEDED else None
    lost_more = own_group.is_lost_more_often_than(other_group)
    if found is not None and found.verdict == "better" and lost_more:
        found = found._replace(verdict="better_but_lost")
    return ScoreComparison(
        jobs=len(own),
        baseline_jobs=len(other),
        mean=sign * float(own.mean()) if len(own) else None,
        baseline_mean=sign * float(other.mean()) if len(other) else None,
        difference=_interval(found and found.difference),
        relative=_interval(found and found.relative),
        probability_of_improvement=_interval(found and found.probability_of_improvement),
        verdict="too_few" if found is None else found.verdict,
        in_words=_no_evidence(group, baseline, len(own), len(other))
        if found is None
        else _in_words(group, baseline, len(own), len(other), found)
        + _lost_in_words(group, baseline, own_group, other_group),
    )


def _interval(estimate: AnytimeEstimate | None) -> Interval | None:
    return None if estimate is None else Interval(**estimate._asdict())


def _no_evidence(group: Role, baseline: Role, jobs: int, baseline_jobs: int) -> str:
    counts: list[tuple[Role, int]] = [(baseline, baseline_jobs), (group, jobs)]
    counts.sort(key=lambda pair: pair[0] != "control")  # controls first
    found = " and ".join(f"{count} {_PARTICIPLES[role]}" for role, count in counts)
    return f"no evidence yet: {found} jobs have ended; {JOBS_NEEDED} of each are needed"


_VERDICTS: Mapping[Verdict, str] = {
    "too_few": f"too few jobs to tell; {LEAST_JOBS} of each are needed",
    "none": "no difference is shown",
    "better": "{} jobs do better",
    "worse": "{} jobs do worse",
    "more_often_better": "{} jobs do better more often, but worse on the mean",
    "more_often_worse": "{} jobs do worse more often, but better on the mean",
    "better_but_lost": "{} jobs bring more, but are lost more often",
}


def _in_words(
    group: Role, baseline: Role, jobs: int, baseline_jobs: int, found: GroupComparison
) -> str:  # fmt: skip
    verdict = _VERDICTS[found.verdict].format(_PARTICIPLES[group])
    groups = f"{jobs} {_PARTICIPLES[group]} against {baseline_jobs} {_PARTICIPLES[baseline]} jobs"
    parts = [f"{verdict}: {groups}"]
    if found.difference is not None:
        share = "" if found.relative is None else f", {found.relative.value:+.1%}"
        bounds = (
            _bounds(found.difference, "+.4g")
            if min(jobs, baseline_jobs) >= LEAST_JOBS_FOR_MEANS
            else f" (its interval takes {LEAST_JOBS_FOR_MEANS} of each)"
        )
        parts.append(f"{found.difference.value:+.4g}{share}{bounds}")
    improvement = found.probability_of_improvement
    parts.append(f"better with probability {improvement.value:.2f}{_bounds(improvement, '.2f')}")
    return ", ".join(parts)


def _lost_in_words(group: Role, baseline: Role, own: _Group, other: _Group) -> str:
    """How many jobs were lost, which no score can tell by itself; nothing where none was."""
    if not own.lost and not other.lost:
        return ""
    return (
        f"; lost: {own.lost} of {own.jobs} {_PARTICIPLES[group]} and {other.lost} of "
        f"{other.jobs} {_PARTICIPLES[baseline]} jobs"
    )


def _bounds(estimate: AnytimeEstimate, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" (95 % interval {estimate.low:{form}} to {estimate.high:{form}})"
