"""The inbox, positions in Kafka, and what each feed did by hour"""

import sqlalchemy as sa
from alembic import op

from core.store import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "inbox",
        sa.Column("inbox_sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("payload_id", sa.String(), nullable=False),
        sa.Column("feed", sa.String(), nullable=False),
        sa.Column("message_key", sa.String(), nullable=True),
        sa.Column("partition_key", sa.String(), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("arrived_at", UtcDateTime(), nullable=False),
        sa.Column("published_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["payload_id"], ["payloads.payload_id"]),
        sa.PrimaryKeyConstraint("inbox_sequence"),
        sa.UniqueConstraint("payload_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_inbox_message", "inbox", ["message_key"])
    op.create_index("ix_inbox_published", "inbox", ["published_at"])
    op.create_table(
        "kafka_positions",
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition"),
    )
    op.create_table(
        "feed_hours",
        sa.Column("source_id", sa.String(), nullable=False),
        sa.Column("feed", sa.String(), nullable=False),
        sa.Column("hour_at", UtcDateTime(), nullable=False),
        sa.Column("received", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("repeated", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("last_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "feed", "hour_at"),
    )
    # What arrived before there was an inbox keeps its order.
    op.execute(
        "insert into inbox (payload_id, feed, arrived_at) "
        "select payload_id, 'file', received_at from payloads order by received_at, payload_id"
    )


def downgrade() -> None:
    for table in ("feed_hours", "kafka_positions", "inbox"):
        op.drop_table(table)
