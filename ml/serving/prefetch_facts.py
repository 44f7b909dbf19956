"""A CDS Hooks prefetch as facts: what staging, the intermediate models and the core marts make of the same resources.

Nothing is recomputed by other rules than theirs: codes, units and ranges come from dbt's seeds, and the steps below name
the model that they follow. What cannot be used is left out and counted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from ml.serving.code_tables import CodeTables, Coding, code_tables
from ml.serving.fhir_reading import (
    BadEntry,
    Resource,
    codings,
    day,
    first_moment,
    known_at,
    moment,
    number_of,
    part,
    parts,
    pressure_pair,
    require_about,
    resources_of,
    unit_of,
)

_RETRACTED, _PRELIMINARY = ("entered-in-error", "cancelled"), ("registered", "preliminary")
_NOT_TAKEN = ("entered-in-error", "cancelled", "draft", "not-taken", "intended")  # macros/clinical_rules.sql, was_taken
_CALLED_OFF = ("entered-in-error", "cancelled", "planned")  # macros/clinical_rules.sql, took_place
_SEXES = ("female", "male", "other")
_PUBLISHED = ("http://loinc.org", "http://snomed.info/sct", "http://hl7.org/", "http://terminology.hl7.org/",
              "http://www.nlm.nih.gov/research/umls/rxnorm", "urn:oid:2.16.840.1.113883.")


@dataclass(frozen=True)
class Reading:
    """A blood pressure in mmHg, as one record or two told it."""

    event_at: datetime
    known_at: datetime
    key: str  # the record's own name: decides what nothing else decides
    systolic: float | None
    diastolic: float | None
    is_unit_known: bool
    is_preliminary: bool


@dataclass(frozen=True)
class Measurement:
    """A number in the measure's canonical unit, or the answer to the question about smoking."""

    event_at: datetime
    known_at: datetime
    key: str
    measure: str
    value: float | None
    value_code: str | None
    is_unit_known: bool


@dataclass(frozen=True)
class _Half:
    event_at: datetime
    known_at: datetime
    key: str
    number: float | None
    unit: str | None
    is_preliminary: bool


@dataclass
class Facts:
    """What a prefetch tells of one person. ``given`` are the prefetch keys that were answered, even with nothing."""

    sex: str | None = None
    birth_date: date | None = None
    died_date: date | None = None
    is_deceased: bool = False
    readings: list[Reading] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    conditions: list[tuple[datetime, str]] = field(default_factory=list)  # (event_at, concept)
    drugs: list[tuple[datetime, Coding | None, str | None]] = field(default_factory=list)  # (event_at, code, concept)
    visits: dict[str, datetime] = field(default_factory=dict)  # encounter → started_at
    given: set[str] = field(default_factory=set)
    ignored: int = 0  # entries that could not be used: another kind, another patient, no time, no code, no number


def read_prefetch(prefetch: dict[str, Any], patient_id: str, now: datetime) -> Facts:
    """Read ``patient``, ``observations``, ``conditions``, ``medications`` and ``encounters``. Never fails: what is bad in
    an entry drops the entry."""
    facts, tables = Facts(), code_tables()
    halves: tuple[list[_Half], list[_Half]] = ([], [])
    codes: dict[str, list[Coding]] = {}  # drugs that orders refer to, by id
    readers: dict[str, tuple[tuple[str, ...], Callable[[Resource], None]]] = {
        "patient": (("Patient",), lambda each: _patient(facts, each, now)),
        "observations": (("Observation",), lambda each: _observation(facts, tables, halves, each, now)),
        "conditions": (("Condition",), lambda each: _condition(facts, tables, each, now)),
        "medications": (("MedicationRequest", "MedicationStatement"), lambda each: _drug(facts, tables, codes, each, now)),
        "encounters": (("Encounter",), lambda each: _visit(facts, each)),
    }  # fmt: skip
    for name, (kinds, read) in readers.items():
        if prefetch.get(name) is None:
            continue
        try:
            resources = list(resources_of(prefetch[name]))
        except BadEntry:
            facts.ignored += 1
            continue
        facts.given.add(name)
        codes = {each["id"]: codings(each.get("code")) for each in resources if _is_drug(each)}
        for resource in resources:
            if _is_drug(resource):
                continue
            try:
                read(require_about(resource, patient_id, kinds))
            except BadEntry:
                facts.ignored += 1
    facts.readings += _paired(tables, *halves)
    return facts


def _patient(facts: Facts, patient: Resource, now: datetime) -> None:
    gender = patient.get("gender")
    facts.sex = gender if gender in _SEXES else "unknown"
    facts.birth_date = day(patient.get("birthDate"))
    died = patient.get("deceasedDateTime")
    facts.is_deceased = bool(patient.get("deceasedBoolean", died is not None))
    facts.died_date = (day(died) or now.date()) if facts.is_deceased else None


def _observation(facts: Facts, tables: CodeTables, halves: tuple[list[_Half], list[_Half]], resource: Resource,
                 now: datetime) -> None:  # fmt: skip
    """stg_fhir__observations and int_observations__coded."""
    event_at = first_moment(resource.get("effectiveDateTime"), part(resource, "effectivePeriod").get("start"),
                            resource.get("effectiveInstant"), resource.get("issued"), fallback=None)  # fmt: skip
    coded = codings(resource.get("code"))
    if not coded:
        raise BadEntry
    name = tables.concept_at("observation", coded, event_at.date())
    status = resource.get("status")
    if name is None or status in _RETRACTED:
        return
    told_at, key, is_preliminary = known_at(resource, now), _key(resource), status in _PRELIMINARY
    if name == "smoking_status":
        answers = [each for each in codings(resource.get("valueCodeableConcept"))
                   if each.system and each.system.startswith(_PUBLISHED)]  # fmt: skip
        answer = tables.concept_at("smoking", answers, event_at.date())
        facts.measurements.append(Measurement(event_at, told_at, key, name, None, answer, False))
        return
    components, pair = parts(resource, "component"), pressure_pair(resource)
    if name in ("blood_pressure", "systolic", "diastolic"):
        if pair is not None and not components:
            facts.readings.append(_reading(tables, event_at, told_at, key, *pair, unit_of(resource), is_preliminary))
        elif name == "blood_pressure" and components:
            facts.readings += _panel(tables, event_at, told_at, key, components, is_preliminary)
        elif name != "blood_pressure" and pair is None:
            half = _Half(event_at, told_at, key, number_of(resource), unit_of(resource), is_preliminary)
            halves[name == "diastolic"].append(half)
        else:
            raise BadEntry
        return
    number = number_of(resource)
    if number is None:
        raise BadEntry
    value = tables.convert(name, number, unit_of(resource), 3)
    facts.measurements.append(Measurement(event_at, told_at, key, name, value, None, value is not None))


def _panel(tables: CodeTables, event_at: datetime, told_at: datetime, key: str, components: list[Resource],
           is_preliminary: bool) -> list[Reading]:  # fmt: skip
    """int_blood_pressure__paired: panel_parts and whole_readings."""
    numbers: dict[str, list[float]] = {"systolic": [], "diastolic": []}
    units = []
    for component in components:
        for coding in codings(component.get("code")):
            concept = tables.concepts.get(("observation", coding.system or "", coding.code))
            if concept is not None and concept.name in numbers:
                units.append(unit_of(component))
                if (found := number_of(component)) is not None:
                    numbers[concept.name].append(found)
                break
    systolic, diastolic = (max(found, default=None) for found in numbers.values())
    unit = next((each for each in units if each is not None), None)
    return [_reading(tables, event_at, told_at, key, systolic, diastolic, unit, is_preliminary)]


def _reading(tables: CodeTables, event_at: datetime, told_at: datetime, key: str, systolic: float | None,
             diastolic: float | None, unit: str | None, is_preliminary: bool) -> Reading:  # fmt: skip
    converted = [None if each is None else tables.convert("blood_pressure", each, unit, 1) for each in (systolic, diastolic)]
    is_known = all(each is not None for each, sent in zip(converted, (systolic, diastolic), strict=True) if sent is not None)
    return Reading(event_at, told_at, key, converted[0], converted[1], is_known, is_preliminary)


def _paired(tables: CodeTables, systolic: list[_Half], diastolic: list[_Half]) -> Iterable[Reading]:
    """int_blood_pressure__paired: the nth systolic of a time goes with the nth diastolic; one without the other is none."""
    by_time: dict[datetime, tuple[list[_Half], list[_Half]]] = {}
    for side, halves in enumerate((systolic, diastolic)):
        for half in sorted(halves, key=lambda each: each.key):
            by_time.setdefault(half.event_at, ([], []))[side].append(half)
    for event_at, (uppers, lowers) in by_time.items():
        for upper, lower in zip(uppers, lowers, strict=False):
            yield _reading(tables, event_at, max(upper.known_at, lower.known_at), upper.key, upper.number, lower.number,
                           upper.unit if upper.unit is not None else lower.unit,
                           upper.is_preliminary or lower.is_preliminary)  # fmt: skip


def _condition(facts: Facts, tables: CodeTables, resource: Resource, now: datetime) -> None:
    """stg_fhir__conditions and fct_conditions: a resolved one still tells that it was there."""
    event_at = first_moment(resource.get("onsetDateTime"), part(resource, "onsetPeriod").get("start"),
                            resource.get("recordedDate"), fallback=known_at(resource, now))  # fmt: skip
    coded = codings(resource.get("code"))
    if not coded:
        raise BadEntry
    verification = [each.code for each in codings(resource.get("verificationStatus"))][:1]
    name = tables.concept_at("condition", coded, event_at.date())
    if name is not None and verification not in (["entered-in-error"], ["refuted"]):
        facts.conditions.append((event_at, name))


def _is_drug(resource: Any) -> bool:
    return isinstance(resource, dict) and resource.get("resourceType") == "Medication" and isinstance(resource.get("id"), str)


def _drug(facts: Facts, tables: CodeTables, codes: dict[str, list[Coding]], resource: Resource, now: datetime) -> None:
    """stg_fhir__medications and fct_medications; the drug in place, inside the order, or beside it in the answer."""
    event_at = first_moment(
        resource.get("effectiveDateTime"), part(resource, "effectivePeriod").get("start"), resource.get("effectiveInstant"),
        resource.get("authoredOn"), resource.get("dateAsserted"), fallback=known_at(resource, now))  # fmt: skip
    coded = codings(resource.get("medicationCodeableConcept"))
    reference = part(resource, "medicationReference").get("reference")
    if not coded and isinstance(reference, str):
        inside = {f"#{each.get('id')}": codings(each.get("code")) for each in parts(resource, "contained")}
        coded = inside.get(reference) or codes.get(reference.replace(":", "/").rsplit("/", 1)[-1], [])
    if not coded:
        raise BadEntry
    if resource.get("status") in _NOT_TAKEN:
        return
    facts.drugs.append((event_at, tables.first_mapped("drug", coded)[0], tables.concept_at("drug", coded, event_at.date())))


def _visit(facts: Facts, resource: Resource) -> None:
    """stg_fhir__encounters and fct_encounters: one that has no start counts for nothing."""
    text = part(resource, "period").get("start")
    started_at = moment(text)
    if text is not None and started_at is None:
        raise BadEntry
    if started_at is not None and resource.get("status") not in _CALLED_OFF:
        facts.visits[_key(resource) or f"{len(facts.visits)}"] = started_at


def _key(resource: Resource) -> str:
    identifier = resource.get("id")
    return identifier if isinstance(identifier, str) else ""
