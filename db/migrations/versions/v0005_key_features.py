"""API keys: where callers must be, labels, being disabled for a while, and the secret before a rotation."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE api_keys
    ADD COLUMN disabled_at TIMESTAMPTZ,
    ADD COLUMN allowed_ips TEXT[] NOT NULL DEFAULT '{}',
    ADD COLUMN labels TEXT NOT NULL DEFAULT '{}',
    ADD COLUMN previous_digest BYTEA,
    ADD COLUMN previous_pepper_version INTEGER,
    ADD COLUMN previous_until TIMESTAMPTZ
"""


def upgrade() -> None:
    op.execute(COLUMNS)
