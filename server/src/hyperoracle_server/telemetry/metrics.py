"""Prometheus metrics, prefix `hyperoracle_`, base units."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Literal, get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.telemetry.observer import Observer, ReportOutcome, RoundOutcome, Stage

_BUCKETS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5)
_STAGE_BUCKETS = (1e-5, 2.5e-5, 5e-5, *_BUCKETS)

TOTALS = {
    "studies": "Studies.",
    "jobs_active": "Jobs with a valid lease.",
    "proposals": "Proposals stored.",
    "reports_stored": "Reports stored.",
    "credited_proposals": "Proposals that were credited.",
    "memory_entries": "Memory entries, all studies.",
    "memory_reads": "Decisions with a look into the memory.",
    "memory_hits": "Of these, those for which the memory knew anything.",
    "neighbours_read": "Neighbours read.",
    "neighbours_from_other_jobs": "Of these, those that other jobs left.",
    "index_graphs": "Search graphs that answer.",
    "encoder_version": "Encoder versions published, all studies and layouts.",
    "store_bytes": "Size of the store's files.",
    "store_free_bytes": "Free space where the store is.",
    "store_queue": "Changes that wait to be written.",
}
"""What all studies and the store add up to (`views.studies`), by name."""

ReportResult = ReportOutcome | Literal["rejected"]
"""What came of a report: how it was taken in, or that it was refused."""


class Metrics(Observer):
    """One application's metrics; study names never become labels.

    Every combination of labels that is known beforehand is there from the start, with zero: a rate
    over a series that has just appeared would miss its first event.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._requests = Histogram(
            "hyperoracle_request_duration_seconds", "Time to answer a hot call.",
            ["route", "code"], buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self._answered = {
            route: self._requests.labels(route, "200") for route in ("propose", "report", "reports")
        }
        stages = Histogram(
            "hyperoracle_stage_duration_seconds", "Time of a stage of a hot call.",
            ["stage"], buckets=_STAGE_BUCKETS, registry=registry,
        )  # fmt: skip
        self._stages = {stage: stages.labels(stage) for stage in get_args(Stage)}
        self._commits = Histogram(
            "hyperoracle_fsync_duration_seconds", "Time of a durable COMMIT, which syncs the file.",
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self._failures = Counter(
            "hyperoracle_store_failures_total", "Transactions that failed.", registry=registry
        )
        self._rejected = Counter(
            "hyperoracle_rejected_inputs_total", "Requests refused.", ["reason"], registry=registry
        )
        for code in ErrorCode:
            self._rejected.labels(code.value)
        reports = Counter(
            "hyperoracle_reports_total", "Reports that came, by what came of them.",
            ["result"], registry=registry,
        )  # fmt: skip
        self._reports = {
            result: reports.labels(result) for result in (*get_args(ReportOutcome), "rejected")
        }
        self._evictions = Counter(
            "hyperoracle_evictions_total", "Memory entries pushed out by newer ones.",
            registry=registry,
        )  # fmt: skip
        self._index_builds = Counter(
            "hyperoracle_index_rebuilds_total", "Search graphs built and adopted.",
            registry=registry,
        )  # fmt: skip
        self._recall = Gauge(
            "hyperoracle_index_recall_ratio",
            "Share of the true neighbours that search graphs found, at the last sample.",
            registry=registry,
        )  # fmt: skip
        self._recall.set(1.0)
        self._leases = Counter(
            "hyperoracle_lease_expired_total", "Jobs that fell silent for longer than a lease.",
            registry=registry,
        )  # fmt: skip
        rounds = Counter(
            "hyperoracle_encoder_rounds_total", "Training rounds of encoders, by how they ended.",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self._rounds = {outcome: rounds.labels(outcome) for outcome in get_args(RoundOutcome)}
        self._loss = Gauge(
            "hyperoracle_encoder_loss", "Loss at the end of the newest published round.",
            registry=registry,
        )  # fmt: skip
        self._totals = {
            name: Gauge(f"hyperoracle_{name}", text, registry=registry)
            for name, text in TOTALS.items()
        }
        self._whole_jobs = Gauge(
            "hyperoracle_whole_jobs", "Jobs that came to their planned end.", ["role"],
            registry=registry,
        )  # fmt: skip
        build = Gauge("hyperoracle_build_info", "Constant 1.", ["version"], registry=registry)
        build.labels(version("hyperoracle-server")).set(1)

    # -- told by the routes --------------------------------------------------------------------

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Note an answered hot call."""
        # Looking a series up takes longer than all else here, and nearly all are answered.
        answered = self._answered[route] if status == 200 else None
        (answered or self._requests.labels(route, str(status))).observe(seconds)

    def count_rejection(self, code: ErrorCode) -> None:
        """Note a refusal."""
        self._rejected.labels(code.value).inc()

    def count_report(self, result: ReportResult) -> None:
        """Note what came of a report; call it once the report is durable."""
        self._reports[result].inc()

    # -- told by the oracle --------------------------------------------------------------------

    def stage(self, stage: Stage, seconds: float) -> None:
        """Note how long a stage took."""
        self._stages[stage].observe(seconds)

    def committed(self, seconds: float) -> None:
        """Note how long a durable COMMIT took."""
        self._commits.observe(seconds)

    def commit_failed(self) -> None:
        """Note a transaction that failed."""
        self._failures.inc()

    def evicted(self, count: int) -> None:
        """Note evictions."""
        self._evictions.inc(count)

    def index_built(self) -> None:
        """Note that search graphs were built."""
        self._index_builds.inc()

    def index_sampled(self, recall: float) -> None:
        """Note what a sample found."""
        self._recall.set(recall)

    def encoder_round(self, outcome: RoundOutcome, loss: float | None) -> None:
        """Note how a training round ended."""
        self._rounds[outcome].inc()
        if loss is not None:
            self._loss.set(loss)

    def lease_expired(self) -> None:
        """Note a job that fell silent."""
        self._leases.inc()

    # -- read ----------------------------------------------------------------------------------

    def render(self, totals: Mapping[str, float], whole_jobs: Mapping[str, int]) -> bytes:
        """The metrics in Prometheus' text format.

        Args:
            totals: what there is now, by the names of `TOTALS`; what is left out stays as it was.
            whole_jobs: jobs that came to their planned end, by role.
        """
        for name, value in totals.items():
            self._totals[name].set(value)
        for role, count in whole_jobs.items():
            self._whole_jobs.labels(role).set(count)
        return generate_latest(self._registry)
