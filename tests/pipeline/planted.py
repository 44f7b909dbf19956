"""Planted people: histories good enough to be scored, with names, numbers and notes that may appear nowhere."""

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from tests.ehr import test_canary as strange_forms

FIRST_VISIT, VISITS, DAYS_BETWEEN = date(2021, 2, 3), 16, 110


@dataclass(frozen=True)
class Planted:
    """One person's direct identifiers; ``fhir_id`` is '' for those told by HL7 v2 alone."""

    family: str
    given: str
    mrn: str
    street: str
    phone: str
    mail: str
    fhir_id: str = ""

    @property
    def note(self) -> str:
        return f"{self.given} {self.family}, MRN {self.mrn}, {self.street}, call {self.phone}, {self.mail}: dizzyspellword"

    @property
    def secrets(self) -> tuple[str, ...]:
        said = (self.family, self.given, self.mrn, self.street, self.phone, self.mail, "dizzyspellword", self.fhir_id)
        return tuple(value for value in said if value)


PEOPLE = (
    Planted("Ravenquist", "Odalinda", "8890017345", "14 Thistledown Mews", "0155507741", "odalinda@ravenquist.example",
            "canary-fhir-odalinda"),
    Planted("Wolfsbane", "Thaddeusz", "8890028456", "3 Marrowfat Wharf", "0155508852", "thaddeusz@wolfsbane.example",
            "canary-fhir-thaddeusz"),
    Planted("Umberhollow", "Perpetuana", "8890039567", "88 Gallowglass Rise", "0155509963", "perpetuana@umber.example"),
    Planted("Cottonwhistle", "Barnabasz", "8890040678", "5 Quagmire Parade", "0155501074", "barnabasz@cotton.example"),
)  # fmt: skip
SECRETS = tuple(dict.fromkeys([*strange_forms.CANARIES, *(secret for person in PEOPLE for secret in person.secrets)]))


def plant(folder: Path) -> None:
    """Write the planted people's extracts: whole histories, every odd form, and pieces that nobody can read."""
    strange_forms.write_delivery(folder)
    for person in PEOPLE:
        name = f"{person.family} {person.given} {person.mrn}"
        if person.fhir_id:
            (folder / f"{name}.json").write_text(json.dumps(_bundle(person)))
            (folder / f"{name}.ndjson").write_text(json.dumps(_patient(person))[:-25] + f"\n{person.note}\n")
        else:
            (folder / f"{name}.hl7").write_bytes(b"".join(message.encode() for message in _messages(person)))
            (folder / f"{name} broken.hl7").write_bytes(_unreadable_messages(person))


def _visits() -> list[tuple[int, date]]:
    return [(number, FIRST_VISIT + timedelta(days=number * DAYS_BETWEEN)) for number in range(VISITS)]


def _patient(person: Planted) -> dict[str, Any]:
    return {
        "resourceType": "Patient", "id": person.fhir_id, "gender": "female", "birthDate": "1969-04-02",
        "text": {"status": "generated", "div": f"<div>{person.note}</div>"},
        "identifier": [{"system": "urn:oid:2.999.1.1", "value": person.mrn}], "photo": [{"title": person.note}],
        "name": [{"family": person.family, "given": [person.given], "text": person.note}],
        "telecom": [{"value": person.phone}, {"value": person.mail}], "address": [{"line": [person.street]}],
        "contact": [{"name": {"family": person.family}}],
    }  # fmt: skip


def _bundle(person: Planted) -> dict[str, Any]:
    subject = {"reference": f"Patient/{person.fhir_id}", "display": person.note}
    resources = [_patient(person)]
    for number, day in _visits():
        shared = {"subject": subject, "note": [{"text": person.note}], "effectiveDateTime": f"{day}T10:00:00Z",
                  "status": "final", "meta": {"lastUpdated": f"{day}T11:00:00Z"}}  # fmt: skip
        resources += [
            shared | {"resourceType": "Encounter", "id": f"{person.mrn}-e{number}", "status": "finished",
                      "class": {"code": "AMB", "display": person.note}, "period": {"start": f"{day}T10:00:00Z"}},
            shared | {"resourceType": "Observation", "id": f"{person.mrn}-p{number}", "code": _code("85354-9", person.note),
                      "component": [{"code": _code("8480-6", person.note), "valueQuantity": _number(118 + number % 5)},
                                    {"code": _code("8462-4", person.note), "valueQuantity": _number(74 + number % 4)}]},
            shared | {"resourceType": "Observation", "id": f"{person.mrn}-w{number}", "code": _code("29463-7", person.note),
                      "valueQuantity": {"value": 70 + number % 3, "unit": "kg", "code": "kg"}},
            shared | {"resourceType": "DocumentReference", "id": f"{person.mrn}-d{number}", "description": person.note,
                      "content": [{"attachment": {"title": person.note}}]},
            shared | {"resourceType": "Procedure", "id": f"{person.mrn}-x{number}"},
        ]  # fmt: skip
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": resource} for resource in resources]}


def _code(code: str, note: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://loinc.org", "code": code, "display": note}], "text": note}


def _number(value: float) -> dict[str, Any]:
    return {"value": value, "unit": "mm[Hg]", "code": "mm[Hg]"}


def _messages(person: Planted) -> list[str]:
    messages = []
    for number, day in _visits():
        stamp, head = f"{day:%Y%m%d}100000", [_pid(person), f"PV1|1|O||||||{person.mrn}^{person.family}^{person.given}"]
        messages += [
            _message(f"{person.mrn}a{number}", "ADT^A04", stamp, *head, f"NK1|1|{person.family}^{person.given}"),
            _message(f"{person.mrn}r{number}", "ORU^R01", stamp, *head, f"OBR|1|||29274-8^{person.note}^LN|||{stamp}",
                     f"OBX|1|NM|8480-6^{person.note}^LN||{121 + number % 5}|mm[Hg]|||||F|||{stamp}||{person.family}",
                     f"OBX|2|NM|8462-4^{person.note}^LN||{76 + number % 4}|mm[Hg]|||||F|||{stamp}",
                     f"OBX|3|NM|8867-4^Heart rate^LN||{person.note}|/min|||||F|||{stamp}",
                     f"OBX|4|TX|11506-3^Progress note^LN||{person.note}||||||F", f"NTE|1||{person.note}"),
            _message(f"{person.mrn}m{number}", "MDM^T02", stamp, *head, f"OBX|1|TX|11506-3^Note^LN||{person.note}||||||F"),
        ]  # fmt: skip
    return messages


def _pid(person: Planted, number: str | None = None) -> str:
    number = person.mrn if number is None else number
    return (f"PID|1||{number}^^^SIMHOSP^MR||{person.family}^{person.given}||19690402|F|||{person.street}^^{person.family}"
            f"ville||{person.phone}|{person.mail}|||||{person.mrn}")  # fmt: skip


def _message(control_id: str, kind: str, stamp: str, *segments: str) -> str:
    head = f"MSH|^~\\&|SIMEHR|SIMHOSP|CUFF|CUFF|{stamp}||{kind}|{control_id}|P|2.5.1||||||UNICODE UTF-8"
    return "\r".join((head, *segments)) + "\r"


def _unreadable_messages(person: Planted) -> bytes:
    """Without a number; without a type; with a note for a time; with bytes of another charset; cut in the middle."""
    pid = _pid(person)
    whole = [
        _message(f"{person.mrn}b0", "ADT^A04", "20240101", _pid(person, ""), "PV1|1|O"),
        _message(f"{person.mrn}b1", person.note, "20240101", pid),
        _message(f"{person.mrn}b2", "ADT^A08", person.note, pid, f"DG1|1||I10^{person.note}^I10||{person.note}|F"),
        _message(f"{person.mrn}b3", "ADT^A40", "20240101", pid, f"MRG|{person.note}"),
    ]
    wrong = _message(f"{person.mrn}b4", "ADT^A31", "20240101", pid.replace(person.given, person.given + "é"))
    cut = _message(f"{person.mrn}b5", "ORU^R01", "20240101", pid, f"OBX|1|NM|8480-6^{person.note}")
    return "".join(whole).encode() + wrong.encode("iso-8859-1") + cut[:-30].encode()
