"""Which token's quota counts a study or a job; nobody's of those that there are already."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    for table in ("studies", "jobs"):
        op.add_column(table, sa.Column("token_id", sa.String(64), nullable=True))


def downgrade() -> None:
    """Undo this revision."""
    for table in ("jobs", "studies"):
        op.drop_column(table, "token_id")
