"""Alembic environment of the ops database: runs on the connection `core.migrating.migrate` hands over."""

from alembic import context

import core.feed_tables
import core.serving_tables  # noqa: F401  (their tables belong to the metadata)
from core.store import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
