"""What a job's proposals and reports add up to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from hyperoracle_protocol.jobs import MAX_NOTICES


@dataclass
class JobCounts:
    """Counts of one job; its study's lock guards them.

    The job's row of the ledger has them as they were when it was last written, so that a start
    adds only the proposals that came after that (`recovery`), however many there were before.

    Attributes:
        proposals: that were answered.
        reports: that were taken in.
        credited: proposals that a report credited.
        not_applied: proposals that the job did not use.
        applied_differently: proposals for which it said what it used instead.
        without_signal: proposals that lacked the signal by which the strategy decides.
        without_return: reports that brought no number of the study's kind of return.
        notices: what its client noticed, and how often.
        neighbours_read: memory entries that decisions looked at.
        neighbours_other: those of them that other jobs left.
        memory_reads: decisions with a look into the memory.
        memory_hits: those for which it knew anything.
        last_sequence: the highest of a proposal or report.
        first_late: the first sequence that the job had not handed out when it ended; 0 while it
            runs.
        store_bytes: about what the job's rows take in the store, without hyper-states.
    """

    proposals: int = 0
    reports: int = 0
    credited: int = 0
    not_applied: int = 0
    applied_differently: int = 0
    without_signal: int = 0
    without_return: int = 0
    notices: dict[str, int] = field(default_factory=dict)
    neighbours_read: int = 0
    neighbours_other: int = 0
    memory_reads: int = 0
    memory_hits: int = 0
    last_sequence: int = 0
    first_late: int = 0
    store_bytes: int = 0

    def saw(self, sequence: int) -> None:
        """Note the sequence of a proposal or report."""
        self.last_sequence = max(self.last_sequence, sequence)

    def noticed(self, notices: Mapping[str, int]) -> None:
        """Take in what the job's client noticed: its counts, which only grow while it runs."""
        for name, count in notices.items():
            if name in self.notices or len(self.notices) < MAX_NOTICES:
                self.notices[name] = max(count, self.notices.get(name, 0))

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(vars(self))

    @classmethod
    def load(cls, text: str) -> Self:
        """What `dump` wrote.

        Raises:
            ValueError, TypeError: it did not write this.
        """
        found = cls(**json.loads(text))
        counts = {**vars(found), **found.notices}
        del counts["notices"]
        if not all(isinstance(count, int) and count >= 0 for count in counts.values()):
            raise ValueError("expected counts of a job, got other values")
        return found

    def __add__(self, other: JobCounts) -> JobCounts:
        """Of both; the higher `last_sequence`, and of each notice the higher count."""
        # Only of a job as it was when it ended is `first_late` not 0.
        counts = {name: ours for name, ours in vars(self).items() if name != "notices"}
        sums = {name: ours + getattr(other, name) for name, ours in counts.items()}
        both = JobCounts(**{**sums, "last_sequence": max(self.last_sequence, other.last_sequence)})
        both.noticed(self.notices)
        both.noticed(other.notices)
        return both
