"""The commit that a revision was applied from; more roles of tokens, and the owner that an author applies for."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE revisions ADD COLUMN git_commit TEXT NOT NULL DEFAULT '';
ALTER TABLE admin_tokens ADD COLUMN owner TEXT;
ALTER TABLE admin_tokens DROP CONSTRAINT ck_admin_tokens_role;
ALTER TABLE admin_tokens ADD CONSTRAINT ck_admin_tokens_role
    CHECK (role IN ('viewer', 'registrar', 'author', 'operator', 'admin'));
"""


def upgrade() -> None:
    op.execute(COLUMNS)
