"""Objects remember which warnings the comments of their file accept."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE objects ADD COLUMN ignored TEXT NOT NULL DEFAULT '[]'")
