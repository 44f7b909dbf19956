"""Which way a fact travels."""

from ehr.simulate.facts import Fact
from ehr.simulate.world import Person


def route_of(person: Person, fact: Fact) -> str:
    """``ndjson``, ``bundle`` or ``hl7v2``. Medications have no HL7 v2 message here, so everybody's go by FHIR."""
    if person.routes in ("ndjson", "bundle"):
        return person.routes
    if fact.kind == "patient":
        return "hl7v2" if fact.values[0] == "replaced" or fact.id.endswith("h") else "ndjson"
    if fact.kind in ("medication", "ignored") or (person.routes == "mixed" and fact.visit % 2):
        return "ndjson"
    return "hl7v2"
