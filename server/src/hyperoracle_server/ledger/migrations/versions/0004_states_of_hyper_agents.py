"""States that a hyper-agent learned, and the hyper-rewards of memory entries."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "hyper_agent_states",
        sa.Column(
            "study_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("study_id", "name"),
    )
    op.add_column("memory_entries", sa.Column("hyper_reward", sa.Float(), nullable=True))
    op.add_column("memory_entries", sa.Column("ends_episode", sa.Boolean(), nullable=True))


def downgrade() -> None:
    """Undo this revision."""
    op.drop_column("memory_entries", "ends_episode")
    op.drop_column("memory_entries", "hyper_reward")
    op.drop_table("hyper_agent_states")
