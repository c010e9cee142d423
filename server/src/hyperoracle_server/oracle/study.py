"""One study at work: propose and report, from request to ledger changes.

`propose`: validate → held? → hyper-agent decides → answer, and the proposal's row unsynced; but a
decision that is to be held is durable before it is answered.
`report`: validate → `credit` says who is credited → hyper-agent learns → all of it in
one durable transaction.

What is in mind is a cache of the ledger. It is changed at once and written behind; should a
transaction fail, the whole study is forgotten and loaded again (`writer.epoch`).
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.jobs import (
    FinishJob,
    ProposeMetadata,
    Report,
    Role,
)
from hyperoracle_protocol.space import decode
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.ledger import rows
from hyperoracle_server.ledger.statements import Change
from hyperoracle_server.oracle import decisions_in_force, receipts
from hyperoracle_server.oracle.admission import check_open
from hyperoracle_server.oracle.credit import Credit, CreditBook, Settlement
from hyperoracle_server.oracle.endings import Endings
from hyperoracle_server.oracle.job import Answer, JobState, OpenProposal, check_repeated
from hyperoracle_server.oracle.receipts import note_of
from hyperoracle_server.strategies.chance import NumberedStreams
from hyperoracle_server.strategies.decisions import (
    Decision,
    MemoryEffect,
    Moment,
    Outcome,
)
from hyperoracle_server.strategies.registry import grid_of, make_hyper_agent
from hyperoracle_server.telemetry.observer import StageClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from hyperoracle_protocol.hyper_state import HyperStateLayout
    from hyperoracle_server.oracle.services import Services


PATIENCE_SECONDS = 0.05
"""How long work beside the calls waits for a study that is at work; it comes again in a second."""


class StudyRuntime:
    """A study in memory. Every method expects the caller to hold `lock`."""

    def __init__(
        self, number: int, name: str, definition: StudyDefinition, seed: int, created_at: float,
        services: Services, owner: str | None = None,
    ) -> None:  # fmt: skip
        self.number = number
        self.name = name
        self.definition = definition
        self.seed = seed
        self.created_at = created_at
        self.owner = owner  # the id of the token that created it, if its quota counts it
        self.epoch = services.writer.epoch
        self.lock = threading.RLock()
        self.agent = make_hyper_agent(definition, seed, services.index_recall)
        self.grid = grid_of(definition)
        self.jobs: dict[str, JobState] = {}
        self.layouts: dict[str, HyperStateLayout] = {}  # of its jobs, by signature
        self.entry_jobs: dict[int, int] = {}  # memory entry -> number of the job that left it
        self.entry_proposals: dict[int, int] = {}  # memory entry -> proposal, for its hyper-state
        self._services = services
        self._stages = StageClock(services.observer)
        self.agent.mark = self._stages.mark
        self._chance = NumberedStreams(seed)
        self._episode = self.agent.learning_episode
        self.samples = rows.Samples(self.agent.samples_needed)
        self.sign = 1.0 if definition.returns.direction == "maximise" else -1.0
        self.endings = Endings(self.agent, self.grid, self.jobs, self.sign)

    @contextmanager
    def locked_soon(self) -> Iterator[bool]:
        """Hold the lock, if it can be had within `PATIENCE_SECONDS`; yields whether it could."""
        is_held = self.lock.acquire(timeout=PATIENCE_SECONDS)
        try:
            yield is_held
        finally:
            if is_held:
                self.lock.release()

    def new_credit_book(self) -> CreditBook:
        """An empty credit book with this study's settings."""
        return CreditBook(self._episode.phases, self.definition.returns)

    def next_chance_number(self) -> int:
        """What the chance of a job that is about to start is numbered by.

        Counted in the study alone, so that its randomness does not depend on what else the store
        holds: a study that was restored elsewhere goes on as it would have at home.
        """
        return 1 + max((job.chance_number for job in self.jobs.values()), default=0)

    def role_for(self, chance_number: int, wanted: Role) -> Role:
        """The role of a job that is about to start: the wanted one, or what the study needs.

        Args:
            chance_number: the job's.
            wanted: `auto` leaves it to the study.
        """
        if wanted != "auto":
            return wanted
        # Decisions are numbered from 2³² on; what is left below is for what several jobs share.
        own = self._chance.stream(chance_number << 32)
        return self.agent.assigned_role(len(self.jobs), self._chance.stream, own)

    # -- propose -------------------------------------------------------------------------------

    def propose(
        self, job: JobState, request: ProposeMetadata, features: np.ndarray | None, digest: bytes
    ) -> Answer:
        """Answer a proposal's request.

        Args:
            job: the asking job.
            request: the metadata.
            features: the hyper-state, already of the layout's size and dtype and finite.
            digest: of the request's bytes.
        """
        repeated = self._repeated(job, request.sequence, digest)
        if repeated is not None:
            return repeated
        if job.status == "finished":
            raise RequestRefused(ErrorCode.JOB_FINISHED, "the job is finished; start a new one")
        self.endings.heard_of(job)
        before = job.changed_by_proposals
        changes = self._drop_not_applied(job, request.not_applied)
        check_open(self, job)
        held = job.held
        if held is not None and held.holds(request.update_step, request.env_step):
            decision = Decision(held.hyper_action, held.explored, held.epsilon, held.propensity)
        else:
            held = None
            decision = self._decide(job, request, features)
            job.held = decisions_in_force.held(self.definition.hold, job, request, decision)
        if held is None or request.not_applied:
            job.hyper_agent_notes = self.agent.notes(job.id)
        bins = self.grid.bins(decision.hyper_action)
        hyperparameters = decode(self.definition.space, bins)
        body = receipts.proposal(job, request, decision, bins, hyperparameters, held is not None)
        answer = Answer(digest, body)
        if job.changed_by_proposals != before:
            changes.append(job.update())
        changes += self._record(job, request, decision, held is not None, features, answer)
        job.touch(request.env_step, self._services.clock)
        durable = decisions_in_force.write(
            self._services, self.epoch, job, decision, changes, is_new=held is None
        )
        answer = answer._replace(durable=durable)
        job.remember(request.sequence, answer)
        return answer

    def _decide(
        self, job: JobState, request: ProposeMetadata, features: np.ndarray | None
    ) -> Decision:
        rng = self._chance.stream((job.chance_number << 32) + request.sequence)
        moment = Moment(job.id, job.role, request.env_step, job.total_env_steps, job.signature,
                        features, request.sequence, request.signals, job.task,
                        self.endings.avoided_by(job.role))  # fmt: skip
        job.counts.without_signal += self.agent.lacks_signal(request.signals)
        self._stages.start()
        decision = self.agent.decide(moment, rng)
        self._stages.mark("choose")
        return decision

    def _record(
        self, job: JobState, request: ProposeMetadata, decision: Decision, held: bool,
        features: np.ndarray | None, answer: Answer,
    ) -> list[Change]:  # fmt: skip
        """The proposal's rows, and its place among the open ones."""
        number = self._services.proposal_ids()
        job.counts.proposals += 1
        job.counts.store_bytes += rows.proposal_bytes(job, request, decision, answer)
        job.saw(request.sequence)
        job.counted_through = number
        job.account.exposure.decide(request.sequence, decision.hyper_action)
        read, other, memory_hit = job.counts.saw_evidence(
            job.id, decision.evidence, self.entry_jobs
        )
        creditable = not held and job.credit.add_proposal(request.sequence)
        if creditable:
            job.open[request.sequence] = OpenProposal(
                number, request.env_step, decision.hyper_action, features, decision.key,
                decision.encoder_version,
            )  # fmt: skip
        status = "open" if creditable else "held" if held else "settled"
        row = partial(
            rows.proposal_row, number, job, request, decision, answer,
            now=self._services.clock.now(), strategy=self.definition.strategy.name, status=status,
            neighbours=(read, other), memory_hit=memory_hit,
        )  # fmt: skip
        changes = [Change("insert_proposal", row)]
        if features is not None and creditable:
            changes += self._keep_sample(job, number, features)
        return changes

    def _keep_sample(self, job: JobState, number: int, features: np.ndarray) -> list[Change]:
        """Store a hyper-state; thin those that neither memory nor training need any more."""
        row = partial(rows.hyper_state_row, number, self.number, job.signature, features)
        changes = [Change("insert_hyper_state", row)]
        if self.samples.add(job.signature, number):
            still_open = (p.proposal_id for j in self.jobs.values() for p in j.open.values())
            where = {
                "where_study_id": self.number,
                "where_layout_signature": job.signature,
                "below": self.samples.thin(job.signature, still_open),
            }
            changes.append(Change("thin_hyper_states", where))
        return changes

    # -- report --------------------------------------------------------------------------------

    def report(self, job: JobState, report: Report, digest: bytes) -> Answer:
        """Take in a report; the answer's future resolves once it is durable."""
        repeated = self._repeated(job, report.sequence, digest)
        if repeated is not None:
            return repeated._replace(outcome="duplicate")
        note = None
        if job.ended_before(report.sequence):
            changes, settlement = [], Settlement("late")
        else:
            self.endings.heard_of(job)
            decisions_in_force.note_lost(self._services, self.name, job, report)
            changes = self._drop_not_applied(job, report.not_applied)
            if report.applied:
                job.counts.applied_differently += len(report.applied)
                self.agent.used_otherwise(job.id, [each.sequence for each in report.applied])
            note = note_of(job, report, self.definition.returns)
            settlement = job.credit.add_report(report, self.endings.floor_of(job))
        if settlement.status != "waiting" and report.sequence in settlement.applied_reports:
            job.touch(report.env_step, self._services.clock)
        was_on_its_way = job.status == "finished" and bool(settlement.applied_reports)
        if was_on_its_way:
            self.endings.reopen(job)
        changes += self._settle(job, settlement)
        if was_on_its_way:  # the end is told as if the report had come before it
            assert job.finish_reason is not None
            self.endings.settle(job, job.finish_reason)
        job.hyper_agent_notes = self.agent.notes(job.id)
        is_withdrawn = job.held is not None and self.agent.withdraws(job.id)
        if is_withdrawn:
            job.held = None
        body = receipts.receipt(
            report, settlement, self.definition.returns, ask_again=is_withdrawn, note=note
        )
        row = rows.report_row(job, report, digest, body, settlement.status,
                                 now=self._services.clock.now())  # fmt: skip
        changes.insert(0, Change("insert_report", row))
        job.counts.reports += 1
        job.counts.store_bytes += rows.ROW_BYTES + len(row["body"])
        job.saw(report.sequence)
        changes.append(job.update())
        durable = self._services.writer.submit_durably(changes, self.epoch)
        answer = Answer(digest, body, durable, settlement.status)
        job.remember(report.sequence, answer)
        return answer

    def finish(self, job: JobState, end: FinishJob) -> Any:
        """End a job: settle what is open; returns the future of its durability."""
        self.endings.heard_of(job)
        job.touch(end.env_step or 0, self._services.clock)
        changes = self._settle(job, job.credit.give_up_gaps(self.endings.floor_of(job)))
        job.end(end)
        job.held = None
        ending = self.endings.settle(job, end.reason)
        settlement = job.credit.finish(self.endings.floor_of(job), died=ending.is_dead)
        changes += self._settle(job, settlement)
        return self._services.writer.submit_durably([*changes, job.update()], self.epoch)

    def lapse(self, job: JobState) -> None:
        """Count a job as lost that was not heard of for its lease; its next call takes it back."""
        self.endings.settle(job, "lapsed")
        self._services.writer.submit([job.update()], self.epoch)

    def _settle(self, job: JobState, settlement: Settlement) -> list[Change]:
        """Learn from what was credited; the changes of proposals, reports and memory."""
        changes: list[Change] = []
        if settlement.last_return is not None:
            job.last_return = settlement.last_return
        for phase in settlement.phases:
            job.account.exposure.phase(
                phase.env_step, phase.through, is_lost=phase.is_lost, grid=self.grid
            )
        if settlement.curve:
            self.endings.observe(job, settlement.curve)
            own = [phase.own for phase in settlement.phases if phase.own is not None]
            if own and job.curve is not None:
                job.curve.newest_own = self.sign * own[-1]
        changes += [
            rows.settled("report", job, sequence, status="applied")
            for sequence in settlement.applied_reports
        ]
        for sequence in settlement.uncredited:
            job.open.pop(sequence, None)
            changes.append(
                rows.settled("proposal", job, sequence, status="settled", hyper_return=None)
            )
        for credit in settlement.credits:
            changes += self._credit(job, credit)
        return changes + rows.state_changes(self.number, self.agent.changed_states())

    def _credit(self, job: JobState, credit: Credit) -> list[Change]:
        proposal = job.open.pop(credit.sequence)
        job.counts.credited += 1
        changes = [
            rows.settled("proposal", job, credit.sequence, status="credited",
                     hyper_return=credit.hyper_return)
        ]  # fmt: skip
        if not credit.last_in_phase and credit.position % self._episode.write_every:
            return changes
        entry_id = self._services.entry_ids()
        outcome = Outcome(
            entry_id, job.signature, proposal.hyper_action, self.sign * credit.hyper_return,
            proposal.features, proposal.key, proposal.encoder_version, job.id, credit.sequence,
            self.sign * credit.hyper_reward, credit.ends_episode,
        )  # fmt: skip
        effect = self.agent.learn(outcome)
        if effect is not None:
            changes += self._remember(job, proposal, outcome, effect)
        return changes

    def _remember(
        self, job: JobState, proposal: OpenProposal, outcome: Outcome, effect: MemoryEffect
    ) -> list[Change]:
        """The changes that make a memory write durable."""
        if effect.inserted_key is not None:
            self.entry_jobs[outcome.entry_id] = job.id
            self.entry_proposals[outcome.entry_id] = proposal.proposal_id
        evicted = {entry: self.entry_proposals.pop(entry) for entry in effect.evicted}
        for entry in evicted:
            self.entry_jobs.pop(entry, None)
        if evicted:
            self._services.observer.evicted(len(evicted))
        return rows.memory_changes(self.number, job, proposal, outcome, effect, evicted,
                                      now=self._services.clock.now())  # fmt: skip

    # -- both ----------------------------------------------------------------------------------

    def _drop_not_applied(self, job: JobState, sequences: list[int]) -> list[Change]:
        if not sequences:
            return []
        if job.held is not None and job.held.sequence in sequences:
            job.held = None
        self.agent.not_applied(job.id, sequences)
        job.account.exposure.replace(sequences, self.grid.default_joint_index)
        changes = []
        for sequence in job.credit.mark_not_applied(sequences):
            job.open.pop(sequence, None)
            job.counts.not_applied += 1
            changes.append(
                rows.settled("proposal", job, sequence, status="not_applied", hyper_return=None)
            )
        return changes

    def _repeated(self, job: JobState, sequence: int, digest: bytes) -> Answer | None:
        answer = job.answers.get(sequence)
        if answer is None and job.may_have_seen(sequence):
            answer = self._services.stored_answer(job.id, sequence)
        return None if answer is None else check_repeated(answer, digest, sequence)

    def heartbeat(self, job: JobState, env_step: int | None) -> None:
        """Keep the job's lease; one that has ended has none."""
        if job.status == "finished":
            return
        self.endings.heard_of(job)
        job.touch(env_step or 0, self._services.clock)
        self._services.writer.submit([job.update()], self.epoch)
