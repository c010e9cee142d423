"""Learning curves of jobs, and whether the memory knew anything at a proposal."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision; of jobs and proposals that are there it stays unknown."""
    op.add_column("jobs", sa.Column("learning_curve", sa.Text(), nullable=True))
    op.add_column("proposals", sa.Column("memory_hit", sa.Boolean(), nullable=True))


def downgrade() -> None:
    """Undo this revision."""
    op.drop_column("proposals", "memory_hit")
    op.drop_column("jobs", "learning_curve")
