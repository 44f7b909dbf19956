"""What the relay still owes to Kafka: entries of the inbox, and rejects as dead letters"""

import sqlalchemy as sa
from alembic import op

from core.store import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_inbox_published", "inbox")  # it led through every file, none of which is ever published
    live = sa.text("published_at is null and feed <> 'file'")
    op.create_index("ix_inbox_owed", "inbox", ["inbox_sequence"], sqlite_where=live, postgresql_where=live)
    op.add_column("quarantine", sa.Column("published_at", UtcDateTime(), nullable=True))
    # What was quarantined before there was a live door came out of files: nobody is owed a dead letter.
    op.execute("update quarantine set published_at = quarantined_at")
    owed = sa.text("published_at is null")
    op.create_index("ix_quarantine_owed", "quarantine", ["quarantined_at"], sqlite_where=owed, postgresql_where=owed)


def downgrade() -> None:
    op.drop_index("ix_quarantine_owed", "quarantine")
    op.drop_column("quarantine", "published_at")
    op.drop_index("ix_inbox_owed", "inbox")
    op.create_index("ix_inbox_published", "inbox", ["published_at"])
