"""Rows of the landing tables, made by hand: few columns said, the rest as landing fills them in."""

from collections import defaultdict
from datetime import UTC, date, datetime
from hashlib import md5
from typing import Any

from core.lake import write_lake
from core.publication import finish_build, publish, start_build
from core.settings import PROJECT_ROOT, Settings
from core.store import Batch, Build, store_session, utc_now

LOINC, SNOMED, RXNORM = "http://loinc.org", "http://snomed.info/sct", "http://www.nlm.nih.gov/research/umls/rxnorm"
Row = dict[str, Any]


def at(text: str) -> datetime:
    """'2024-03-01' or '2024-03-01 10:30', UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def coding(system: str, code: str) -> list[Row]:
    return [{"system": system, "code": code}]


def component(code: str, value: float, unit: str | None) -> Row:
    return {"codings": coding(LOINC, code), "value_number": value, "value_unit": unit, "value_text": None}


def panel(person: str, event: str, systolic: float, diastolic: float, *, record: str, known: str | None = None,
          unit: str | None = "mm[Hg]", status: str = "final", code: str = "85354-9") -> Row:
    """A FHIR blood pressure panel, the diastolic component first as older extracts have it."""
    return fact(person, record, known or event) | {
        "event_at": at(event), "status": status, "codings": coding(LOINC, code),
        "components": [component("8462-4", diastolic, unit), component("8480-6", systolic, unit)],
    }


def obx(person: str, event: str, code: str, value: float, *, group: str, known: str | None = None, number: int = 1,
        unit: str | None = "mm[Hg]", status: str = "F", encounter: str | None = None) -> Row:
    """One OBX of an ORU^R01; the same group, code and number is the same record."""
    return fact(person, f"{group}|{code}|{number}", known or event) | {
        "locator": f"message 1 OBX[{number}]", "message_type": "ORU^R01", "event_at": at(event), "status": status,
        "group_key": group, "codings": coding(LOINC, code), "value_type": "NM", "value_number": value, "value_unit": unit,
        "encounter_key": encounter,
    }


def fact(person: str, record: str, known: str) -> Row:
    return {"person_key": person, "record_key": record, "known_at": at(known), "known_at_basis": "message",
            "locator": "line 1", "source_id": "default"}


def patient(person: str, known: str = "2020-01-01", **said: Any) -> Row:
    return fact(person, f"patient|{person}", known) | {
        "gender": "female", "birth_date": date(1970, 5, 17), "birth_date_precision": "day"} | said


def link(person: str, other: str, link_type: str, known: str) -> Row:
    return fact(person, f"link|{person}|{other}", known) | {"link_type": link_type, "other_person_key": other}


def land(settings: Settings, as_of: date, rows: dict[str, list[Row]]) -> int:
    """Land rows (table of ``ehr/raw_tables.sql`` to rows) as one batch and return its number."""
    with store_session(settings) as session:
        batch = Batch(as_of=as_of, finished_at=utc_now())
        session.add(batch)
        session.flush()
        batch_id = batch.batch_id
    with write_lake(settings) as lake:
        lake.execute("use clinical")
        lake.execute((PROJECT_ROOT / "ehr" / "raw_tables.sql").read_text())
        for table, of_table in rows.items():
            by_columns = defaultdict(list)
            for row in of_table:
                full = {"batch_id": batch_id, "landed_at": utc_now(), "payload_id": "p", "flags": [],
                        "content_hash": md5(repr(row).encode()).hexdigest()} | row
                by_columns[tuple(full)].append(tuple(full.values()))
            for columns, values in by_columns.items():
                marks = ", ".join(f"${i + 1}" for i in range(len(columns)))
                lake.executemany(f"insert into raw.{table} ({', '.join(columns)}) values ({marks})", values)
    return batch_id


def build(settings: Settings, *arguments: str, select: str = "+path:models/marts/core", published: bool = True) -> Build:
    """Build the core marts over everything landed, and publish; without ``published`` the build is left as it died."""
    from core.dbt import manifest_hash, run_dbt

    started = start_build(settings)
    run_dbt(settings, "build", started, "--select", *select.split(), "--quiet", *arguments)
    if published:
        finish_build(settings, started.build_id, manifest_hash(settings))
        publish(settings, started.build_id, "test")
    return started
