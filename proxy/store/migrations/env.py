"""Run by Alembic: the migrations go over the connection, and in the transaction, that `upgrade` was given."""

from alembic import context

from proxy.store.statements.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
