"""The first schema: revisions, audit chain, consumers and keys, admin tokens."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE revisions (
    number BIGINT NOT NULL CONSTRAINT pk_revisions PRIMARY KEY,
    parent BIGINT NOT NULL,
    digest TEXT NOT NULL,
    author TEXT NOT NULL,
    message TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE bodies (
    hash TEXT NOT NULL CONSTRAINT pk_bodies PRIMARY KEY,
    body TEXT NOT NULL
);
CREATE TABLE objects (
    revision BIGINT NOT NULL CONSTRAINT fk_objects_revision REFERENCES revisions (number),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    labels TEXT NOT NULL,
    body_hash TEXT NOT NULL CONSTRAINT fk_objects_body_hash REFERENCES bodies (hash),
    file TEXT NOT NULL,
    positions TEXT NOT NULL,
    CONSTRAINT pk_objects PRIMARY KEY (revision, kind, name)
);
CREATE TABLE head (
    id SMALLINT NOT NULL CONSTRAINT pk_head PRIMARY KEY CONSTRAINT ck_head_one_row CHECK (id = 1),
    revision BIGINT NOT NULL DEFAULT 0,
    keys_version BIGINT NOT NULL DEFAULT 0,
    audit_number BIGINT NOT NULL DEFAULT 0,
    audit_hash BYTEA NOT NULL DEFAULT ''
);
INSERT INTO head (id) VALUES (1);
CREATE TABLE audit (
    number BIGINT NOT NULL CONSTRAINT pk_audit PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    revision BIGINT,
    detail TEXT NOT NULL,
    hash BYTEA NOT NULL
);
CREATE TABLE consumers (
    id TEXT NOT NULL CONSTRAINT pk_consumers PRIMARY KEY,
    name TEXT NOT NULL,
    tier TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE TABLE api_keys (
    id TEXT NOT NULL CONSTRAINT pk_api_keys PRIMARY KEY,
    consumer TEXT NOT NULL CONSTRAINT fk_api_keys_consumer REFERENCES consumers (id),
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    digest BYTEA NOT NULL,
    pepper_version INTEGER NOT NULL,
    scopes TEXT[] NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    keys_version BIGINT NOT NULL
);
CREATE INDEX ix_api_keys_consumer ON api_keys (consumer);
CREATE INDEX ix_api_keys_keys_version ON api_keys (keys_version);
CREATE TABLE admin_tokens (
    id TEXT NOT NULL CONSTRAINT pk_admin_tokens PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL CONSTRAINT ck_admin_tokens_role CHECK (role IN ('admin', 'viewer')),
    digest BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ
);
CREATE UNIQUE INDEX uq_admin_tokens_digest ON admin_tokens (digest);
"""

# History is only ever added to; not even the program's own mistakes may change it.
APPEND_ONLY = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: it is append-only', TG_OP, TG_TABLE_NAME;
END
$$;
"""
HISTORY = ("audit", "revisions", "objects", "bodies")


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(APPEND_ONLY)
    for table in HISTORY:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
