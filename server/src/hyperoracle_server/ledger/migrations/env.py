"""Alembic's environment: it is handed the connection to migrate."""

from alembic import context

from hyperoracle_server.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
