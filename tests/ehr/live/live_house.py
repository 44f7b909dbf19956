"""Messages into a house's inbox as the door puts them there, and what the house knows of them afterwards."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from sqlalchemy import select

from core.feed_tables import InboxEntry
from core.settings import Settings
from core.store import LedgerEntry, Payload, Quarantine, store_session
from ehr.live.check import Checker
from ehr.live.consume import Consumed, Consumer, make_transport
from ehr.live.fhir_door import judge_resource
from ehr.live.inbox import Inbox, Stored
from tests.ehr.landed import query

AS_OF = date(2024, 3, 5)
VOLATILE = ("payload_id", "locator", "batch_id", "inbox_sequence", "landed_at")


def message(control_id: str, *segments: str, kind: str = "ADT^A04", time: str = "20240305100000+0000",
            facility: str = "CLINIC", charset: str = "") -> str:
    header = f"MSH|^~\\&|ADT|{facility}|CUFF|CUFF|{time}||{kind}|{control_id}|P|2.5{charset and '||||||' + charset}"
    return "\r".join([header, *segments]) + "\r"


def patient(number: str, name: str = "Doe^Ann", born: str = "19610714", sex: str = "F") -> str:
    return f"PID|1||{number}^^^CLINIC^MR||{name}||{born}|{sex}"


def deliver_live(settings: Settings, contents: Iterable[bytes]) -> list[Stored]:
    """HL7 v2 messages over MLLP, one group commit."""
    checker = Checker(settings)
    return Inbox(settings, AS_OF).store([checker.hl7v2(content, "mllp") for content in contents])


def post_fhir(settings: Settings, resources: Sequence[dict[str, Any]]) -> list[Stored]:
    source = Checker(settings).sources["default"]
    bodies = [json.dumps(resource).encode() for resource in resources]
    return Inbox(settings, AS_OF).store([judge_resource(body, source) for body in bodies])


def consume_once(settings: Settings) -> Consumed:
    return Consumer(settings, make_transport(settings), once=True).run()


def raw_rows(settings: Settings, *left_out: str) -> dict[str, Counter[str]]:
    """Every row of every landing table as text, without the columns that tell how it came in."""
    in_raw = "select table_name from duckdb_tables() where database_name = 'clinical' and schema_name = 'raw'"
    found: dict[str, Counter[str]] = {}
    for (table,) in query(settings, in_raw):
        if table != "landings":
            volatile = ", ".join((*VOLATILE, *left_out))
            rows = query(settings, f"select t::varchar from (select * exclude ({volatile}) from clinical.raw.{table}) as t")
            found[table] = Counter(row[0] for row in rows)
    return found


def states(settings: Settings) -> Counter[str]:
    """Payloads by state, of those that arrived live."""
    with store_session(settings) as session:
        return Counter(session.scalars(
            select(Payload.state).join(InboxEntry, InboxEntry.payload_id == Payload.payload_id)
            .where(InboxEntry.feed != "file")))  # fmt: skip


def ledger_rows(settings: Settings) -> list[tuple[Any, ...]]:
    """(unit, type, received, accepted, duplicate, ignored, quarantined) by payload and unit, summed and sorted."""
    totals: dict[tuple[str, str, str], Counter[str]] = {}
    with store_session(settings) as session:
        for entry in session.scalars(select(LedgerEntry)):
            totals.setdefault((entry.payload_id, entry.unit, entry.type), Counter()).update({
                name: getattr(entry, name) for name in ("received", "accepted", "duplicate", "ignored", "quarantined")})
    return sorted((unit, kind, *(counts[name] for name in ("received", "accepted", "duplicate", "ignored", "quarantined")))
                  for (_payload, unit, kind), counts in totals.items())


def open_reasons(settings: Settings) -> list[str]:
    with store_session(settings) as session:
        return sorted(session.scalars(select(Quarantine.reason_code).where(Quarantine.state == "open")))
