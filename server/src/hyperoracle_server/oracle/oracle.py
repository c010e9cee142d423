"""The oracle: which studies and jobs there are, each found under its lock, made and deleted.

What a job asks of it at work is in `oracle.calls`; what people read, in `views`. Knows no HTTP.
Thread-safe.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.jobs import MAX_REPORTS_AT_ONCE, StartedJob, StartJob
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.ledger import deletion
from hyperoracle_server.ledger.numbers import FreshNumbers, Renumbering
from hyperoracle_server.ledger.statements import Change
from hyperoracle_server.ledger.store import Ledger
from hyperoracle_server.oracle import recovery
from hyperoracle_server.oracle.admission import (
    Layouts,
    Quotas,
    Usage,
    check_same_definition,
    name_taken,
    no_such_job,
)
from hyperoracle_server.oracle.job import JobState
from hyperoracle_server.oracle.services import Clock, Identifiers, Services
from hyperoracle_server.oracle.study import StudyRuntime
from hyperoracle_server.strategies.cost import CostLimits, check_cost, check_texts
from hyperoracle_server.strategies.evidence.job_account import JobAccount
from hyperoracle_server.strategies.evidence.learning_curve import LearningCurve
from hyperoracle_server.telemetry.failpoints import failpoint
from hyperoracle_server.telemetry.logs import about
from hyperoracle_server.telemetry.observer import Observer

log = logging.getLogger(__name__)


class Oracle:
    """The studies of one ledger and their jobs.

    Args:
        ledger: the durable store; the caller closes it.
        lease_seconds: after so long without a call a running job counts as stale.
        limits: what a study may cost.
        index_recall: the share of true neighbours that search graphs have to find.
        quota: what a token may take up; 0 is no limit.
        clock: wall and monotonic time.
        observer: is told what happens.

    Attributes:
        quotas: count what belongs to each token.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        lease_seconds: float = 120.0,
        limits: CostLimits | None = None,
        index_recall: float = 0.95,
        quota: Usage | None = None,
        clock: Clock | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.ledger = ledger
        self.observer = observer or Observer()
        self.clock = clock or Clock()
        self.lease_seconds = lease_seconds
        self._limits = limits or CostLimits()
        self._layouts = Layouts(self._limits)
        # Guards the directories below, for moments: nobody waits for a study or the disk with it.
        self._lock = threading.RLock()
        self._creation_lock = threading.Lock()  # of one study after the other, for a commit each
        self._restoration_lock = threading.Lock()
        self._restoring: set[str] = set()  # names of studies that are being restored
        highest = recovery.highest_ids(ledger)
        self.services = Services(
            ledger.writer,
            self.clock,
            Identifiers(highest["proposals"]),
            Identifiers(highest["memory_entries"]),
            lambda job_id, sequence: recovery.stored_answer(ledger, job_id, sequence),
            self.observer,
            index_recall,
        )
        self._study_ids = Identifiers(highest["studies"])
        self._job_ids = Identifiers(highest["jobs"])
        self._studies = recovery.load_studies(ledger, self.services)
        self._study_of_job = {
            job: name for name, study in self._studies.items() for job in study.jobs
        }
        self.quotas = Quotas(quota or Usage(), lambda: list(self._studies.values()))
        self.quotas.look()

    # -- studies -------------------------------------------------------------------------------

    def create_study(
        self, name: str, definition: StudyDefinition, owner: str | None = None
    ) -> tuple[StudyRuntime, bool]:
        """Create a study, or confirm that it exists with this definition.

        Args:
            name: the study's.
            definition: what it is to be.
            owner: the id of the token whose it will be; None where nobody's quota counts it.

        Returns:
            The study and whether it is new.

        Raises:
            RequestRefused: `study_conflict`, naming what differs; `invalid_request`, it costs too
                much; `quota_exceeded`; `store_unavailable`.
        """
        if name not in self._studies:
            check_texts(definition)
            check_cost(definition, [], self._limits)
        # One at a time: jobs that start together all create their study, and one of them does.
        with self._creation_lock:
            existing = self._studies.get(name)
            if existing is not None:
                check_same_definition(existing, definition)
                return existing, False
            if name in self._restoring:
                raise name_taken(name)
            self.quotas.check_addition(owner, "studies")
            seed = secrets.randbits(52) if definition.seed is None else definition.seed
            number = self._study_ids()
            now = self.clock.now()
            row = {
                "id": number,
                "name": name,
                "definition": definition.model_dump_json(),
                "seed": seed,
                "created_at": now,
                "token_id": owner,
            }
            writer = self.ledger.writer
            writer.submit_durably([Change("insert_study", row)], writer.epoch).result()
            study = StudyRuntime(number, name, definition, seed, now, self.services, owner)
            with self._lock:
                self._studies[name] = study
            fields = about(study=name, strategy=definition.strategy.name)
            log.info("study created", extra=fields)
            return study, True

    def studies(self) -> list[StudyRuntime]:
        """All studies, by name."""
        with self._lock:
            return [self._fresh(name) for name in sorted(self._studies)]

    @contextmanager
    def study(self, name: str) -> Iterator[StudyRuntime]:
        """A study, locked.

        Raises:
            RequestRefused: `study_not_found`.
        """
        while True:
            study = self._fresh(name)
            with study.lock:
                # It may have been deleted, or loaded again, while this waited for its lock.
                if self.has(study):
                    yield study
                    return

    def found(self, name: str) -> StudyRuntime:
        """A study, not locked.

        Raises:
            RequestRefused: `study_not_found`.
        """
        return self._fresh(name)

    def has(self, study: StudyRuntime) -> bool:
        """Whether this is what it has in mind of a study: not one deleted or loaded again since."""
        return self._studies.get(study.name) is study

    def delete_study(self, name: str) -> None:
        """Forget a study with everything that belongs to it, also on a full disk.

        Raises:
            RequestRefused: `study_not_found`; `store_unavailable`.
        """
        with self.study(name) as study:
            deletion.mark(self.ledger, study.number)
            with self._lock:
                del self._studies[name]
                self._study_of_job = {j: s for j, s in self._study_of_job.items() if s != name}
        log.info("study deleted", extra=about(study=name))
        deletion.remove_marked(self.ledger)  # nobody waits for that; what fails, upkeep repeats

    def adopt_study(
        self,
        name: str,
        renumber: Callable[[FreshNumbers], Renumbering],
        insert: Callable[[Connection, Renumbering], None],
    ) -> StudyRuntime:
        """Take in a study that another ledger had (`snapshots.restoring`).

        Args:
            name: what to call it.
            renumber: plans its new numbers.
            insert: inserts its rows, within one transaction.

        Raises:
            RequestRefused: `study_conflict`, there is one of this name; `store_unavailable`.
        """
        with self._restoring_as(name):
            identifiers = {
                "studies": self._study_ids,
                "jobs": self._job_ids,
                "proposals": self.services.proposal_ids,
                "memory_entries": self.services.entry_ids,
            }
            renumbering = renumber(
                FreshNumbers(
                    lambda table, count: identifiers[table].reserve(count),
                    self._study_of_job.__contains__,
                    new_job_id,
                    name,
                )
            )
            self.ledger.writer.run(lambda connection: insert(connection, renumbering))
            failpoint("after_restore_commit")
            study = recovery.load_study(self.ledger, self.services, name)
            assert study is not None, "it was just inserted"
            with self._lock:
                self._studies[name] = study
                self._study_of_job.update(dict.fromkeys(study.jobs, name))
            return study

    @contextmanager
    def _restoring_as(self, name: str) -> Iterator[None]:
        """Keep a name for a study that is being restored, for which no job of others waits.

        Raises:
            RequestRefused: `study_conflict`, there is a study of this name.
        """
        with self._restoration_lock:  # two of one snapshot: whose jobs keep their ids?
            with self._creation_lock:
                if name in self._studies:
                    raise name_taken(name)
                self._restoring.add(name)
            try:
                yield
            finally:
                self._restoring.discard(name)

    def _fresh(self, name: str) -> StudyRuntime:
        """The study, loaded again if a failed transaction made what is in mind wrong."""
        study = self._studies.get(name)
        if study is None:
            raise RequestRefused(
                ErrorCode.STUDY_NOT_FOUND,
                f"there is no study {name!r}; create it with PUT /v1/studies/{name}",
                expected="the name of a study",
                got=name,
            )
        if study.epoch != self.ledger.writer.epoch:
            with self._lock:
                loaded = recovery.load_study(self.ledger, self.services, name)
                assert loaded is not None, "a study in mind is always in the ledger"
                self._studies[name] = study = loaded
        return study

    # -- jobs ----------------------------------------------------------------------------------

    def start_job(self, study_name: str, start: StartJob, owner: str | None = None) -> StartedJob:
        """Start a job, or find the one with the same `job_key`.

        Args:
            study_name: the study's.
            start: what the job is.
            owner: the id of the token whose it will be; None where nobody's quota counts it.

        Raises:
            RequestRefused: `study_not_found`; `invalid_request`, the tensors do not make a layout,
                or the study costs too much with it; `quota_exceeded`; `store_unavailable`.
        """
        with self.study(study_name) as study:
            job = _job_with_key(study, start.job_key)
        fresh = None
        if job is None:
            self.quotas.check_addition(owner, "jobs")
            layout = self._layouts.of(study, start)
            # What may take seconds is done before the study is locked.
            fresh = self._layouts.fresh_encoder(study, layout)
        with self.study(study_name) as study:
            job = _job_with_key(study, start.job_key)
            if job is None:
                job = self._new_job(study, start, fresh, owner)
            elif job.status == "finished":
                job.resume()
                study.endings.reopen(job)
                self._commit(study, [job.update()])
            return StartedJob(
                job_id=job.public_id,
                study=study_name,
                role=job.role,
                layout=job.layout,
                space=study.definition.space,
                lease_seconds=self.lease_seconds,
                last_sequence=job.counts.last_sequence,
                last_report=job.credit.last_applied_report,
                reports_at_once=MAX_REPORTS_AT_ONCE,
                unknown_fields=start.unknown_fields,
            )

    def _new_job(
        self, study: StudyRuntime, start: StartJob, fresh: Any, owner: str | None
    ) -> JobState:
        layout = self._layouts.of(study, start)
        now = self.clock.now()
        number = self._job_ids()
        chance_number = study.next_chance_number()
        job = JobState(
            id=number,
            chance_number=chance_number,
            public_id=new_job_id(),
            job_key=start.job_key,
            role=study.role_for(chance_number, start.role),
            layout=layout,
            total_env_steps=start.total_env_steps,
            base_values=start.base_values,
            metadata=start.metadata,
            created_at=now,
            last_seen_at=now,
            credit=study.new_credit_book(),
            account=JobAccount(LearningCurve(start.total_env_steps)),
            lease_started=self.clock.monotonic(),
            owner=owner,
        )
        self._commit(study, [Change("insert_job", {**job.row(), "study_id": study.number})])
        study.agent.open_layout(layout, fresh)
        study.layouts[layout.signature] = layout
        study.jobs[job.public_id] = job
        with self._lock:
            self._study_of_job[job.public_id] = study.name
        fields = about(study=study.name, job=job.public_id, role=job.role)
        log.info("job started", extra=fields)
        return job

    @contextmanager
    def job(self, job_id: str) -> Iterator[tuple[StudyRuntime, JobState]]:
        """A job and its study, locked.

        Raises:
            RequestRefused: `job_not_found`.
        """
        name = self._study_of_job.get(job_id)
        if name is None:
            raise no_such_job(job_id)
        with self.study(name) as study:
            job = study.jobs.get(job_id)
            if job is None:  # another study of that name by now
                raise no_such_job(job_id)
            yield study, job

    def study_at_work(self, job_id: str) -> StudyRuntime | None:
        """A job's study as it is in mind, not locked; None where a call cannot be answered from it.

        That is: there is no such job, or a failed transaction made what is in mind wrong.
        """
        name = self._study_of_job.get(job_id)
        study = None if name is None else self._studies.get(name)
        is_usable = study is not None and study.epoch == self.ledger.writer.epoch
        return study if is_usable else None

    def study_of_job(self, job_id: str) -> str | None:
        """The name of a job's study, None if there is no such job."""
        return self._study_of_job.get(job_id)

    def _commit(self, study: StudyRuntime, changes: list[Change]) -> None:
        self.ledger.writer.submit_durably(changes, study.epoch).result()


def new_job_id() -> str:
    """A public id for a job; it says nothing, and nobody guesses it."""
    return f"job-{secrets.token_hex(8)}"


def _job_with_key(study: StudyRuntime, job_key: str | None) -> JobState | None:
    if job_key is None:
        return None
    return next((job for job in study.jobs.values() if job.job_key == job_key), None)
