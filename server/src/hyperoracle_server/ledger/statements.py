"""The changes that the oracle makes to the ledger, by name.

A change is a name from `ORDER` and its parameters. Within one transaction changes are run in the
order of this module: rows are inserted before they are updated, and deleted last (but for rows
that others take the place of); among changes of the same name the order of submission is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.sql.base import Executable

from hyperoracle_server.ledger import schema as t

Row = dict[str, Any]


class Change(NamedTuple):
    """One change.

    Attributes:
        name: from `ORDER`.
        parameters: its statement's, or a function that makes them when the change is written, in
            the writing thread: it must lean on nothing that changes.
    """

    name: str
    parameters: Row | Callable[[], Row]


def _by(column: Any) -> Any:
    return column == bindparam(f"where_{column.name}")


STATEMENTS: dict[str, Executable] = {
    "insert_study": insert(t.studies),
    "insert_token": insert(t.tokens),
    "insert_job": insert(t.jobs),
    "insert_proposal": insert(t.proposals),
    "insert_hyper_state": insert(t.hyper_states),
    "insert_report": insert(t.reports),
    "insert_encoder_version": insert(t.encoder_versions),
    "insert_memory_entry": insert(t.memory_entries),
    "insert_memory_key": insert(t.memory_keys),
    # Before the insertion: a state takes the place of the former one.
    "drop_hyper_agent_state": delete(t.hyper_agent_states).where(
        _by(t.hyper_agent_states.c.study_id), _by(t.hyper_agent_states.c.name)
    ),
    "insert_hyper_agent_state": insert(t.hyper_agent_states),
    "update_job": update(t.jobs)
    .where(_by(t.jobs.c.id))
    .values(
        last_seen_at=bindparam("last_seen_at"),
        status=bindparam("status"),
        finish_reason=bindparam("finish_reason"),
        env_step=bindparam("env_step"),
        last_return=bindparam("last_return"),
        credit_state=bindparam("credit_state"),
        held_decision=bindparam("held_decision"),
        hyper_agent_notes=bindparam("hyper_agent_notes"),
        learning_curve=bindparam("learning_curve"),
        counts=bindparam("counts"),
        counted_through=bindparam("counted_through"),
    ),
    "revoke_token": update(t.tokens)
    .where(_by(t.tokens.c.id))
    .values(revoked_at=bindparam("revoked_at")),
    "settle_proposal": update(t.proposals)
    .where(_by(t.proposals.c.job_id), _by(t.proposals.c.sequence))
    .values(status=bindparam("status"), hyper_return=bindparam("hyper_return")),
    "settle_report": update(t.reports)
    .where(_by(t.reports.c.job_id), _by(t.reports.c.sequence))
    .values(status=bindparam("status")),
    "update_memory_value": update(t.memory_entries)
    .where(_by(t.memory_entries.c.id))
    .values(value=bindparam("value")),
    "keep_hyper_state": update(t.hyper_states)
    .where(_by(t.hyper_states.c.proposal_id))
    .values(in_memory=bindparam("in_memory")),
    "evict_memory_entry": update(t.memory_entries)
    .where(_by(t.memory_entries.c.id))
    .values(evicted=True),
    "delete_memory_keys": delete(t.memory_keys).where(_by(t.memory_keys.c.entry_id)),
    "delete_old_memory_key": delete(t.memory_keys).where(
        _by(t.memory_keys.c.entry_id), t.memory_keys.c.encoder_version < bindparam("below")
    ),
    "delete_old_encoder_versions": delete(t.encoder_versions).where(
        _by(t.encoder_versions.c.study_id),
        _by(t.encoder_versions.c.layout_signature),
        t.encoder_versions.c.version < bindparam("below"),
    ),
    "thin_hyper_states": delete(t.hyper_states).where(
        _by(t.hyper_states.c.study_id),
        _by(t.hyper_states.c.layout_signature),
        t.hyper_states.c.in_memory.is_(False),
        t.hyper_states.c.proposal_id < bindparam("below"),
    ),
}

ORDER = {name: position for position, name in enumerate(STATEMENTS)}

LAST_WINS = {"update_job": ("where_id",), "insert_hyper_agent_state": ("study_id", "name")}
"""Of these changes only the last per key in a transaction is run; the key's parameters."""


def deletion_of(study_id: int) -> Callable[[Connection], None]:
    """The transaction that deletes a study with everything that belongs to it."""
    job_ids = select(t.jobs.c.id).where(t.jobs.c.study_id == study_id)
    entries = select(t.memory_entries.c.id).where(t.memory_entries.c.study_id == study_id)

    def transaction(connection: Connection) -> None:
        connection.execute(delete(t.memory_keys).where(t.memory_keys.c.entry_id.in_(entries)))
        for table in (t.proposals, t.reports):
            connection.execute(delete(table).where(table.c.job_id.in_(job_ids)))
        for table in (t.memory_entries, t.hyper_states, t.encoder_versions, t.hyper_agent_states,
                      t.jobs):  # fmt: skip
            connection.execute(delete(table).where(table.c.study_id == study_id))
        connection.execute(delete(t.studies).where(t.studies.c.id == study_id))

    return transaction
