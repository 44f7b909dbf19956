"""Quarantined payloads read again, after a mapping or the reader was mended: what can be used now lands, once.

The whole payload is read again out of the archive; what it landed before is found to be there already. So the ledger
gets only the difference: out of quarantine, into accepted (or ignored, or duplicate), and still balances.
"""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import func, select

from core.errors import InputError
from core.feed_tables import InboxEntry
from core.lake import write_lake
from core.settings import Settings
from core.store import LedgerEntry, Payload, Quarantine, store_session, utc_now
from ehr import landing
from ehr.batch import BatchOutcome, BatchRun, CountRow, complete_landed, open_batch, write_differences
from ehr.ingest import ingesting_alone
from ehr.intake import Arrival
from ehr.ledger import COUNTS, is_repeat
from ehr.quarantine import quarantine_rows
from ehr.sources import load_sources

# Refused for who sent it, not for what it says: nothing that is mended here makes it welcome. Whoever decides otherwise
# names the entry or the reason; from the right sender the same bytes are taken anyway.
_NOT_BY_THE_WAY = frozenset({"certificate_mismatch"})
# No whole message is there to be read again.
_NOT_WHOLE = ("outside_frame", "too_large", "too_deep")
_Totals = dict[tuple[str, str, str], Counter[str]]  # (payload_id, unit, type) -> count by column


@dataclass(frozen=True)
class ReplaySummary:
    """How many entries were tried, how many left quarantine, and how many units landed."""

    payloads: int
    tried: int
    resolved: int
    accepted: int


def replay(settings: Settings, reason_code: str | None = None, quarantine_id: str | None = None) -> ReplaySummary:
    """Read the payloads behind open entries again. Errors: `InputError` when no open entry fits, `ArchiveError`."""
    # Batches are numbered and finished one after the other: a build that saw a later one would never see this.
    with ingesting_alone(settings), write_lake(settings) as lake:
        landing.create_raw_tables(lake)
        complete_landed(settings, lake)
        entries, payloads = _what_fits(settings, reason_code, quarantine_id)
        before = _ledger_of(settings, payloads)
        batch_id = open_batch(settings, max(payload.as_of for payload in payloads))
        run = BatchRun(settings, lake, load_sources(settings.sources_file), batch_id)
        run.read([Arrival(settings, payload) for payload in payloads])
        outcome, differences = run.land(lambda outcome: _differences(before, outcome), _awaited(settings))
        return _write_down(settings, payloads, entries, outcome, differences, batch_id)


def _awaited(settings: Settings) -> list[str]:
    """Identities of live messages that have not landed: the sender of a refused one may have mended it and sent it again."""
    with store_session(settings) as session:
        return list(session.scalars(
            select(InboxEntry.message_key)
            .join(Payload, Payload.payload_id == InboxEntry.payload_id)
            .where(Payload.state == "received", InboxEntry.message_key.is_not(None))))  # fmt: skip


def _what_fits(
    settings: Settings, reason_code: str | None, quarantine_id: str | None
) -> tuple[list[Quarantine], list[Payload]]:
    """Open entries and the payloads behind them, in the order of arrival. Errors: `InputError` when there are none."""
    with store_session(settings) as session:
        query = select(Quarantine).where(Quarantine.state == "open", Quarantine.reason_code.not_in(_NOT_WHOLE))
        if reason_code is not None:
            query = query.where(Quarantine.reason_code == reason_code)
        if quarantine_id is not None:
            query = query.where(Quarantine.quarantine_id == quarantine_id)
        if reason_code is None and quarantine_id is None:
            query = query.where(Quarantine.reason_code.not_in(_NOT_BY_THE_WAY))
        entries = list(session.scalars(query))
        payloads = list(
            session.scalars(
                select(Payload)
                .outerjoin(InboxEntry, InboxEntry.payload_id == Payload.payload_id)
                .where(Payload.payload_id.in_({e.payload_id for e in entries}), Payload.state != "received")
                .order_by(InboxEntry.inbox_sequence, Payload.received_at, Payload.payload_id)
            )
        )
    if not payloads:
        raise InputError("no open quarantine entry of a landed payload fits that could be read again; `cuff quarantine "
                         "list` shows them; what was not taken whole must be sent again")  # fmt: skip
    return entries, payloads


def _write_down(
    settings: Settings,
    payloads: list[Payload],
    entries: list[Quarantine],
    outcome: BatchOutcome,
    differences: dict[str, list[CountRow]],
    batch_id: int,
) -> ReplaySummary:
    still = {row.quarantine_id for row in quarantine_rows(payloads, outcome.rejects)}
    with store_session(settings) as session:
        write_differences(session, batch_id, payloads, differences)
        open_of_payloads = select(Quarantine).where(
            Quarantine.state == "open", Quarantine.payload_id.in_([payload.payload_id for payload in payloads])
        )
        for entry in session.scalars(open_of_payloads):
            if entry.quarantine_id not in still:
                entry.state, entry.resolved_at = "replayed", utc_now()
    accepted = sum(row["accepted"] for rows in differences.values() for row in rows if row["unit"] != "file")
    resolved = sum(entry.quarantine_id not in still for entry in entries)
    return ReplaySummary(len(payloads), len(entries), resolved, accepted)


def _ledger_of(settings: Settings, payloads: list[Payload]) -> _Totals:
    """What the ledger says of these payloads; that they were delivered again and again is no business of a replay."""
    sums = [func.sum(getattr(LedgerEntry, name)) for name in COUNTS]
    query = (
        select(LedgerEntry.payload_id, LedgerEntry.unit, LedgerEntry.type, *sums)
        .where(LedgerEntry.payload_id.in_([payload.payload_id for payload in payloads]))
        .where(~is_repeat())
        .group_by(LedgerEntry.payload_id, LedgerEntry.unit, LedgerEntry.type)
    )
    with store_session(settings) as session:
        return {
            (row[0], row[1], row[2]): Counter(dict(zip(COUNTS, map(int, row[3:]), strict=True)))
            for row in session.execute(query)
        }


def _differences(before: _Totals, outcome: BatchOutcome) -> dict[str, list[CountRow]]:
    """What changed by reading again. Rows found in the lake are not news: ``accepted`` counts only what landed now, and
    what left quarantine without landing is a duplicate."""
    now = {
        (payload_id, row["unit"], row["type"]): row for payload_id, rows in outcome.count_rows().items() for row in rows
    }
    differences: dict[str, list[CountRow]] = {payload.payload_id: [] for payload in outcome.payloads}
    for key in sorted(before.keys() | now.keys()):
        payload_id, unit, kind = key
        found, held = now.get(key, {}), before.get(key, Counter())
        change = {name: int(found.get(name, 0)) - held[name] for name in ("received", "ignored", "quarantined")}
        change["accepted"] = int(found.get("accepted", 0)) - (held["accepted"] if unit == "file" else 0)
        change["duplicate"] = change["received"] - change["ignored"] - change["quarantined"] - change["accepted"]
        if any(change.values()):
            differences[payload_id].append({"unit": unit, "type": kind, **change})
    return differences
