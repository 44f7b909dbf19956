"""Indexes for the many batches of a live feed: those that died, and the payloads of one"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    unfinished = sa.text("finished_at is null")
    op.create_index("ix_batches_unfinished", "batches", ["batch_id"], sqlite_where=unfinished, postgresql_where=unfinished)
    op.create_index("ix_payloads_batch", "payloads", ["batch_id"])


def downgrade() -> None:
    op.drop_index("ix_payloads_batch", "payloads")
    op.drop_index("ix_batches_unfinished", "batches")
