"""Endpoints of services, as their instances register them."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE endpoints (
    service TEXT NOT NULL,
    instance TEXT NOT NULL,
    address TEXT NOT NULL,
    port INTEGER NOT NULL,
    weight INTEGER NOT NULL,
    zone TEXT,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL CONSTRAINT ck_endpoints_state CHECK (state IN ('healthy', 'unhealthy', 'draining')),
    labels TEXT NOT NULL,
    owner TEXT NOT NULL,
    ttl DOUBLE PRECISION,
    registered_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ,
    CONSTRAINT pk_endpoints PRIMARY KEY (service, instance)
);
CREATE INDEX ix_endpoints_expires_at ON endpoints (expires_at);
CREATE TABLE endpoints_version (
    id SMALLINT NOT NULL CONSTRAINT pk_endpoints_version PRIMARY KEY
        CONSTRAINT ck_endpoints_version_one_row CHECK (id = 1),
    version BIGINT NOT NULL
);
"""


def upgrade() -> None:
    op.execute(TABLES)
