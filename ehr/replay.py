"""Quarantined payloads read again, after a mapping or the reader was mended: what can be used now lands, once.

The whole payload is read again; what it landed before is found to be there already. So the ledger gets only the
difference: out of quarantine, into accepted (or ignored, or duplicate), and still balances.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import func, select

from core.errors import InputError
from core.lake import write_lake
from core.settings import Settings
from core.store import Batch, LedgerEntry, Payload, Quarantine, store_session, utc_now
from ehr import landing
from ehr.ingest import ParseOutcome, parse_and_land, private_folder, restore
from ehr.ledger import COUNTS
from ehr.quarantine import quarantine_rows
from ehr.sources import load_sources

_Totals = dict[tuple[str, str], Counter[str]]  # (unit, type) -> count by column


@dataclass(frozen=True)
class ReplaySummary:
    """How many entries were tried, how many left quarantine, and what they became."""

    payloads: int
    tried: int
    resolved: int
    accepted: int


def replay(settings: Settings, reason_code: str | None = None, quarantine_id: str | None = None) -> ReplaySummary:
    """Read the payloads behind open entries again. Errors: `InputError` when no open entry fits."""
    with store_session(settings) as session:
        query = select(Quarantine).where(Quarantine.state == "open")
        if reason_code is not None:
            query = query.where(Quarantine.reason_code == reason_code)
        if quarantine_id is not None:
            query = query.where(Quarantine.quarantine_id == quarantine_id)
        entries = list(session.scalars(query))
        payloads = list(
            session.scalars(select(Payload).where(Payload.payload_id.in_({e.payload_id for e in entries})))
        )
    if not entries:
        raise InputError("no open quarantine entry fits; `cuff quarantine list` shows them")
    before = {payload.payload_id: _ledger_of(settings, payload.payload_id) for payload in payloads}
    with write_lake(settings) as lake, TemporaryDirectory(dir=private_folder(settings)) as plain:
        landing.create_raw_tables(lake)
        with store_session(settings) as session:
            batch = Batch(as_of=max(payload.as_of for payload in payloads))
            session.add(batch)
            session.flush()
        located = [(payload, restore(settings, payload, Path(plain))) for payload in payloads]
        differences: dict[str, list[dict[str, object]]] = {}

        def counted(outcome: ParseOutcome, payload: Payload) -> list[dict[str, object]]:
            differences[payload.payload_id] = _difference(before[payload.payload_id], outcome, payload)
            return differences[payload.payload_id]

        outcome = parse_and_land(settings, lake, batch.batch_id, located, load_sources(settings.sources_file), counted)
    still = {row.quarantine_id for row in quarantine_rows(payloads, outcome.rejects)}
    return _write_down(settings, payloads, entries, differences, still, batch.batch_id)


def _write_down(
    settings: Settings,
    payloads: list[Payload],
    entries: list[Quarantine],
    differences: dict[str, list[dict[str, object]]],
    still: set[str],
    batch_id: int,
) -> ReplaySummary:
    accepted = 0
    with store_session(settings) as session:
        for payload in payloads:
            for row in differences[payload.payload_id]:
                accepted += int(str(row["accepted"]))
                session.add(
                    LedgerEntry(payload_id=payload.payload_id, batch_id=batch_id, source_id=payload.source_id, **row)
                )
        open_of_payloads = select(Quarantine).where(
            Quarantine.state == "open", Quarantine.payload_id.in_([payload.payload_id for payload in payloads])
        )
        for entry in session.scalars(open_of_payloads):
            if entry.quarantine_id not in still:
                entry.state, entry.resolved_at = "replayed", utc_now()
        finished = session.get(Batch, batch_id)
        assert finished is not None
        finished.finished_at = utc_now()
    resolved = sum(entry.quarantine_id not in still for entry in entries)
    return ReplaySummary(len(payloads), len(entries), resolved, accepted)


def _ledger_of(settings: Settings, payload_id: str) -> _Totals:
    sums = [func.sum(getattr(LedgerEntry, name)) for name in COUNTS]
    query = (
        select(LedgerEntry.unit, LedgerEntry.type, *sums)
        .where(LedgerEntry.payload_id == payload_id, LedgerEntry.unit != "file")
        .group_by(LedgerEntry.unit, LedgerEntry.type)
    )
    with store_session(settings) as session:
        return {
            (row[0], row[1]): Counter(dict(zip(COUNTS, map(int, row[2:]), strict=True)))
            for row in session.execute(query)
        }


def _difference(before: _Totals, outcome: ParseOutcome, payload: Payload) -> list[dict[str, object]]:
    """What changed by reading again. Rows found in the lake are not news; so ``accepted`` counts only what landed now,
    and what left quarantine without landing is a duplicate."""
    rows: list[dict[str, object]] = []
    now = {(str(row["unit"]), str(row["type"])): row for row in outcome.counts_of(payload) if row["unit"] != "file"}
    for key in sorted(before.keys() | now.keys()):
        found, held = now.get(key, {}), before.get(key, Counter())
        change = {name: int(str(found.get(name, 0))) - held[name] for name in ("received", "ignored", "quarantined")}
        change["accepted"] = int(str(found.get("accepted", 0)))
        change["duplicate"] = change["received"] - change["ignored"] - change["quarantined"] - change["accepted"]
        if any(change.values()):
            rows.append({"unit": key[0], "type": key[1], **change})
    return rows
