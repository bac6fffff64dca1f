"""Revisions remember whether their author meant them to take much away."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE revisions ADD COLUMN allow_shrink BOOLEAN NOT NULL DEFAULT false")
