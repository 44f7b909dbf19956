"""Audit events: who did what to which subject, chained by hash so that a changed row is found."""

import hashlib
import json
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core.store import AuditEvent, utc_now

GENESIS = "0" * 64


def record_audit(session: Session, actor: str, action: str, subject: str, outcome: str) -> AuditEvent:
    """Append one event within the caller's transaction. ``subject`` is a pseudonym or a number, never a name."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("select pg_advisory_xact_lock(7306)"))
    newest = session.scalars(select(AuditEvent).order_by(AuditEvent.audit_event_id.desc()).limit(1)).first()
    previous = newest.row_hash if newest else GENESIS
    happened_at = utc_now()
    event = AuditEvent(
        actor=actor,
        action=action,
        subject=subject,
        outcome=outcome,
        happened_at=happened_at,
        previous_hash=previous,
        row_hash=_row_hash(previous, actor, action, subject, outcome, happened_at),
    )
    session.add(event)
    session.flush()
    return event


def first_broken_row(session: Session) -> int | None:
    """The id of the first audit row whose hash does not follow from its content and its predecessor, or None."""
    previous = GENESIS
    for event in session.scalars(select(AuditEvent).order_by(AuditEvent.audit_event_id)):
        expected = _row_hash(previous, event.actor, event.action, event.subject, event.outcome, event.happened_at)
        if event.previous_hash != previous or event.row_hash != expected:
            return event.audit_event_id
        previous = event.row_hash
    return None


def _row_hash(previous: str, actor: str, action: str, subject: str, outcome: str, happened_at: datetime) -> str:
    body = json.dumps([previous, actor, action, subject, outcome, happened_at.isoformat()])
    return hashlib.sha256(body.encode()).hexdigest()
