"""Alembic's entry: one transaction over one connection, described by libpq's environment variables."""

from alembic import context
from sqlalchemy import create_engine, pool

with create_engine("postgresql+psycopg://", poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection, version_table="clickstream_schema_version")
    with context.begin_transaction():
        # Two `up` at once: the second waits, then finds nothing to do.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('clickstream migrations'))")
        context.run_migrations()
