"""What all studies and the store add up to, as the metrics show it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from hyperoracle_server.views.gain import evidence_counts, whole_jobs
from hyperoracle_server.views.studies import describe_study

if TYPE_CHECKING:
    from hyperoracle_server.ledger.store import Ledger
    from hyperoracle_server.oracle.oracle import Oracle


class Totals(NamedTuple):
    """What there is now.

    Attributes:
        totals: by the names of `metrics.TOTALS`.
        whole_jobs: jobs that came to their planned end, by role.
    """

    totals: dict[str, float]
    whole_jobs: dict[str, int]


def totals_of(oracle: Oracle) -> Totals:
    """Count and weigh an oracle's studies and its store; waits for no study."""
    runtimes = oracle.studies()
    studies = [describe_study(oracle, study) for study in runtimes]
    jobs = [job for study in runtimes for job in list(study.jobs.values())]
    read, other, reads, hits = evidence_counts(jobs)
    return Totals(
        {
            "studies": len(studies),
            "jobs_active": sum(s.running_jobs for s in studies),
            "proposals": sum(s.proposals for s in studies),
            "reports_stored": sum(s.reports for s in studies),
            "credited_proposals": sum(s.credited_proposals for s in studies),
            "memory_entries": sum(s.memory_size for s in studies),
            "memory_reads": reads,
            "memory_hits": hits,
            "neighbours_read": read,
            "neighbours_from_other_jobs": other,
            "index_graphs": sum(m.graphs for s in studies for m in s.memory_search.values()),
            "encoder_version": sum(sum(s.encoder_versions.values()) for s in studies),
            **_weight(oracle.ledger),
        },
        {str(role): count for role, count in whole_jobs(jobs).items()},
    )


def _weight(ledger: Ledger) -> dict[str, float]:
    weight: dict[str, float] = {"store_queue": ledger.writer.queued}
    with suppress(OSError):  # numbers of a moment ago are better than none
        weight["store_bytes"] = ledger.size_bytes()
        weight["store_free_bytes"] = ledger.free_bytes()
    return weight
