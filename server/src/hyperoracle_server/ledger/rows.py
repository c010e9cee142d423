"""How proposals, reports and memory writes are written down, and which hyper-states stay."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from hyperoracle_server.ledger.statements import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from jaxtyping import Float

    from hyperoracle_protocol.jobs import ProposeMetadata, Report
    from hyperoracle_server.oracle.job import Answer, JobState, OpenProposal
    from hyperoracle_server.strategies.decisions import Decision, Evidence, MemoryEffect, Outcome


def proposal_row(
    number: int,
    job: JobState,
    request: ProposeMetadata,
    decision: Decision,
    answer: Answer,
    *,
    now: float,
    strategy: str,
    status: str,
    neighbours: tuple[int, int],
    memory_hit: bool | None,
) -> dict[str, Any]:
    """A proposal as a row; made when it is written, so it reads nothing of the job that changes.

    Args:
        number: the proposal's.
        job: that asked.
        request: its metadata.
        decision: what was chosen.
        answer: what was answered.
        now: seconds since the epoch.
        strategy: the study's.
        status: `open`, `held`, or `settled` where a report had already covered it.
        neighbours: how many were read, and how many of them other jobs left.
        memory_hit: whether the memory knew anything; None where it was not read.
    """
    return {
        "id": number,
        "job_id": job.id,
        "sequence": request.sequence,
        "request_digest": answer.digest,
        "response": answer.body.decode(),
        "update_step": request.update_step,
        "env_step": request.env_step,
        "hyper_action": decision.hyper_action,
        "explored": decision.explored,
        "epsilon": decision.epsilon,
        "propensity": decision.propensity,
        "held": status == "held",
        "role": job.role,
        "strategy": strategy,
        "encoder_version": decision.encoder_version,
        "memory_revision": decision.memory_revision,
        "base_values": json.dumps(request.base_values or job.base_values),
        "signals": json.dumps(request.signals),
        **_evidence_columns(decision.evidence),
        "neighbours_read": neighbours[0],
        "neighbours_other": neighbours[1],
        "memory_hit": memory_hit,
        "status": status,
        "hyper_return": None,
        "created_at": now,
    }


def _evidence_columns(evidence: Evidence | None) -> dict[str, bytes | None]:
    names = ("q_values", "known", "neighbour_ids", "neighbour_distances", "neighbour_values")
    if evidence is None:
        return dict.fromkeys(names)
    return {name: getattr(evidence, name).tobytes() for name in names}


def hyper_state_row(
    proposal_id: int, study_id: int, signature: str, features: Float[np.ndarray, " features"]
) -> dict[str, Any]:
    """A hyper-state as a row; not in the memory yet."""
    return {
        "proposal_id": proposal_id,
        "study_id": study_id,
        "layout_signature": signature,
        "features": features.tobytes(),
        "in_memory": False,
    }


ROW_BYTES = 300
"""Of a row of a proposal or report, with its place in the indexes, beside what varies."""


def proposal_bytes(
    job: JobState, request: ProposeMetadata, decision: Decision, answer: Answer
) -> int:
    """About what a proposal's row takes in the store; `recovery` counts the same."""
    evidence = decision.evidence
    arrays = 0 if evidence is None else evidence.q_values.nbytes + evidence.known.nbytes
    texts = sum(
        len(json.dumps(numbers)) if numbers else len("{}")
        for numbers in (request.signals, request.base_values or job.base_values)
    )
    return ROW_BYTES + len(answer.body) + arrays + texts


def report_row(
    job: JobState, report: Report, digest: bytes, response: bytes, status: str, *, now: float
) -> dict[str, Any]:
    """A report as a row, raw and with its answer."""
    return {
        "job_id": job.id,
        "sequence": report.sequence,
        "request_digest": digest,
        "body": report.model_dump_json(exclude=set(report.model_extra or ())),
        "response": response.decode(),
        "status": status,
        "created_at": now,
    }


def settled(what: str, job: JobState, sequence: int, **values: Any) -> Change:
    """The change of a proposal's or report's final status (`what` says which)."""
    where = {"where_job_id": job.id, "where_sequence": sequence}
    return Change(f"settle_{what}", {**where, **values})


def memory_changes(
    study_id: int,
    job: JobState,
    proposal: OpenProposal,
    outcome: Outcome,
    effect: MemoryEffect,
    evicted: dict[int, int],
    *,
    now: float,
) -> list[Change]:
    """The changes that make a memory write durable.

    Args:
        study_id: the study's number.
        job: whose proposal it was.
        proposal: that was credited.
        outcome: what was learned from.
        effect: what that changed in the memory.
        evicted: the proposals of the entries that went, by entry.
        now: seconds since the epoch.
    """
    changes = [
        Change("update_memory_value", {"where_id": entry, "value": value})
        for entry, value in effect.updated
    ]
    if effect.inserted_key is not None:
        entry = {
            "id": outcome.entry_id,
            "study_id": study_id,
            "layout_signature": job.signature,
            "proposal_id": proposal.proposal_id,
            "job_id": job.id,
            "hyper_action": outcome.hyper_action,
            "value": outcome.hyper_return,
            "hyper_reward": outcome.hyper_reward,
            "ends_episode": outcome.ends_episode,
            "env_step": proposal.env_step,
            "created_at": now,
            "evicted": False,
        }
        key = {
            "entry_id": outcome.entry_id,
            "encoder_version": effect.encoder_version,
            "key": effect.inserted_key.tobytes(),
        }
        changes += [
            Change("insert_memory_entry", entry),
            Change("insert_memory_key", key),
            _keep_hyper_state(proposal.proposal_id, in_memory=True),
        ]
    for evicted_entry, evicted_proposal in evicted.items():
        changes += [
            Change("evict_memory_entry", {"where_id": evicted_entry}),
            Change("delete_memory_keys", {"where_entry_id": evicted_entry}),
            _keep_hyper_state(evicted_proposal, in_memory=False),
        ]
    return changes


def state_changes(study_id: int, states: Mapping[str, bytes]) -> list[Change]:
    """The changes that make states of a hyper-agent durable; each takes its former's place."""
    changes = []
    for name, state in states.items():
        where = {"where_study_id": study_id, "where_name": name}
        row = {"study_id": study_id, "name": name, "state": state}
        changes += [
            Change("drop_hyper_agent_state", where),
            Change("insert_hyper_agent_state", row),
        ]
    return changes


def _keep_hyper_state(proposal_id: int, *, in_memory: bool) -> Change:
    return Change("keep_hyper_state", {"where_proposal_id": proposal_id, "in_memory": in_memory})


class Samples:
    """The proposals whose hyper-states a study keeps for training, by layout: the newest.

    A hyper-state is kept, too, while its proposal may still be credited and while it is in the
    memory; of the latter the ledger knows. They are thinned when there are twice as many as
    training takes, not at every proposal.

    Args:
        needed: how many of the newest training takes; positive.
    """

    def __init__(self, needed: int) -> None:
        self._needed = needed
        self._kept: dict[str, deque[int]] = {}

    def of(self, signature: str) -> Sequence[int]:
        """The kept ones of a layout, the earliest first."""
        return self._kept.get(signature, ())

    def restore(self, signature: str, proposals: Iterable[int]) -> None:
        """Take back the newest of a layout, from the ledger."""
        self._kept[signature] = deque(sorted(proposals), maxlen=2 * self._needed)

    def add(self, signature: str, proposal: int) -> bool:
        """Keep a proposal's; whether it is time to thin."""
        kept = self._kept.setdefault(signature, deque(maxlen=2 * self._needed))
        kept.append(proposal)
        return len(kept) == 2 * self._needed

    def thin(self, signature: str, open_proposals: Iterable[int]) -> int:
        """Keep the newest only.

        Args:
            signature: the layout's.
            open_proposals: those that may still be credited, in any order.

        Returns:
            The first proposal that is still needed; none before it is, but for the memory.
        """
        kept = self._kept[signature]
        while len(kept) > self._needed:
            kept.popleft()
        return min(kept[0], min(open_proposals, default=kept[0]))
