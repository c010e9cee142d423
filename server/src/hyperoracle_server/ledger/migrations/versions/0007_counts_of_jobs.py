"""What a job's proposals and reports add up to, so that a start need not read all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.add_column("jobs", sa.Column("counts", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("counted_through", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Undo this revision."""
    op.drop_column("jobs", "counted_through")
    op.drop_column("jobs", "counts")
