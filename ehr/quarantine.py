"""What could not be used: why, where, and in which payload. Deterministic ids make writing it twice harmless."""

import hashlib
from collections.abc import Iterator, Sequence

from sqlalchemy import func, select

from core.errors import InputError
from core.settings import Settings
from core.store import Payload, Quarantine, store_session
from ehr.records import Reject


def quarantine_rows(payloads: Sequence[Payload], rejects: dict[str, list[Reject]]) -> Iterator[Quarantine]:
    """One row per reject."""
    for payload in payloads:
        for reject in rejects.get(payload.payload_id, []):
            identity = f"{payload.payload_id}|{reject.locator}|{reject.reason_code}"
            yield Quarantine(
                quarantine_id=hashlib.sha256(identity.encode()).hexdigest()[:16],
                payload_id=payload.payload_id,
                source_id=payload.source_id,
                unit=reject.unit,
                type=reject.type,
                locator=reject.locator,
                reason_code=reject.reason_code,
                detail=reject.detail,
            )


def list_quarantine(settings: Settings, state: str = "open", limit: int = 200) -> list[Quarantine]:
    """The newest rows in ``state``."""
    with store_session(settings) as session:
        query = select(Quarantine).where(Quarantine.state == state).order_by(Quarantine.quarantined_at.desc())
        return list(session.scalars(query.limit(limit)))


def count_by_reason(settings: Settings) -> list[tuple[str, str, str, int]]:
    """(source_id, type, reason_code, open rows), most first."""
    with store_session(settings) as session:
        number = func.count()
        query = (
            select(Quarantine.source_id, Quarantine.type, Quarantine.reason_code, number)
            .where(Quarantine.state == "open")
            .group_by(Quarantine.source_id, Quarantine.type, Quarantine.reason_code)
            .order_by(number.desc())
        )
        return [(row[0], row[1], row[2], row[3]) for row in session.execute(query)]


def show_quarantine(settings: Settings, quarantine_id: str) -> Quarantine:
    """One row. Errors: `InputError` when there is none with this id."""
    with store_session(settings) as session:
        row = session.get(Quarantine, quarantine_id)
        if row is None:
            raise InputError(f"nothing is quarantined under '{quarantine_id}'; `cuff quarantine list` shows the ids")
        return row
