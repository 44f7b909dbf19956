"""The ops database: what was received, published, decided and seen. SQLAlchemy 2, migrated by Alembic.

Ours alone; Airflow's metadata database is never touched from a task. No column here holds a patient's name, number,
address or note text: file names, which hospitals like to make from patients' names, are sealed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    create_engine,
    event,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from core.migrating import migrate
from core.settings import Settings


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes in and out, also on SQLite, which forgets time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utc_now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {datetime: UtcDateTime, dict[str, Any]: JSON, list[Any]: JSON}


def row_number() -> Mapped[int]:
    """A primary key that counts rows and is not outgrown: 64 bits, on SQLite its own row number."""
    return mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


class Batch(Base):
    """One run of landing: a set of payloads that reached the lake together."""

    __tablename__ = "batches"
    batch_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    as_of: Mapped[date]
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]


# A feed makes tens of thousands of batches a day; what died among them is asked for by each.
Index("ix_batches_unfinished", Batch.batch_id, sqlite_where=Batch.finished_at.is_(None),
      postgresql_where=Batch.finished_at.is_(None))  # fmt: skip


class Payload(Base):
    """One thing a hospital handed over (a file, a message): archived before anything else happens to it."""

    __tablename__ = "payloads"
    payload_id: Mapped[str] = mapped_column(primary_key=True)  # SHA-256 of the bytes, hex
    source_id: Mapped[str]
    format: Mapped[str]  # fhir | hl7v2 | unknown
    name_sealed: Mapped[bytes] = mapped_column(LargeBinary)
    size_bytes: Mapped[int]
    archive_name: Mapped[str]
    as_of: Mapped[date]
    received_at: Mapped[datetime] = mapped_column(default=utc_now)
    state: Mapped[str] = mapped_column(default="received")  # received | landed | quarantined
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("batches.batch_id"))
    __table_args__ = (Index("ix_payloads_state", "state"), Index("ix_payloads_batch", "batch_id"))


class Quarantine(Base):
    """What could not be used, with the reason and the place; the bytes are in the archive."""

    __tablename__ = "quarantine"
    quarantine_id: Mapped[str] = mapped_column(primary_key=True)
    payload_id: Mapped[str] = mapped_column(ForeignKey("payloads.payload_id"))
    source_id: Mapped[str]
    unit: Mapped[str]  # file | resource | message
    type: Mapped[str]
    locator: Mapped[str]
    reason_code: Mapped[str]
    detail: Mapped[str] = mapped_column(default="")  # never a patient's value
    state: Mapped[str] = mapped_column(default="open")  # open | replayed
    quarantined_at: Mapped[datetime] = mapped_column(default=utc_now)
    resolved_at: Mapped[datetime | None]
    published_at: Mapped[datetime | None]  # when the relay was done with it: it is a dead letter, or of a file
    __table_args__ = (Index("ix_quarantine_state", "state", "reason_code"),)


Index("ix_quarantine_owed", Quarantine.quarantined_at, sqlite_where=Quarantine.published_at.is_(None),
      postgresql_where=Quarantine.published_at.is_(None))  # fmt: skip


class LedgerEntry(Base):
    """Counts of one payload by unit and type. A replay adds an entry that moves a count out of quarantine."""

    __tablename__ = "ledger"
    ledger_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    payload_id: Mapped[str]
    batch_id: Mapped[int | None]
    source_id: Mapped[str]
    unit: Mapped[str]
    type: Mapped[str]
    received: Mapped[int] = mapped_column(default=0)
    accepted: Mapped[int] = mapped_column(default=0)
    duplicate: Mapped[int] = mapped_column(default=0)
    ignored: Mapped[int] = mapped_column(default=0)
    quarantined: Mapped[int] = mapped_column(default=0)
    entered_at: Mapped[datetime] = mapped_column(default=utc_now)
    __table_args__ = (
        CheckConstraint("received = accepted + duplicate + ignored + quarantined", name="ledger_balances"),
        Index("ix_ledger_payload", "payload_id"),
    )


class Build(Base):
    """One build of the warehouse, from dbt's first model to publication or failure."""

    __tablename__ = "builds"
    build_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    as_of: Mapped[date]
    since_batch_id: Mapped[int]  # newest batch that the published build already holds
    through_batch_id: Mapped[int]  # newest batch this build holds
    state: Mapped[str] = mapped_column(default="building")  # building | built | published | failed
    clinical_snapshot: Mapped[int | None]
    analytics_snapshot: Mapped[int | None]
    manifest_hash: Mapped[str | None]
    failure: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]


class Publication(Base):
    """Append-only; the newest row is what every reader sees. A rollback is a new row naming an older build."""

    __tablename__ = "publications"
    publication_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    build_id: Mapped[int] = mapped_column(ForeignKey("builds.build_id"))
    clinical_snapshot: Mapped[int]
    analytics_snapshot: Mapped[int]
    as_of: Mapped[date]
    action: Mapped[str]  # publish | rollback
    actor: Mapped[str]
    why: Mapped[str] = mapped_column(default="")
    published_at: Mapped[datetime] = mapped_column(default=utc_now)


class GateResult(Base):
    """What a gate found: one row per suite and run. Counts only, never values."""

    __tablename__ = "gate_results"
    gate_result_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    suite: Mapped[str]
    build_id: Mapped[int | None]
    passed: Mapped[bool]
    evaluated: Mapped[int]
    failed: Mapped[int]
    warned: Mapped[int]
    findings: Mapped[list[Any]]
    checked_at: Mapped[datetime] = mapped_column(default=utc_now)


class ScoringRun(Base):
    """One scoring of everybody; the predictions themselves are rows of the lake's ``scores.predictions``."""

    __tablename__ = "scoring_runs"
    scoring_run_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    build_id: Mapped[int]
    clinical_snapshot: Mapped[int]
    as_of: Mapped[date]
    model_version: Mapped[int]
    patients: Mapped[int]
    mean_risk: Mapped[float | None]
    scored_at: Mapped[datetime] = mapped_column(default=utc_now)


class ModelEvent(Base):
    """Every change of the registry: who, when, why, on which evidence."""

    __tablename__ = "model_events"
    model_event_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    action: Mapped[str]  # registered | promoted | held | rolled_back
    model_version: Mapped[int]
    previous_version: Mapped[int | None]
    actor: Mapped[str]
    why: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    happened_at: Mapped[datetime] = mapped_column(default=utc_now)


class DriftVerdict(Base):
    """What the monitor concluded on one build, and why."""

    __tablename__ = "drift_verdicts"
    drift_verdict_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    build_id: Mapped[int]
    as_of: Mapped[date]
    model_version: Mapped[int]
    verdict: Mapped[str]  # fine | data_fault | drift | insufficient_data
    reasons: Mapped[list[Any]]
    report_path: Mapped[str | None]  # relative to the reports folder
    emitted: Mapped[bool] = mapped_column(default=False)
    judged_at: Mapped[datetime] = mapped_column(default=utc_now)


class Alert(Base):
    """Something a person should know; kept whether or not it could be delivered."""

    __tablename__ = "alerts"
    alert_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    severity: Mapped[str]  # info | warning | critical
    kind: Mapped[str]
    summary: Mapped[str]
    detail: Mapped[dict[str, Any]]
    delivered_to: Mapped[list[Any]]
    raised_at: Mapped[datetime] = mapped_column(default=utc_now)


class AuditEvent(Base):
    """Who did what, to which subject, with which outcome; each row hashes the one before it."""

    __tablename__ = "audit_events"
    audit_event_id: Mapped[int] = row_number()
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    outcome: Mapped[str]
    happened_at: Mapped[datetime]
    previous_hash: Mapped[str]
    row_hash: Mapped[str]


def make_engine(url: str) -> Engine:
    """An engine with SQLite made safe for several processes: WAL, foreign keys, full sync, a busy time-out."""
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@lru_cache(maxsize=8)
def _engine(url: str) -> Engine:
    return make_engine(url)


def open_store(settings: Settings) -> Engine:
    """The ops database, created or migrated to this code's revision when it is not there yet."""
    url = settings.ops_database_url()
    if url.startswith("sqlite"):
        settings.var.mkdir(parents=True, exist_ok=True)
    engine = _engine(url)
    migrate(engine)
    return engine


@contextmanager
def store_session(settings: Settings) -> Iterator[Session]:
    """One transaction on the ops database: commits at the end, rolls back on an error."""
    with Session(open_store(settings), expire_on_commit=False) as session, session.begin():
        yield session
