"""A payload of HL7 v2 messages to landing rows. Never raises for what the bytes hold."""

from collections.abc import Callable
from datetime import UTC
from typing import Any

from core.keys import pseudonym
from ehr.hl7v2.charsets import CharsetError, decode
from ehr.hl7v2.context import Context
from ehr.hl7v2.framing import split_messages
from ehr.hl7v2.message import Message, MessageError, parse_message
from ehr.hl7v2.observations import observation_rows
from ehr.hl7v2.persons import find_pid, link_rows, patient_row, person_numbers, vault_entry
from ehr.hl7v2.times import parse_time
from ehr.hl7v2.visits import condition_rows, encounter_key, encounter_row, visit_vault_entry
from ehr.records import ParsedPayload, PayloadRef, Reject
from ehr.sources import Source

TABLES = ("hl7v2_messages", "hl7v2_patients", "hl7v2_encounters", "hl7v2_observations", "hl7v2_conditions",
          "person_links")  # fmt: skip
SourceFor = Callable[[str | None], Source]


def parse_payload(data: bytes, source_for: SourceFor, payload: PayloadRef, pseudonym_key: bytes) -> ParsedPayload:
    """Rows by table, rejects with their place, vault entries and counts of every message in ``data``."""
    parsed = ParsedPayload(rows={table: [] for table in TABLES})
    for ordinal, raw in enumerate(split_messages(data), 1):
        message_type = "unknown"
        try:
            source = source_for(_facility(raw))
            message = parse_message(decode(raw, source.default_charset))
            message_type = message.type
            parsed.received["message", message_type] += 1
            if _is_handled(message_type):
                _read_message(parsed, message, ordinal, raw, source, payload, pseudonym_key)
            else:
                parsed.ignored["message", message_type] += 1
        except CharsetError as error:
            parsed.received["message", message_type] += 1
            parsed.rejects.append(_reject(message_type, ordinal, "MSH-18", "charset_mismatch", str(error)))
        except MessageError as error:
            if message_type == "unknown":
                parsed.received["message", message_type] += 1
            parsed.rejects.append(_reject(message_type, ordinal, error.place, error.reason_code, error.detail))
    return parsed


def _is_handled(message_type: str) -> bool:
    return message_type.startswith("ADT^") or message_type in ("ORU^R01", "ORU^R30", "ORU^R31", "ORU^R32")


def _reject(message_type: str, ordinal: int, place: str, reason: str, detail: str) -> Reject:
    return Reject("message", message_type, f"message {ordinal} {place}", reason, detail)


def _facility(raw: bytes) -> str | None:
    """MSH-4's namespace, before anything is decoded."""
    fields = raw.split(b"\r", 1)[0].split(raw[3:4]) if len(raw) > 8 else []
    if len(fields) < 4:
        return None
    return fields[3].split(raw[4:5])[0].decode("ascii", "ignore") or None


def _read_message(
    parsed: ParsedPayload, message: Message, ordinal: int, raw: bytes, source: Source, payload: PayloadRef, key: bytes
) -> None:
    msh, pid = message.msh, find_pid(message)
    if not msh.text(10):
        raise MessageError("no_control_id", "MSH-10", "MSH-10 is empty")
    if pid is None:
        raise MessageError("no_patient_identifier", "PID", "there is no PID segment")
    numbers = person_numbers(pid, 3, source, key) or person_numbers(pid, 2, source, key)
    if not numbers:
        raise MessageError("no_patient_identifier", "PID-3", "PID-3 holds no identifier")
    sent = parse_time(msh.text(7), source.time_zone) if msh.text(7) else None
    if msh.text(7) and sent is None:
        raise MessageError("bad_message_time", "MSH-7", "MSH-7 is not a time")
    context = Context(
        message, ordinal, source, key, numbers[0][1],
        known_at=sent.at if sent else payload.received_at.astimezone(UTC),
        known_at_basis="message" if sent else "receipt",
    )  # fmt: skip
    _add(parsed.rows, "hl7v2_messages", [_message_row(context, raw)])
    _add(parsed.rows, "hl7v2_patients", [patient_row(context, pid)])
    parsed.vault.append(vault_entry(context, pid))
    _add(parsed.rows, "person_links", link_rows(context))
    pv1 = message.first("PV1")
    visit = encounter_key(context, pv1)
    if pv1 is not None and visit is not None and message.type.startswith("ADT^"):
        _add(parsed.rows, "hl7v2_encounters", [encounter_row(context, pv1, visit)])
        if entry := visit_vault_entry(visit, pv1):
            parsed.vault.append(entry)
    _add(parsed.rows, "hl7v2_conditions", condition_rows(context, visit))
    _add(parsed.rows, "hl7v2_observations", observation_rows(context, visit))


def _add(rows: dict[str, list[dict[str, Any]]], table: str, new: list[dict[str, Any]]) -> None:
    rows[table].extend(new)


def _message_row(context: Context, raw: bytes) -> dict[str, Any]:
    msh = context.message.msh
    identity = context.key("record", f"{msh.raw(3)}|{msh.raw(4)}|{msh.raw(10)}")
    row = context.row("", identity, (), [])
    content = pseudonym(context.pseudonym_key, "message", context.source.source_id, raw.decode("latin-1"))
    return row | {"content_hash": content, "message_type": context.message.type, "ordinal": context.ordinal}
