"""What the hospital knows and tells: one fact is one thing observed, in one version, sent at one moment."""

from dataclasses import dataclass, replace

Value = float | str


@dataclass(slots=True)
class Fact:
    """``values`` by kind: blood_pressure (systolic, diastolic mmHg), a measure (number in canonical unit), smoking
    (current|former|never), condition (system, code, onset seconds), medication (RxNorm code), note (text),
    ignored (type), encounter, cancel and discharge (class code, end seconds), patient ('', seconds of death, or 'replaced')."""

    kind: str
    id: str
    group: str  # facts of one visit and group travel together: encounter | vitals | labs | chart | note | patient
    visit: int
    event_at: int
    known_at: int  # the version's own time: meta.lastUpdated, MSH-7
    sent_at: int  # when it went over the wire: later than known_at for a duplicate
    values: tuple[Value, ...]
    encounter_id: str = ""
    status: str = "final"
    version: int = 1
    quirk: str = ""  # the one thing that is odd about its form
    reference: str = ""  # how FHIR names the patient: urn | absolute | conditional, else relative
    form: str = ""  # of a drug: contained | referenced, else coded in place; of a broken copy: what is wrong with it
    is_second_registration: bool = False
    is_duplicate: bool = False

    def again(self, **changes: object) -> "Fact":
        return replace(self, **changes)  # type: ignore[arg-type]
