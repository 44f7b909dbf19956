"""Tables of the ops database for what arrives live: the inbox, how far Kafka was read, and what each feed did by hour."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from core.store import Base, row_number, utc_now


class InboxEntry(Base):
    """One row per payload in the order of arrival, files and live messages alike: ``inbox_sequence`` decides between two
    facts told at the same time. A live message's bytes are here, sealed; a file's are in the archive folder."""

    __tablename__ = "inbox"
    inbox_sequence: Mapped[int] = row_number()
    payload_id: Mapped[str] = mapped_column(ForeignKey("payloads.payload_id"), unique=True)
    feed: Mapped[str]  # file | mllp | http | kafka: how it came in
    message_key: Mapped[str | None]  # pseudonym of (MSH-3, MSH-4, MSH-10): the message's identity, `record_key` in the lake
    partition_key: Mapped[str | None]  # pseudonym of the person: one person's messages stay in order on Kafka
    content: Mapped[bytes | None] = mapped_column(LargeBinary)  # sealed under CUFF_ARCHIVE_KEY, context payload_id
    arrived_at: Mapped[datetime] = mapped_column(default=utc_now)
    published_at: Mapped[datetime | None]  # when the relay was done with it: Kafka has it, or it had landed without
    __table_args__ = (Index("ix_inbox_message", "message_key"), {"sqlite_autoincrement": True})


# What the relay still owes to Kafka, found among millions; in files and in their rows it has no part.
IS_OWED = text("published_at is null and feed <> 'file'")
Index("ix_inbox_owed", InboxEntry.inbox_sequence, sqlite_where=IS_OWED, postgresql_where=IS_OWED)


class KafkaPosition(Base):
    """The next offset to read of one partition; moved in the same transaction as the ledger."""

    __tablename__ = "kafka_positions"
    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True)
    next_offset: Mapped[int] = mapped_column(BigInteger())
    moved_at: Mapped[datetime] = mapped_column(default=utc_now)


class FeedHour(Base):
    """What one source sent on one feed in one hour (UTC); history from which the expected rate is learned."""

    __tablename__ = "feed_hours"
    source_id: Mapped[str] = mapped_column(primary_key=True)
    feed: Mapped[str] = mapped_column(primary_key=True)
    hour_at: Mapped[datetime] = mapped_column(primary_key=True)
    received: Mapped[int] = mapped_column(default=0)  # every delivery, repeats among them
    accepted: Mapped[int] = mapped_column(default=0)  # acknowledged AA and new
    repeated: Mapped[int] = mapped_column(default=0)  # acknowledged AA again
    refused: Mapped[int] = mapped_column(default=0)  # AE or AR
    last_at: Mapped[datetime]
