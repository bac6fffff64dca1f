"""What alembic runs: `db.migrate` hands the connection over, with its transaction and its lock."""

from alembic import context

from db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
