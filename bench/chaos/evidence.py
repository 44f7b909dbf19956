"""What a house holds after the storm: states, bytes, ledger and rows, read with nothing but the settings."""

import hashlib
from collections import Counter
from dataclasses import dataclass

from sqlalchemy import case, func, select

from core.feed_tables import InboxEntry
from core.keys import key_bytes, unseal
from core.lake import read_lake
from core.settings import Settings
from core.store import Batch, LedgerEntry, Payload, Quarantine, store_session
from ehr.ledger import COUNTS

_CLOCKS = {"landings": "batch_id, landed_at, inbox_sequence, received_at, as_of"}  # differ from run to run
_CLOCKS_OF_ROWS = "batch_id, landed_at, inbox_sequence"


@dataclass(frozen=True)
class Held:
    """A live payload as the ops database has it."""

    state: str
    reasons: tuple[str, ...]  # of its quarantine entries
    is_intact: bool  # the sealed bytes open, and are the ones its name was made of
    batch_id: int | None
    size_bytes: int


def payload_id(message: bytes) -> str:
    return hashlib.sha256(message).hexdigest()


def held(settings: Settings) -> dict[str, Held]:
    """Every payload by id, its bytes opened and compared with its name."""
    key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    found: dict[str, Held] = {}
    with store_session(settings) as session:
        reasons: dict[str, list[str]] = {}
        for owner, reason in session.execute(select(Quarantine.payload_id, Quarantine.reason_code)):
            reasons.setdefault(owner, []).append(reason)
        rows = session.execute(select(InboxEntry.payload_id, InboxEntry.content, Payload.state, Payload.batch_id,
                                      Payload.size_bytes)
                               .join(Payload, Payload.payload_id == InboxEntry.payload_id))  # fmt: skip
        for owner, sealed, state, batch_id, size in rows:
            is_intact = sealed is not None and payload_id(unseal(key, sealed, owner)) == owner
            found[owner] = Held(state, tuple(sorted(reasons.get(owner, []))), is_intact, batch_id, size)
    return found


def waiting(settings: Settings) -> int:
    """Payloads that are acknowledged and not landed yet."""
    with store_session(settings) as session:
        return session.scalar(select(func.count()).where(Payload.state == "received")) or 0


def unfinished_batches(settings: Settings) -> int:
    with store_session(settings) as session:
        return session.scalar(select(func.count()).where(Batch.finished_at.is_(None))) or 0


def ledger(settings: Settings) -> dict[str, Counter[str]]:
    """Sums of the ledger by payload; ``repeat`` is what of ``duplicate`` came again, the rest was found in the lake."""
    sums = [func.sum(getattr(LedgerEntry, name)) for name in COUNTS]
    repeats = func.sum(case((LedgerEntry.batch_id.is_(None), LedgerEntry.duplicate), else_=0))
    with store_session(settings) as session:
        rows = session.execute(select(LedgerEntry.payload_id, *sums, repeats).group_by(LedgerEntry.payload_id))
        return {row[0]: Counter(dict(zip((*COUNTS, "repeat"), map(int, row[1:]), strict=True))) for row in rows}


def unbalanced(settings: Settings) -> list[str]:
    """Payloads of which the ledger does not tell one story: what was received is what became of it, and of the message
    itself, however often it came, there is one fate."""
    told, wrong = ledger(settings), []
    for owner, entry in held(settings).items():
        counts = told.get(owner, Counter())
        fates = counts["accepted"] + counts["ignored"] + counts["quarantined"] + counts["duplicate"] - counts["repeat"]
        if counts["received"] != fates + counts["repeat"] or fates != (entry.state != "received"):
            wrong.append(f"{owner[:12]} is {entry.state}, ledger {dict(counts)}")
    return wrong


def raw_rows(settings: Settings) -> dict[str, list[str]]:
    """Every row of the lake's raw tables as a digest, sorted; without what a clock or the order of arrival gave it."""
    found: dict[str, list[str]] = {}
    with read_lake(settings, ("clinical",)) as lake:
        tables = lake.execute("select table_name from duckdb_tables() where database_name = 'clinical' "
                              "and schema_name = 'raw' order by 1").fetchall()  # fmt: skip
        for (table,) in tables:
            chosen = f"* exclude ({_CLOCKS.get(table, _CLOCKS_OF_ROWS)})"
            if table != "landings":
                chosen += " replace (case when known_at_basis <> 'receipt' then known_at end as known_at)"
            rows = lake.execute(f"select md5(cast(t as varchar)) from (select {chosen} from clinical.raw.{table}) as t")
            found[table] = sorted(row[0] for row in rows.fetchall())
    return found


def doubled_rows(settings: Settings) -> int:
    """Rows that stand for the same place of the same payload as another one."""
    number = 0
    with read_lake(settings, ("clinical",)) as lake:
        tables = lake.execute("select table_name from duckdb_tables() where database_name = 'clinical' "
                              "and schema_name = 'raw' order by 1").fetchall()  # fmt: skip
        for (table,) in tables:
            place = "payload_id" if table == "landings" else "payload_id, locator, record_key"
            row = lake.execute(f"select coalesce(sum(n - 1), 0) from (select count(*) as n from clinical.raw.{table} "
                               f"group by {place})").fetchone()  # fmt: skip
            number += int(row[0]) if row else 0
    return number


def different_rows(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> dict[str, tuple[int, int]]:
    """By table: rows that only ``ours`` has, rows that only ``theirs`` has; tables that are equal are left out."""
    found = {}
    for table in ours.keys() | theirs.keys():
        one, other = Counter(ours.get(table, [])), Counter(theirs.get(table, []))
        if one != other:
            found[table] = ((one - other).total(), (other - one).total())
    return found
