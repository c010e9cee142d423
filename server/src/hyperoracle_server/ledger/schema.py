"""The ledger's tables: the source of truth for everything that the oracle remembers.

Times are seconds since the epoch, UTC. Identifiers of proposals and memory entries are assigned
by the oracle in increasing order. Blobs are little-endian arrays.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite gives 64-bit row ids only to the type INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")

studies = Table(
    "studies",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("name", String(128), nullable=False, unique=True),
    Column("definition", Text, nullable=False),  # JSON, StudyDefinition
    Column("seed", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("token_id", String(64), nullable=True),  # whose quota counts it; null: nobody's
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("public_id", String(64), nullable=False, unique=True),
    Column("study_id", _Id, nullable=False, index=True),
    Column("job_key", String(128), nullable=True),
    Column("role", String(16), nullable=False),
    Column("layout", Text, nullable=False),  # JSON, HyperStateLayout
    Column("total_env_steps", BigInteger, nullable=False),
    Column("base_values", Text, nullable=False),  # JSON
    Column("metadata", Text, nullable=False),  # JSON
    Column("created_at", Float, nullable=False),
    Column("last_seen_at", Float, nullable=False),
    Column("status", String(16), nullable=False),  # running | finished
    Column("finish_reason", String(16), nullable=True),
    Column("env_step", BigInteger, nullable=False),
    Column("last_return", Float, nullable=True),
    Column("credit_state", Text, nullable=False),  # JSON, CreditBook.dump()
    Column("held_decision", Text, nullable=True),  # JSON, Held.dump()
    Column("hyper_agent_notes", Text, nullable=True),  # JSON, HyperAgent.notes()
    Column("learning_curve", Text, nullable=True),  # JSON, LearningCurve.dump()
    Column("chance_number", BigInteger, nullable=True),  # null before revision 0006: its id
    Column("counts", Text, nullable=True),  # JSON, Counts; null: count its proposals and reports
    Column("counted_through", BigInteger, nullable=True),  # id of the newest proposal in `counts`
    Column("token_id", String(64), nullable=True),  # whose quota counts it; null: nobody's
    UniqueConstraint("study_id", "job_key"),
)

proposals = Table(
    "proposals",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("job_id", _Id, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("request_digest", LargeBinary, nullable=False),
    Column("response", Text, nullable=False),  # JSON, Proposal
    Column("update_step", BigInteger, nullable=False),
    Column("env_step", BigInteger, nullable=False),
    Column("hyper_action", Integer, nullable=False),
    Column("explored", Boolean, nullable=False),
    Column("epsilon", Float, nullable=False),
    Column("propensity", Float, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("role", String(16), nullable=False),
    Column("strategy", String(32), nullable=False),
    Column("encoder_version", Integer, nullable=True),
    Column("memory_revision", BigInteger, nullable=False),
    Column("base_values", Text, nullable=False),  # JSON
    Column("signals", Text, nullable=False),  # JSON
    Column("q_values", LargeBinary, nullable=True),  # float64[actions]
    Column("known", LargeBinary, nullable=True),  # bool[actions]
    Column("neighbour_ids", LargeBinary, nullable=True),  # int64[k], of the chosen hyper-action
    Column("neighbour_distances", LargeBinary, nullable=True),  # float64[k]
    Column("neighbour_values", LargeBinary, nullable=True),  # float64[k]
    Column("neighbours_read", Integer, nullable=False),
    Column("neighbours_other", Integer, nullable=False),
    Column("status", String(16), nullable=False),  # open|credited|not_applied|settled|held
    Column("hyper_return", Float, nullable=True),
    Column("created_at", Float, nullable=False),
    Column("memory_hit", Boolean, nullable=True),  # whether it knew anything; null: not read
    UniqueConstraint("job_id", "sequence"),
)
Index("proposals_open", proposals.c.job_id, sqlite_where=proposals.c.status == "open",
      postgresql_where=proposals.c.status == "open")  # fmt: skip

hyper_states = Table(
    "hyper_states",
    metadata,
    Column("proposal_id", _Id, primary_key=True, autoincrement=False),
    Column("study_id", _Id, nullable=False),
    Column("layout_signature", String(16), nullable=False),
    Column("features", LargeBinary, nullable=False),  # float16[features], or float32
    Column("in_memory", Boolean, nullable=False),
)
Index("hyper_states_by_layout", hyper_states.c.study_id, hyper_states.c.layout_signature,
      hyper_states.c.in_memory, hyper_states.c.proposal_id)  # fmt: skip

reports = Table(
    "reports",
    metadata,
    Column("job_id", _Id, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("request_digest", LargeBinary, nullable=False),
    Column("body", Text, nullable=False),  # JSON, Report
    Column("response", Text, nullable=False),  # JSON, Receipt
    Column("status", String(16), nullable=False),  # applied | waiting | late
    Column("created_at", Float, nullable=False),
)
Index("reports_waiting", reports.c.job_id, sqlite_where=reports.c.status == "waiting",
      postgresql_where=reports.c.status == "waiting")  # fmt: skip

memory_entries = Table(
    "memory_entries",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("study_id", _Id, nullable=False),
    Column("layout_signature", String(16), nullable=False),
    Column("proposal_id", _Id, nullable=False),
    Column("job_id", _Id, nullable=False),
    Column("hyper_action", Integer, nullable=False),
    Column("value", Float, nullable=False),
    Column("hyper_reward", Float, nullable=True),  # null in entries of before revision 0004
    Column("ends_episode", Boolean, nullable=True),  # of its learning episode; null likewise
    Column("env_step", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("evicted", Boolean, nullable=False),
)
Index("memory_entries_live", memory_entries.c.study_id, memory_entries.c.evicted,
      memory_entries.c.id)  # fmt: skip

memory_keys = Table(
    "memory_keys",
    metadata,
    Column("entry_id", _Id, primary_key=True, autoincrement=False),
    Column("encoder_version", Integer, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False),  # float32[key_size]
)

encoder_versions = Table(
    "encoder_versions",
    metadata,
    Column("study_id", _Id, primary_key=True, autoincrement=False),
    Column("layout_signature", String(16), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("state", LargeBinary, nullable=False),  # safetensors: weights, optimiser, moments
    Column("report", Text, nullable=False),  # JSON: losses of the training round
    Column("samples_through", _Id, nullable=False),  # newest proposal id that it was trained on
    Column("published_at", Float, nullable=False),
)

hyper_agent_states = Table(
    "hyper_agent_states",
    metadata,
    Column("study_id", _Id, primary_key=True, autoincrement=False),
    Column("name", String(128), primary_key=True),
    Column("state", LargeBinary, nullable=False),  # HyperAgent.changed_states(): safetensors
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("scope", String(16), nullable=False),  # read | train | admin
    Column("studies", Text, nullable=False),  # JSON, patterns of names
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the token, which is kept nowhere
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=True),
    Column("revoked_at", Float, nullable=True),
)
