"""No statistics of excerpts: nothing is planned by them, and those of a table that is empty again would stay.

ANALYZE leaves the values that it took before where it finds no row, so that they would outlive an erasure.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("ALTER TABLE ledger.rejections ALTER COLUMN excerpt SET STATISTICS 0")


def downgrade() -> None:
    """Undo."""
    op.execute("ALTER TABLE ledger.rejections ALTER COLUMN excerpt SET STATISTICS -1")
