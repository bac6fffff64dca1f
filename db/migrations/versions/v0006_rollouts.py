"""Rollouts, freezes, and what control planes see of the fleet."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE head ADD COLUMN rollout_version BIGINT NOT NULL DEFAULT 0;
CREATE TABLE rollouts (
    revision BIGINT NOT NULL CONSTRAINT pk_rollouts PRIMARY KEY
        CONSTRAINT fk_rollouts_revision REFERENCES revisions (number),
    base BIGINT NOT NULL,
    state TEXT NOT NULL CONSTRAINT ck_rollouts_state CHECK (
        state IN ('running', 'paused', 'halted', 'done', 'rolled_back', 'aborted', 'superseded')
    ),
    wave INTEGER NOT NULL DEFAULT -1,
    members TEXT NOT NULL DEFAULT '[]',
    excused TEXT NOT NULL DEFAULT '[]',
    wave_at TIMESTAMPTZ NOT NULL,
    acked_at TIMESTAMPTZ,
    reason TEXT NOT NULL DEFAULT '',
    events TEXT NOT NULL DEFAULT '[]'
);
CREATE UNIQUE INDEX uq_rollouts_open ON rollouts ((1)) WHERE state IN ('running', 'paused', 'halted');
CREATE TABLE freezes (
    id SMALLINT NOT NULL CONSTRAINT pk_freezes PRIMARY KEY CONSTRAINT ck_freezes_one_row CHECK (id = 1),
    reason TEXT NOT NULL,
    by TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL
);
CREATE TABLE replicas (
    id TEXT NOT NULL CONSTRAINT pk_replicas PRIMARY KEY,
    since TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE nodes (
    replica TEXT NOT NULL CONSTRAINT fk_nodes_replica REFERENCES replicas (id) ON DELETE CASCADE,
    node TEXT NOT NULL,
    cluster TEXT NOT NULL,
    labels TEXT NOT NULL,
    region TEXT NOT NULL,
    zone TEXT NOT NULL,
    connected BOOLEAN NOT NULL,
    revision BIGINT NOT NULL,
    rejected BIGINT NOT NULL,
    nack TEXT NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT pk_nodes PRIMARY KEY (replica, node)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
