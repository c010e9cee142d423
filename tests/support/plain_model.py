"""What an oracle must know, told as plainly as possible: dicts and lists, no store, no index.

Written from the paper and the documents of the calls, not from the server's code, which it judges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

KERNEL_OFFSET = 1e-3


@dataclass
class Entry:
    """A (key, hyper-action, value) triple of the memory, and whose it is."""

    job_id: str
    sequence: int
    bins: list[int]
    key: tuple[float, ...]
    value: float


def write(entries: list[Entry], new: Entry, setting: dict[str, Any], *, maximise: bool) -> None:
    """Eq. 4 as the paper writes it, then the new triple; past the capacity the earliest goes.

    Args:
        entries: of one layout, the earliest first; changed in place.
        new: with the hyper-return G as its value.
        setting: `capacity`, `neighbours_write`, `write_rate`, `write_rule`.
        maximise: whether more is better, for the rule `max`.
    """
    g = new.value
    same = [(math.dist(e.key, new.key) ** 2, e) for e in entries if e.bins == new.bins]
    twin = next((e for _, e in same if e.key == new.key), None)
    if setting["write_rule"] == "average":
        nearest = sorted(same, key=lambda pair: pair[0])[: setting["neighbours_write"]]
        similarities = [1 / (d + KERNEL_OFFSET) for d, _ in nearest]
        for similarity, (_, e) in zip(similarities, nearest, strict=True):
            share = similarity / sum(similarities)
            e.value += setting["write_rate"] * share * (g - e.value)
    elif twin is not None:
        twin.value = max(twin.value, g) if maximise else min(twin.value, g)
    if twin is None:
        entries.append(new)
        if len(entries) > setting["capacity"]:
            entries.pop(0)


@dataclass
class Asked:
    """A call that was answered: what was asked, and the answer."""

    call: str
    body: Any
    answer: Any


@dataclass
class PlainJob:
    """One job."""

    key: str | None
    role: str
    layout: str
    total_env_steps: int
    is_running: bool = True
    ended_after: int = 0  # the last sequence before the job's end
    env_step: int = 0
    asked: dict[int, Asked] = field(default_factory=dict)
    decided: dict[int, tuple[list[int], Any]] = field(default_factory=dict)  # bins and key
    open: set[int] = field(default_factory=set)
    unused: set[int] = field(default_factory=set)  # proposals whose answer was not used
    dropped: set[int] = field(default_factory=set)  # those of them that had been open
    credited: dict[int, float] = field(default_factory=dict)
    covered: int = 0  # proposals up to here have had their report
    last_applied: int = 0
    waiting: dict[int, Any] = field(default_factory=dict)  # by the report that they wait for
    phases: list[tuple[list[int], float | None]] = field(default_factory=list)  # not yet credited
    returns: list[float] = field(default_factory=list)  # of applied reports, in order
    last_return: float | None = None
    known: list[float] = field(default_factory=list)  # every return G that was known

    def count(self, call: str) -> int:
        """How many calls of a kind were answered."""
        return sum(asked.call == call for asked in self.asked.values())


@dataclass
class PlainStudy:
    """A study with its jobs, and its memory by layout."""

    definition: dict[str, Any]
    jobs: dict[str, PlainJob] = field(default_factory=dict)
    memory: dict[str, list[Entry]] = field(default_factory=dict)

    # -- what a job does -----------------------------------------------------------------------

    def proposed(self, job_id: str, body: Any, answer: Any, key: Any) -> None:
        """A new proposal was answered; `key` is that of its hyper-state, None without one."""
        job, sequence = self.jobs[job_id], body["sequence"]
        self._not_used(job, body.get("not_applied", []))
        job.asked[sequence] = Asked("propose", body, answer)
        job.decided[sequence] = (answer["bins"], key)
        job.env_step = max(job.env_step, body["env_step"])
        if not answer["held"] and sequence > job.covered and sequence not in job.unused:
            job.open.add(sequence)

    def reported(self, job_id: str, body: Any) -> dict[str, Any]:
        """A new report came; returns what the receipt must say."""
        job, previous = self.jobs[job_id], body.get("previous_report")
        if not job.is_running and body["sequence"] > job.ended_after:
            return {"sequence": body["sequence"], "status": "late", "credited": 0}
        self._not_used(job, body.get("not_applied", []))
        before = len(job.credited)
        if previous is None:
            status = "applied" if body["sequence"] > job.last_applied else "late"
        elif previous > job.last_applied:
            status = "waiting"
            job.waiting[previous] = body
        else:
            status = "applied" if previous == job.last_applied else "late"
        if status == "applied":
            job.env_step = max(job.env_step, body["env_step"])
            self._apply_with_followers(job_id, body)
        credited = len(job.credited) - before
        return {"sequence": body["sequence"], "status": status, "credited": credited}

    def finished(self, job_id: str, env_step: int, reason: str) -> None:
        """The job ended: what waits is applied in order, what is open stays without credit.

        Of a job that broke down before its planned end, what is open led to the worst return that
        any job of the same length has brought.
        """
        job = self.jobs[job_id]
        while job.waiting:
            job.phases.clear()  # a learning episode with a hole in it is credited to nobody
            first = min(job.waiting.values(), key=lambda body: body["sequence"])
            del job.waiting[first["previous_report"]]
            self._apply_with_followers(job_id, first)
        job.env_step = max(job.env_step, env_step)
        alike = [j for j in self.jobs.values() if j.total_env_steps == job.total_env_steps]
        known = [g for other in alike for g in other.known]
        if reason == "failed" and job.env_step < job.total_env_steps and known:
            job.phases.append((sorted(job.open), self._worst_of(known)))
            self._credit(job_id)
        job.open.clear()
        job.phases.clear()
        job.is_running = False
        job.ended_after = max(job.asked, default=0)

    # -- what follows from it ------------------------------------------------------------------

    def _worst_of(self, returns: list[float]) -> float:
        minimises = self.definition["returns"].get("direction", "maximise") == "minimise"
        return max(returns) if minimises else min(returns)

    def _not_used(self, job: PlainJob, sequences: Sequence[int]) -> None:
        job.dropped |= job.open & set(sequences)
        job.open -= set(sequences)
        job.unused |= {s for s in sequences if s > job.covered}

    def _apply_with_followers(self, job_id: str, body: Any) -> None:
        job = self.jobs[job_id]
        self._apply(job_id, body)
        while (follower := job.waiting.pop(job.last_applied, None)) is not None:
            self._apply(job_id, follower)

    def _apply(self, job_id: str, body: Any) -> None:
        job = self.jobs[job_id]
        through = max(body["credits_through"], job.covered)
        after = body.get("credits_after", job.covered)
        mine = sorted(s for s in job.open if after < s <= through)
        job.open = {s for s in job.open if s > through}
        job.covered, job.last_applied = through, body["sequence"]
        g = self._return(job, body)
        if g is not None:
            job.last_return = g
            job.known.append(g)
        if not mine and not job.phases:
            return
        job.phases.append((mine, g))
        strategy = self.definition["strategy"]
        if len(job.phases) == strategy.get("learning_episode", {}).get("phases", 1):
            self._credit(job_id)
            job.phases.clear()

    def _return(self, job: PlainJob, body: Any) -> float | None:
        setting = self.definition["returns"]
        episodes = body["episode_returns"]
        if setting["kind"] == "phase_return":
            return body.get("phase_return")
        if setting["kind"] == "phase_episodes":
            return sum(episodes) / len(episodes) if episodes else None
        job.returns += episodes
        newest = job.returns[-setting["count"] :]
        return sum(newest) / len(newest) if newest else None

    def _credit(self, job_id: str) -> None:
        """Eq. 1: a proposal gets the returns of its own and all later phases of its episode."""
        job = self.jobs[job_id]
        for number, (sequences, _) in enumerate(job.phases):
            later = [g for _, g in job.phases[number:]]
            if None in later:
                continue
            for sequence in sequences:
                job.credited[sequence] = sum(g for g in later if g is not None)
                self._remember(job_id, sequence)

    def _remember(self, job_id: str, sequence: int) -> None:
        job, strategy = self.jobs[job_id], self.definition["strategy"]
        if strategy["name"] != "epgt":
            return
        bins, key = job.decided[sequence]
        entries = self.memory.setdefault(job.layout, [])
        new = Entry(job_id, sequence, bins, key, job.credited[sequence])
        maximise = self.definition["returns"].get("direction", "maximise") == "maximise"
        write(entries, new, strategy["memory"], maximise=maximise)
