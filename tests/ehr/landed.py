"""What a test wants to see of an ingested payload: readable rows, refusals and counts."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select

from core.lake import read_lake
from core.settings import Settings
from core.store import LedgerEntry, Quarantine, store_session

_BOOKKEEPING = ("payload_id", "source_id", "batch_id", "inbox_sequence", "landed_at", "record_key", "content_hash")


def payload_id_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def query(settings: Settings, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with read_lake(settings, ("clinical",)) as lake:
        return lake.execute(sql, list(parameters)).fetchall()


def landed_rows(settings: Settings, tables: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Every row of the tables, in the order of their places."""
    landed = {}
    with read_lake(settings, ("clinical",)) as lake:
        for table in tables:
            found = lake.execute(f"select * from clinical.raw.{table} order by length(locator), locator, record_key")
            columns = [column[0] for column in found.description]
            landed[table] = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
    return landed


def readable(row: dict[str, Any], key_names: Mapping[str, str]) -> dict[str, Any]:
    """A row without bookkeeping and empty columns, its keys told as what they stand for."""
    shown = {}
    for name, value in row.items():
        if name in _BOOKKEEPING or value is None or value == []:
            continue
        if name == "known_at" and row["known_at_basis"] == "receipt":
            continue  # the clock of the test
        shown[name] = key_names.get(value, "a key of its own") if name.endswith("_key") else value
    return shown


def refusals_of(settings: Settings, path: Path) -> list[str]:
    """``type | locator | reason`` of everything quarantined."""
    with store_session(settings) as session:
        rows = session.scalars(select(Quarantine).where(Quarantine.payload_id == payload_id_of(path)))
        return sorted(f"{row.type} | {row.locator} | {row.reason_code}" for row in rows)


def ledger_of(settings: Settings, path: Path) -> dict[str, str]:
    """``unit type`` to ``received = accepted + duplicate + ignored + quarantined``."""
    with store_session(settings) as session:
        rows = session.scalars(
            select(LedgerEntry).where(LedgerEntry.payload_id == payload_id_of(path))
            .order_by(LedgerEntry.unit, LedgerEntry.type)
        )
        return {f"{r.unit} {r.type}": f"{r.received} = {r.accepted} + {r.duplicate} + {r.ignored} + {r.quarantined}"
                for r in rows}  # fmt: skip
