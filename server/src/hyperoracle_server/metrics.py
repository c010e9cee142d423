"""Prometheus metrics, prefix `hyperoracle_`, base units."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.gain import evidence_counts, whole_jobs
from hyperoracle_server.inspection import describe_study
from hyperoracle_server.job_state import JobState
from hyperoracle_server.oracle import Oracle
from hyperoracle_server.study import StudyRuntime

_BUCKETS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """One application's metrics; study names never become labels."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Histogram(
            "hyperoracle_request_duration_seconds", "Time to answer a hot call.",
            ["route", "code"], buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self._rejected = Counter(
            "hyperoracle_rejected_inputs_total", "Requests refused.", ["reason"], registry=registry
        )
        self._totals = {
            name: Gauge(f"hyperoracle_{name}", text, registry=registry)
            for name, text in {
                "studies": "Studies.",
                "jobs_active": "Jobs with a valid lease.",
                "proposals": "Proposals stored.",
                "reports": "Reports stored.",
                "credited_proposals": "Proposals that were credited.",
                "memory_entries": "Memory entries, all studies.",
                "memory_reads": "Decisions with a look into the memory.",
                "memory_hits": "Of these, those for which the memory knew anything.",
                "neighbours_read": "Neighbours read.",
                "neighbours_from_other_jobs": "Of these, those that other jobs left.",
            }.items()
        }
        self._whole_jobs = Gauge(
            "hyperoracle_whole_jobs", "Jobs that came to their planned end.", ["role"],
            registry=registry,
        )  # fmt: skip
        build = Gauge("hyperoracle_build_info", "Constant 1.", ["version"], registry=registry)
        build.labels(version("hyperoracle-server")).set(1)

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Note an answered hot call."""
        self._requests.labels(route, str(status)).observe(seconds)

    def count_rejection(self, code: ErrorCode) -> None:
        """Note a refusal."""
        self._rejected.labels(code.value).inc()

    def render(self, oracle: Oracle) -> bytes:
        """The metrics in Prometheus' text format."""
        runtimes = oracle.studies()
        studies = [describe_study(oracle, study) for study in runtimes]
        self._totals["studies"].set(len(studies))
        self._totals["jobs_active"].set(sum(s.running_jobs for s in studies))
        self._totals["proposals"].set(sum(s.proposals for s in studies))
        self._totals["reports"].set(sum(s.reports for s in studies))
        self._totals["credited_proposals"].set(sum(s.credited_proposals for s in studies))
        self._totals["memory_entries"].set(sum(s.memory_size for s in studies))
        self._count_jobs(runtimes)
        return generate_latest(self._registry)

    def _count_jobs(self, runtimes: Sequence[StudyRuntime]) -> None:
        jobs: list[JobState] = []
        for study in runtimes:
            with study.lock:
                jobs += study.jobs.values()
        for role, count in whole_jobs(jobs).items():
            self._whole_jobs.labels(role).set(count)
        read, other, reads, hits = evidence_counts(jobs)
        self._totals["neighbours_read"].set(read)
        self._totals["neighbours_from_other_jobs"].set(other)
        self._totals["memory_reads"].set(reads)
        self._totals["memory_hits"].set(hits)
