"""What a job's chance is numbered by, apart from its id: a restored job keeps it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.add_column("jobs", sa.Column("chance_number", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Undo this revision."""
    op.drop_column("jobs", "chance_number")
