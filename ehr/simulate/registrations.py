"""When a person is registered, registered a second time by mistake, merged, and reported dead."""

from math import isfinite

from ehr.simulate.clock import DAY
from ehr.simulate.facts import Fact
from ehr.simulate.visits import Life
from ehr.simulate.world import Person


def registrations(person: Person, life: Life, facts: list[Fact]) -> list[Fact]:
    """The ``patient`` facts that go with a person's other facts; none for somebody who was never seen."""
    if not facts:
        return []
    first = min(fact.sent_at for fact in facts)
    told = [_patient(person, 1, first - 60, "")]
    second = [fact for fact in facts if fact.is_second_registration]
    if second:
        begins = min(f.sent_at for f in second)
        merged = max(begins, int(life.second_registration_until)) + 9 * DAY
        told.append(_patient(person, 1, begins - 30, "", is_second=True))
        told.append(_patient(person, 2, merged, "replaced", is_second=True))
    if isfinite(person.dies_at) and person.dies_at > first:
        told.append(_patient(person, 2, int(person.dies_at) + 3 * DAY, float(int(person.dies_at))))
    if person.routes in ("hl7v2", "mixed"):
        # These are registered by both routes, which is how the two sets of numbers meet.
        told += [fact.again(id=fact.id + "h", sent_at=fact.sent_at + 5, known_at=fact.known_at + 5) for fact in told]
    return told


def _patient(person: Person, version: int, at: int, value: float | str, is_second: bool = False) -> Fact:
    return Fact(
        kind="patient",
        id=(person.second_fhir_id if is_second else person.fhir_id),
        group="patient",
        visit=1,
        event_at=at,
        known_at=at,
        sent_at=at,
        values=(value,),
        version=version,
        is_second_registration=is_second,
    )
