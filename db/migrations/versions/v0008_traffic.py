"""What the requests of nodes came to."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE traffic (
    at TIMESTAMPTZ NOT NULL,
    source TEXT NOT NULL,
    node TEXT NOT NULL,
    route TEXT NOT NULL,
    tier TEXT NOT NULL,
    success INTEGER NOT NULL,
    redirect INTEGER NOT NULL,
    client_error INTEGER NOT NULL,
    limited INTEGER NOT NULL,
    upstream_error INTEGER NOT NULL,
    gateway_error INTEGER NOT NULL,
    gone INTEGER NOT NULL,
    bins INTEGER[] NOT NULL,
    counts INTEGER[] NOT NULL,
    CONSTRAINT pk_traffic PRIMARY KEY (at, node, route, tier, source)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
