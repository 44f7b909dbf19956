"""The ledger: received = accepted + duplicate + ignored + quarantined, for every payload, always."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select

from core.settings import Settings
from core.store import LedgerEntry, Payload, store_session

COUNTS = ("received", "accepted", "duplicate", "ignored", "quarantined")


@dataclass(frozen=True)
class LedgerLine:
    """Totals of one source, unit and type."""

    source_id: str
    unit: str
    type: str
    received: int
    accepted: int
    duplicate: int
    ignored: int
    quarantined: int

    @property
    def balances(self) -> bool:
        return self.received == self.accepted + self.duplicate + self.ignored + self.quarantined

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def is_repeat() -> ColumnElement[bool]:
    """Entries that only say that the whole payload came again: a file, or a message that was acknowledged once more."""
    is_file = LedgerEntry.unit == "file"
    return and_(LedgerEntry.duplicate > 0, or_(is_file, LedgerEntry.batch_id.is_(None)))


def ledger_totals(settings: Settings, batch_id: int | None = None, by_type: bool = True) -> list[LedgerLine]:
    """Totals by source, unit and (unless told otherwise) type; of everything, or of one batch."""
    sums = [func.sum(getattr(LedgerEntry, name)) for name in COUNTS]
    kind = LedgerEntry.type if by_type else func.min("all")
    keys = [LedgerEntry.source_id, LedgerEntry.unit, *([LedgerEntry.type] if by_type else [])]
    query = select(LedgerEntry.source_id, LedgerEntry.unit, kind, *sums).group_by(*keys).order_by(*keys)
    if batch_id is not None:
        query = query.where(LedgerEntry.batch_id == batch_id)
    with store_session(settings) as session:
        return [LedgerLine(*row[:3], *(int(n) for n in row[3:])) for row in session.execute(query)]


def sum_up(counted: Iterable[tuple[Payload, list[dict[str, Any]]]], again: Iterable[Payload]) -> list[LedgerLine]:
    """Ledger lines of payloads with their count rows, and of files that were received before."""
    totals: dict[tuple[str, str, str], Counter[str]] = {}
    for payload, rows in counted:
        for row in rows:
            totals.setdefault((payload.source_id, row["unit"], row["type"]), Counter()).update(
                {name: row[name] for name in COUNTS})
    for payload in again:
        totals.setdefault((payload.source_id, "file", payload.format), Counter()).update(received=1, duplicate=1)
    return [LedgerLine(*key, *(counts[name] for name in COUNTS)) for key, counts in sorted(totals.items())]
