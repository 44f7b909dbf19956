"""Facts as HL7 v2.5.1 messages: ADT for people, visits and diagnoses, ORU^R01 for measurements, MDM for notes."""

from collections.abc import Sequence

from ehr.simulate.clock import as_date, hl7_time
from ehr.simulate.codes import DIASTOLIC_CODE, MEASURES, SMOKING_ANSWERS, SMOKING_CODE, SYSTOLIC_CODE, quantity
from ehr.simulate.drift import NEW_BLOOD_PRESSURE_CODE, NEW_HL7_SYSTEM, NEW_SMOKING_CODE, Drift
from ehr.simulate.facts import Fact
from ehr.simulate.forms import birth_date
from ehr.simulate.visits import ICD10
from ehr.simulate.world import Person

_STATUS = {"final": "F", "corrected": "C", "entered-in-error": "W"}
_CLASS = {"AMB": "O", "EMER": "E", "IMP": "I"}
_ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})


def message_of(person: Person, drift: Drift, facts: Sequence[Fact]) -> tuple[str, bytes]:
    """One message (its type and its bytes, CR after each segment) telling facts of one visit, group and version."""
    first = facts[0]
    if first.kind == "encounter":
        kind, body = "ADT^A04" if first.values[0] != "IMP" else "ADT^A01", [_pid(person, first), _pv1(first)]
    elif first.kind == "discharge":
        kind, body = "ADT^A03", [_pid(person, first), _pv1(first)]
    elif first.kind == "cancel":
        kind, body = "ADT^A11", [_pid(person, first), _pv1(first)]
    elif first.kind == "patient":
        kind, body = _registration(person, first)
    elif first.kind == "condition":
        kind, body = "ADT^A08", [_pid(person, first), _pv1(first), *map(_dg1, range(1, 99), facts)]
    elif first.kind == "note":
        text = str(first.values[0]).translate(_ESCAPES)
        kind = "MDM^T02"
        body = [
            _pid(person, first),
            _pv1(first),
            f"TXA|1|PN|TX|{hl7_time(first.event_at)}",
            f"OBX|1|TX|11506-3^Progress note^LN||{text}||||||F",
        ]
    else:
        kind, body = "ORU^R01", _results(person, drift, facts)
    return kind, _encode(first, kind, body)


def broken_message(person: Person, fact: Fact) -> bytes:
    """A message that nobody can use: without the patient's number, its own type or number, cut off, or in words."""
    if fact.form == "not_a_number":
        order = f"OBR|1|||{MEASURES['heart_rate'].code}^^LN|||{hl7_time(fact.event_at)}"
        said = f"OBX|1|NM|{MEASURES['heart_rate'].code}^^LN||see chart|/min|||||F"
        return _encode(fact, "ORU^R01", [_pid(person, fact), _pv1(fact), order, said])
    if fact.form == "no_number":
        return _encode(fact, "ADT^A04", [f"PID|1||||{person.identity.family}^{person.identity.given}", _pv1(fact)])
    message = _encode(fact, "" if fact.form == "no_type" else "ADT^A04", [_pid(person, fact), _pv1(fact)])
    if fact.form == "no_control_id":
        return b"|".join(b"" if number == 9 else part for number, part in enumerate(message.split(b"|")))
    return message[: message.index(b"PID|1|") + 6] + b"\r" if fact.form == "cut" else message


def _encode(fact: Fact, kind: str, body: list[str]) -> bytes:
    event = kind.partition("^")[2]
    control_id = f"{fact.id[:8]}{fact.id[-4:]}{fact.kind[0]}{fact.group[0]}{fact.version}"
    charset = "UNICODE UTF-8" if fact.visit % 3 else "8859/1"
    msh = f"MSH|^~\\&|SIMEHR|SIMHOSP|CUFF|CUFF|{hl7_time(fact.known_at)}||{kind}|{control_id}|P|2.5.1||||||{charset}"
    segments = [msh, f"EVN|{event}|{hl7_time(fact.known_at)}", *body]
    text = "\r".join(segments) + "\r"
    says_unicode = charset == "UNICODE UTF-8"
    if fact.quirk == "wrong_charset" and says_unicode:
        return text.encode("iso-8859-1", errors="replace")
    return text.encode("utf-8" if says_unicode else "iso-8859-1", errors="replace")


def _registration(person: Person, fact: Fact) -> tuple[str, list[str]]:
    if fact.values[0] == "replaced":
        surviving = fact.again(is_second_registration=False)
        return "ADT^A40", [_pid(person, surviving), f"MRG|{person.identity.second_mrn}^^^SIMHOSP^MR"]
    return ("ADT^A28" if fact.version == 1 else "ADT^A31"), [_pid(person, fact), "PV1|1|N"]


def _pid(person: Person, fact: Fact) -> str:
    identity = person.identity
    mrn = identity.second_mrn if fact.is_second_registration else identity.mrn
    name = f"{identity.family.translate(_ESCAPES)}^{identity.given.translate(_ESCAPES)}"
    address = f"{identity.street}^^{identity.city}^^{identity.postal_code}"
    died = fact.values[0] if fact.kind == "patient" and isinstance(fact.values[0], float) else None
    death = f"{hl7_time(int(died))}|Y" if died is not None else "|"
    born, sex = birth_date(person).replace("-", ""), "F" if person.is_woman else "M"
    return (
        f"PID|1||{mrn}^^^SIMHOSP^MR||{name}||{born}|{sex}|||{address}"
        f"||{identity.phone}|{'|' * 15}{death}"
    )


def _pv1(fact: Fact) -> str:
    code = _CLASS.get(str(fact.values[0]) if fact.values else "", "O")
    # Whoever is admitted leaves with a message of its own, ADT^A03.
    has_ended = fact.kind in ("discharge", "cancel") or (fact.kind == "encounter" and fact.values[0] == "AMB")
    end = hl7_time(int(float(fact.values[1]))) if has_ended else ""
    return f"PV1|1|{code}{'|' * 17}{fact.encounter_id}{'|' * 25}{hl7_time(fact.event_at)}|{end}"


def _dg1(number: int, fact: Fact) -> str:
    system, code, onset = fact.values
    name = "I10" if system == ICD10 else "SCT"
    day = as_date(float(onset)).strftime("%Y%m" if fact.quirk == "partial_date" else "%Y%m%d")
    return f"DG1|{number}||{code}^^{name}||{day}|F"


def _results(person: Person, drift: Drift, facts: Sequence[Fact]) -> list[str]:
    first = facts[0]
    order = f"{first.encounter_id[:8]}-{first.group}"
    taken = _taken(first)
    segments = [
        _pid(person, first),
        _pv1(first.again(values=())),
        f"OBR|1||{order}|{'29274-8' if first.group == 'vitals' else '24323-8'}^^LN|||{taken}",
    ]
    number = 0
    for fact in facts:
        for value_type, code, value, unit in _values(drift, fact):
            number += 1
            sub_id = fact.id[-2:]  # stays the same when a correction is sent alone
            segments.append(
                f"OBX|{number}|{value_type}|{code}|{sub_id}|{value}|{unit}|||||{_STATUS[fact.status]}"
                f"|||{_taken(fact)}"
            )
    return segments


def _taken(fact: Fact) -> str:
    text = hl7_time(fact.event_at, with_offset=fact.quirk != "no_offset")
    return text[:8] if fact.quirk == "date_only" else text


def _values(drift: Drift, fact: Fact) -> list[tuple[str, str, str, str]]:
    """OBX-2, OBX-3, OBX-5 and OBX-6 of each OBX that tells the fact."""
    changed = drift.codes_changed(fact.event_at)
    if fact.kind == "smoking_status":
        answer = str(fact.values[0])
        if changed:
            return [("CE", f"{NEW_SMOKING_CODE}^^{NEW_HL7_SYSTEM}", f"{answer[:3].upper()}^^{NEW_HL7_SYSTEM}", "")]
        return [("CE", f"{SMOKING_CODE}^^LN", f"{SMOKING_ANSWERS[answer]}^^SCT", "")]
    if fact.kind != "blood_pressure":
        number, unit = quantity(fact.kind, float(fact.values[0]), fact.quirk)
        return [("NM", f"{MEASURES[fact.kind].code}^^LN", f"{number:g}", unit)]
    systolic, diastolic = (float(value) for value in fact.values)
    if fact.quirk == "swapped":
        systolic, diastolic = diastolic, systolic
    if fact.quirk == "local_code":
        code = f"{NEW_BLOOD_PRESSURE_CODE}^^{NEW_HL7_SYSTEM}" if changed else "BP^Blood pressure^L"
        return [("ST", code, f"{systolic:.0f}/{diastolic:.0f}", "mm[Hg]")]
    codes = [f"{SYSTOLIC_CODE}^^LN", f"{DIASTOLIC_CODE}^^LN"]
    if changed:
        codes = [f"{NEW_BLOOD_PRESSURE_CODE}-{part}^^{NEW_HL7_SYSTEM}" for part in "SD"]
    pairs = [quantity(fact.kind, value, fact.quirk) for value in (systolic, diastolic)]
    return [("NM", code, f"{number:g}", unit) for code, (number, unit) in zip(codes, pairs, strict=True)]
