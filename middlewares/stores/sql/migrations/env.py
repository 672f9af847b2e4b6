"""What Alembic runs to migrate: on the connection it is given, in the transaction it is in."""

from alembic import context

from middlewares.stores.sql.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
