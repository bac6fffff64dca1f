"""The tables. Everything that happened is kept: revisions, their objects and the audit log only ever grow.

`head` has one row, and whoever changes anything locks it first: numbers are handed out under that lock, so they have no
gaps and a smaller number is never committed after a larger one (a sequence promises neither).
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    false,
    func,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

TIME = DateTime(timezone=True)
OPEN = "state IN ('running', 'paused', 'halted')"  # of a rollout: it may still move

revisions = Table(
    "revisions",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("parent", BigInteger, nullable=False),  # 0: there was none
    Column("digest", Text, nullable=False),  # the snapshot's version, equal in every process that compiles the revision
    Column("author", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("allow_shrink", Boolean, nullable=False, server_default=false()),
    Column("git_commit", Text, nullable=False, server_default=""),  # of the files' repository
)

bodies = Table(
    "bodies",
    metadata,
    Column("hash", Text, primary_key=True),  # SHA-256 of `body`, hexadecimal
    Column(
        "body", Text, nullable=False
    ),  # JSON; not jsonb, which would forget the order of keys (tiers are ranked by it)
)

objects = Table(
    "objects",
    metadata,
    Column("revision", BigInteger, ForeignKey("revisions.number"), primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("labels", Text, nullable=False),  # JSON
    Column("body_hash", Text, ForeignKey("bodies.hash"), nullable=False),
    Column("file", Text, nullable=False),
    Column("positions", Text, nullable=False),  # JSON: [[path, line, column], ...], paths relative to the body
    Column("ignored", Text, nullable=False, server_default="[]"),  # JSON: [[line, code], ...]
)

head = Table(
    "head",
    metadata,
    Column("id", SmallInteger, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column("keys_version", BigInteger, nullable=False, server_default="0"),
    Column("rollout_version", BigInteger, nullable=False, server_default="0"),  # counts changes of rollouts and freezes
    # the audit chain's end, so that cutting off its last rows is seen too
    Column("audit_number", BigInteger, nullable=False, server_default="0"),
    Column("audit_hash", LargeBinary, nullable=False, server_default=func.decode("", "hex")),
)

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", TIME, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("revision", BigInteger),
    Column("detail", Text, nullable=False),  # JSON
    Column("hash", LargeBinary, nullable=False),  # SHA-256(hash of the row before || canonical row)
)

consumers = Table(
    "consumers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=func.now()),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("consumer", Text, ForeignKey("consumers.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # HMAC-SHA-256 under a pepper that is not in this database
    Column("pepper_version", Integer, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", TIME, nullable=False, server_default=func.now()),
    Column("expires_at", TIME),
    Column("revoked_at", TIME),
    Column("last_used_at", TIME),
    Column("keys_version", BigInteger, nullable=False, index=True),  # head.keys_version of its last change
    Column("disabled_at", TIME),
    Column("allowed_ips", ARRAY(Text), nullable=False, server_default="{}"),  # CIDR ranges; none: from anywhere
    Column("labels", Text, nullable=False, server_default="{}"),  # JSON
    # The secret before a rotation, good until then.
    Column("previous_digest", LargeBinary),
    Column("previous_pepper_version", Integer),
    Column("previous_until", TIME),
)

admin_tokens = Table(
    "admin_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column(
        "role",
        Text,
        CheckConstraint("role IN ('viewer', 'registrar', 'author', 'operator', 'admin')", name="role"),
        nullable=False,
    ),
    Column("digest", LargeBinary, nullable=False),  # SHA-256: the token is 256 random bits, there is nothing to guess
    Column("created_at", TIME, nullable=False, server_default=func.now()),
    Column("expires_at", TIME),
    Column("revoked_at", TIME),
    Column("owner", Text),  # whose objects an author applies
    Index("uq_admin_tokens_digest", "digest", unique=True),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("service", Text, primary_key=True),
    Column("instance", Text, primary_key=True),
    Column("address", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("zone", Text),
    Column("priority", Integer, nullable=False),
    Column(
        "state", Text, CheckConstraint("state IN ('healthy', 'unhealthy', 'draining')", name="state"), nullable=False
    ),
    Column("labels", Text, nullable=False),  # JSON
    Column("owner", Text, nullable=False),
    Column("ttl", Float),  # seconds; null: until deregistered
    Column("registered_at", TIME, nullable=False, server_default=func.now()),
    Column("expires_at", TIME, index=True),
)

# Not in `head`: whoever changes a revision and whoever registers must not wait for each other. No row at first.
endpoints_version = Table(
    "endpoints_version",
    metadata,
    Column("id", SmallInteger, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("revision", BigInteger, ForeignKey("revisions.number"), primary_key=True, autoincrement=False),
    Column("base", BigInteger, nullable=False),  # what nodes have that no wave has taken
    Column(
        "state",
        Text,
        CheckConstraint(
            "state IN ('running', 'paused', 'halted', 'done', 'rolled_back', 'aborted', 'superseded')", name="state"
        ),
        nullable=False,
    ),
    Column("wave", Integer, nullable=False, server_default="-1"),  # the newest that was started; -1: none
    Column("members", Text, nullable=False, server_default="[]"),  # JSON: node ids, a list for each started wave
    Column("excused", Text, nullable=False, server_default="[]"),  # JSON: node ids that no longer halt it
    Column("wave_at", TIME, nullable=False),  # since when the current wave, or the wait for the first one, lasts
    Column("acked_at", TIME),  # since when all of the current wave have it
    Column("reason", Text, nullable=False, server_default=""),
    Column("events", Text, nullable=False, server_default="[]"),  # JSON: {at, what, who, ...}, only ever appended
    Index("uq_rollouts_open", text("(1)"), unique=True, postgresql_where=text(OPEN)),
)

# A row exists while rollouts are frozen.
freezes = Table(
    "freezes",
    metadata,
    Column("id", SmallInteger, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", TIME, nullable=False),
)

# What control planes see of the fleet. It is no history: rows of what is gone are deleted.
replicas = Table(
    "replicas",
    metadata,
    Column("id", Text, primary_key=True),
    Column("since", TIME, nullable=False),  # it has been heard from without a gap since then
    Column("seen_at", TIME, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("replica", Text, ForeignKey("replicas.id", ondelete="CASCADE"), primary_key=True),
    Column("node", Text, primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("labels", Text, nullable=False),  # JSON
    Column("region", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("connected", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),  # that it has in full; 0: none that is known
    Column("rejected", BigInteger, nullable=False),  # of which it refused something; 0: none
    Column("nack", Text, nullable=False),  # JSON: {type, version, message, names}, or null
    Column("seen_at", TIME, nullable=False),  # since when the row is as it is
)

# What requests came to, by slices of ten seconds; a day of them is kept. `bins`, `counts`: see db.histogram.
traffic = Table(
    "traffic",
    metadata,
    Column("at", TIME, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("tier", Text, primary_key=True),
    Column("source", Text, primary_key=True),  # the process that counted
    Column("success", Integer, nullable=False),
    Column("redirect", Integer, nullable=False),
    Column("client_error", Integer, nullable=False),
    Column("limited", Integer, nullable=False),  # 429
    Column("upstream_error", Integer, nullable=False),  # 5xx
    Column("gateway_error", Integer, nullable=False),  # 5xx that Envoy answers itself
    Column("gone", Integer, nullable=False),  # the client left before the answer
    Column("bins", ARRAY(Integer), nullable=False),
    Column("counts", ARRAY(Integer), nullable=False),
)
