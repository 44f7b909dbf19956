"""Audit events: who did what to which subject, chained by hash so that a changed row is found.

One chain, whoever writes: `record_audit` within a session's transaction, `append_audit` many at once with SQL by hand.
Hashes cannot tell that the newest rows were deleted; whoever noted the newest hash elsewhere can (`verify_chain`).
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from core.store import AuditEvent, utc_now

GENESIS = "0" * 64
CHAIN_LOCK = 7306  # Postgres' advisory lock: whoever appends holds it until its transaction ends
_PAGE_ROWS = 20_000
_CONTENT = "actor, action, subject, outcome, happened_at, previous_hash, row_hash"
_NEWEST = "select row_hash from audit_events order by audit_event_id desc limit 1"
_PAGE = (
    f"select audit_event_id, {_CONTENT} from audit_events where audit_event_id > ? "
    f"order by audit_event_id limit {_PAGE_ROWS}"
)


class AuditRow(NamedTuple):
    """What a new row says. ``subject`` is a pseudonym or a number, never a name."""

    actor: str
    action: str
    subject: str
    outcome: str


class ChainReport(NamedTuple):
    """What `verify_chain` found. ``rows`` are those that hold, up to the first that does not."""

    rows: int
    newest_row: int | None
    newest_hash: str
    first_broken_row: int | None
    holds_noted_hash: bool | None  # None: none was given, or the chain broke before it was met


def record_audit(session: Session, actor: str, action: str, subject: str, outcome: str) -> AuditEvent:
    """Append one event within the caller's transaction. ``subject`` is a pseudonym or a number, never a name."""
    session.flush()
    connection = session.connection()
    _hold_chain(connection)
    previous = connection.exec_driver_sql(_NEWEST).scalar() or GENESIS
    happened_at = utc_now()
    event = AuditEvent(
        actor=actor,
        action=action,
        subject=subject,
        outcome=outcome,
        happened_at=happened_at,
        previous_hash=previous,
        row_hash=_row_hash(previous, actor, action, subject, outcome, happened_at.isoformat()),
    )
    session.add(event)
    session.flush()
    return event


def append_audit(connection: Connection, rows: Sequence[AuditRow]) -> None:
    """Append ``rows`` in their order within the connection's transaction, all at one time of the clock.

    On SQLite a transaction that is already open must be a writing one: only then is nobody else appending.
    """
    if not rows:
        return
    _hold_chain(connection)
    is_sqlite = connection.dialect.name == "sqlite"
    previous = connection.exec_driver_sql(_NEWEST).scalar() or GENESIS
    now = utc_now()
    iso = now.isoformat()
    written = now.strftime("%Y-%m-%d %H:%M:%S.%f") if is_sqlite else now
    values = []
    for actor, action, subject, outcome in rows:
        row_hash = _row_hash(previous, actor, action, subject, outcome, iso)
        values.append((actor, action, subject, outcome, written, previous, row_hash))
        previous = row_hash
    marks = ", ".join(("?" if is_sqlite else "%s",) * 7)
    connection.exec_driver_sql(f"insert into audit_events ({_CONTENT}) values ({marks})", values)


def verify_chain(connection: Connection, noted_hash: str = "") -> ChainReport:
    """Work the whole chain out anew, a page at a time. ``noted_hash``, the newest one of an earlier report, must still be
    in it: where the tail was deleted it is not."""
    count, newest, previous, holds_noted = 0, None, GENESIS, False
    for audit_event_id, actor, action, subject, outcome, happened_at, previous_hash, row_hash in _all_rows(connection):
        try:
            expected = _row_hash(previous, actor, action, subject, outcome, _iso(happened_at))
        except (TypeError, ValueError):  # of a kind that nobody writes
            expected = ""
        if previous_hash != previous or row_hash != expected:
            return ChainReport(count, newest, previous, audit_event_id, holds_noted or None)
        count, newest, previous = count + 1, audit_event_id, row_hash
        holds_noted = holds_noted or row_hash == noted_hash
    return ChainReport(count, newest, previous, None, holds_noted if noted_hash else None)


def first_broken_row(session: Session) -> int | None:
    """The id of the first audit row whose hash does not follow from its content and its predecessor, or None."""
    session.flush()
    return verify_chain(session.connection()).first_broken_row


def _hold_chain(connection: Connection) -> None:
    """Keep every other writer away until the transaction ends: between reading the newest hash and writing the next,
    another's row would fork the chain."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({CHAIN_LOCK})")
    elif not connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
        connection.exec_driver_sql("begin immediate")


def _all_rows(connection: Connection) -> Iterator[Any]:
    """In pages, so that neither memory nor one long reading transaction grows with the chain."""
    page = _PAGE if connection.dialect.name == "sqlite" else _PAGE.replace("?", "%s")
    after = -(2**31)
    while rows := connection.exec_driver_sql(page, (after,)).fetchall():
        yield from rows
        after = rows[-1][0]


def _iso(happened_at: Any) -> str:
    """The time as it was hashed: SQLite gives it as text, Postgres in the session's time zone."""
    if isinstance(happened_at, datetime):
        return happened_at.astimezone(UTC).isoformat()
    if len(happened_at) != 26 or happened_at[10] != " " or happened_at[19] != ".":
        raise ValueError("not as it is written")
    fraction = "" if happened_at[20:] == "000000" else happened_at[19:]
    return f"{happened_at[:10]}T{happened_at[11:19]}{fraction}+00:00"


def _row_hash(previous: str, actor: str, action: str, subject: str, outcome: str, happened_at: str) -> str:
    """SHA-256 of the six as a JSON list, written as ``json.dumps`` does, at a third of its cost."""
    quoted = ", ".join(map(encode_basestring_ascii, (previous, actor, action, subject, outcome, happened_at)))
    return hashlib.sha256(f"[{quoted}]".encode()).hexdigest()
