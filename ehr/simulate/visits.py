"""A person's life with the hospital: visits, what is measured at them, diagnoses and prescriptions."""

from dataclasses import dataclass, field
from hashlib import blake2b
from math import inf

import numpy as np

from ehr.simulate.clock import DAY, YEAR
from ehr.simulate.drift import Drift
from ehr.simulate.facts import Fact, Value
from ehr.simulate.options import SimulationOptions
from ehr.simulate.world import VISIT_STREAM, Calendar, Person, stream

SNOMED = "http://snomed.info/sct"
ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
HYPERTENSION_CODES = ((ICD10, "I10"), (SNOMED, "59621000"), (SNOMED, "38341003"))
DIABETES_CODES = ((ICD10, "E11.9"), (SNOMED, "44054006"))
KIDNEY_DISEASE_CODES = ((ICD10, "N18.3"), (SNOMED, "433144002"))
# RxNorm: lisinopril 10 mg, amlodipine 5 mg, hydrochlorothiazide 25 mg, losartan 50 mg oral tablets
ANTIHYPERTENSIVES = ("314076", "197361", "310798", "979492")
METFORMIN, STATIN = "860975", "617310"
IGNORED_TYPES = ("Immunization", "Procedure", "AllergyIntolerance", "CarePlan", "Claim")
MAX_VISITS_PER_YEAR = 8.0
SYSTOLIC_NOISE_MMHG, DIASTOLIC_NOISE_MMHG = 8.5, 5.5


@dataclass
class Life:
    """The facts of one person in the order they happened, and how often chance was asked (``candidates``)."""

    facts: list[Fact] = field(default_factory=list)
    candidates: int = 0
    visits: int = 0
    diagnosed_at: float = inf
    treated_at: float = inf
    second_high_at: float = inf
    second_registration_until: float = 0.0  # by which number the person went, see mess


def live(options: SimulationOptions, calendar: Calendar, drift: Drift, person: Person) -> Life:
    """Everything that is recorded about ``person``, free of mess. Each visit owns its random numbers, so a visit that a
    drift removes or changes leaves the others as they were."""
    rng = stream(options, person.index, VISIT_STREAM)
    years = (calendar.horizon - calendar.start) / YEAR
    number = int(years * MAX_VISITS_PER_YEAR)
    times = np.sort(rng.random(number)) * (calendar.horizon - calendar.start) + calendar.start
    # A visit lies in office hours: 13 to 22 UTC.
    moments = (times // DAY * DAY + 13 * 3600 + (times % DAY) * 9 / 24).astype(np.int64).tolist()
    u = rng.random((number, 24)).tolist()
    z = rng.standard_normal((number, 16)).tolist()
    life = Life(candidates=number)
    clinic = _Clinic(person, drift, life, options)
    for visit, at in enumerate(moments):
        if person.joins_at <= at < person.last_seen_by() and u[visit][0] < clinic.visit_rate(at) / MAX_VISITS_PER_YEAR:
            clinic.visit(visit, at, u[visit], z[visit], visit_uuid(options.seed, person.index, visit))
    return life


def visit_uuid(seed: int, index: int, visit: int) -> str:
    """The encounter's id; its last two digits are free for the facts of the visit."""
    digits = blake2b(f"{seed}/{index}/{visit}".encode(), digest_size=15).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:30]}00"


class _Clinic:
    """Sees one person, visit after visit, and remembers what a physician would."""

    def __init__(self, person: Person, drift: Drift, life: Life, options: SimulationOptions) -> None:
        self.person, self.drift, self.life, self.options = person, drift, life, options
        self.last_was_high = False
        self.high_days: set[int] = set()
        self.has_recorded: set[str] = set()
        self.prescribed_at = -inf

    def visit_rate(self, at: float) -> float:
        """Visits a year."""
        person = self.person
        age = person.age_years(at)
        rate = 1.55 + 0.017 * max(0.0, age - 35) + 0.012 * max(0.0, age - 65)
        rate += 0.9 * (at > person.diabetes_at) + 0.7 * (at > person.kidney_disease_at)
        rate += 0.9 * (self.life.diagnosed_at < at) + 0.5 * (person.onset_at < at)
        return min(MAX_VISITS_PER_YEAR, rate * person.visits_multiplier) * self.drift.visit_share(at, age)

    def visit(self, number: int, at: int, u: list[float], z: list[float], encounter_id: str) -> None:
        self.life.visits += 1
        self._number, self._at, self._encounter = number, at, encounter_id
        person = self.person
        kind = "EMER" if u[1] < 0.05 else "IMP" if u[1] < 0.07 else "AMB"
        self._tell("encounter", "encounter", 0, kind, at + int((20 + 40 * u[2]) * 60) * (40 if kind == "IMP" else 1))
        if u[3] < 0.93:
            self._take_blood_pressure(at, u, z)
        self._measure_body(at, u, z)
        if u[4] < (0.34 if person.age_years(at) > 40 else 0.2):
            self._draw_blood(at, u, z)
        self._chart(at, u)

    def _tell(self, kind: str, group: str, slot: int, *values: Value) -> None:
        self.life.facts.append(
            Fact(
                kind=kind,
                id=f"{self._encounter[:-2]}{slot:02x}",
                group=group,
                visit=self._number,
                event_at=self._at,
                known_at=self._at,
                sent_at=self._at,
                values=values,
                encounter_id=self._encounter,
            )
        )

    def _take_blood_pressure(self, at: int, u: list[float], z: list[float]) -> None:
        reading = self._read(at, u[5], z[0], z[1])
        self._tell("blood_pressure", "vitals", 1, *reading)
        if u[6] < self.options.rates.repeated_reading:
            again = self._read(at, u[7], 0.7 * z[0] + 0.7 * z[2], 0.7 * z[1] + 0.7 * z[3])
            self._tell("blood_pressure", "vitals", 2, *again)
        is_high = reading[0] >= 140 or reading[1] >= 90
        if is_high:
            self.high_days.add(at // DAY)
            if len(self.high_days) == 2:
                self.life.second_high_at = min(self.life.second_high_at, at)
        if self.life.diagnosed_at == inf:
            is_known = self.person.is_prevalent and self.person.was_diagnosed_before
            if is_known or (is_high and self.last_was_high and u[8] < 0.7):
                self._diagnose(at, u[9], is_known)
        self.last_was_high = is_high

    def _read(self, at: int, digit: float, systolic_z: float, diastolic_z: float) -> tuple[float, float]:
        """One reading, whole mmHg; a third of readings are rounded to the nearest ten, as people do."""
        systolic, diastolic = self.person.blood_pressure(at, self.life.treated_at)
        shift = self.drift.reading_shift_mmhg(at)
        systolic += SYSTOLIC_NOISE_MMHG * systolic_z + shift
        diastolic += DIASTOLIC_NOISE_MMHG * (0.5 * systolic_z + 0.866 * diastolic_z) + shift
        grain = 10 if digit < 0.15 else 2 if digit < 0.75 else 1
        systolic, diastolic = grain * round(systolic / grain), grain * round(diastolic / grain)
        return float(max(70, systolic)), float(min(max(35, diastolic), systolic - 15))

    def _diagnose(self, at: int, u: float, is_known: bool) -> None:
        self.life.diagnosed_at = at
        system, code = HYPERTENSION_CODES[int(u * 3)]
        onset = int(max(self.person.onset_at, self.person.born_at)) if is_known else at
        self._tell("condition", "chart", 3, system, code, onset)

    def _measure_body(self, at: int, u: list[float], z: list[float]) -> None:
        person = self.person
        if u[10] < 0.75:
            self._tell("heart_rate", "vitals", 4, float(round(73 + 4 * person.is_woman + 9 * z[4])))
        bmi = person.bmi(at) + 0.25 * z[5]
        metres = person.height_cm / 100
        if u[11] < 0.6:
            self._tell("body_weight", "vitals", 5, round(bmi * metres * metres, 1))
        if u[11] < 0.25:
            self._tell("bmi", "vitals", 6, round(bmi, 1))
        if u[12] < 0.12 or "height" not in self.has_recorded:
            self.has_recorded.add("height")
            self._tell("body_height", "vitals", 7, round(person.height_cm + 0.4 * z[6], 1))
        if u[13] < 0.15 or ("smoking" not in self.has_recorded and u[13] < 0.6):
            self.has_recorded.add("smoking")
            self._tell("smoking_status", "chart", 8, person.smoking)

    def _draw_blood(self, at: int, u: list[float], z: list[float]) -> None:
        person = self.person
        is_diabetic, has_kidney_disease = at > person.diabetes_at, at > person.kidney_disease_at
        age, overweight = person.age_years(at), person.bmi(at) - 26
        if u[14] < 0.9:
            glucose = 90 + 0.12 * (age - 40) + 0.7 * overweight + (62 + 28 * z[7] if is_diabetic else 8 * z[7])
            self._tell("glucose", "labs", 9, float(round(max(55, glucose))))
        if u[15] < (0.9 if is_diabetic else 0.2):
            hba1c = 5.3 + 0.006 * (age - 40) + 0.02 * overweight + (1.9 + 0.9 * z[8] if is_diabetic else 0.25 * z[8])
            self._tell("hba1c", "labs", 10, round(max(4.0, hba1c), 1))
        if u[16] < 0.85:
            creatinine = (0.78 if person.is_woman else 0.98) * (1 + 0.12 * z[9]) * (1.75 if has_kidney_disease else 1)
            self._tell("creatinine", "labs", 11, round(max(0.4, creatinine), 2))
        if u[17] < 0.5:
            ldl, hdl, triglycerides = (
                118 + 28 * z[10],
                54 + 6 * person.is_woman + 11 * z[11],
                128 * float(np.exp(0.4 * z[12])),
            )
            ldl, hdl = max(40.0, ldl), max(22.0, hdl - 0.4 * overweight)
            self._tell("total_cholesterol", "labs", 12, float(round(ldl + hdl + triglycerides / 5)))
            self._tell("ldl", "labs", 13, float(round(ldl)))
            self._tell("hdl", "labs", 14, float(round(hdl)))
            self._tell("triglycerides", "labs", 15, float(round(triglycerides)))

    def _chart(self, at: int, u: list[float]) -> None:
        person, life = self.person, self.life
        for slot, name, since, codes in (
            (16, "diabetes", person.diabetes_at, DIABETES_CODES),
            (17, "kidney disease", person.kidney_disease_at, KIDNEY_DISEASE_CODES),
        ):
            if at > since and name not in self.has_recorded and u[slot] < 0.6:
                self.has_recorded.add(name)
                self._tell("condition", "chart", slot, *codes[int(u[slot] / 0.6 * 2)], int(max(since, person.born_at)))
        if (
            life.diagnosed_at <= at
            and at - self.prescribed_at > 300 * DAY
            and u[18] < (0.8 if life.treated_at == inf else 0.6)
        ):
            self.prescribed_at = at
            life.treated_at = min(life.treated_at, at)
            self._tell("medication", "chart", 18, ANTIHYPERTENSIVES[int(person.visits_multiplier * 1000) % 4])
        if at > person.diabetes_at and u[19] < 0.25:
            self._tell("medication", "chart", 19, METFORMIN if u[19] < 0.2 else STATIN)
        if u[20] < 0.08 or ("history" not in self.has_recorded and u[20] < 0.5):
            self.has_recorded.add("history")
            self._tell("note", "note", 20, _note(person))
        if u[21] < self.options.rates.ignored_resource:
            kind = IGNORED_TYPES[int(u[21] / self.options.rates.ignored_resource * len(IGNORED_TYPES))]
            self._tell("ignored", "ignored", 21, kind)


def _note(person: Person) -> str:
    history = (
        "No family history of high blood pressure.",
        "One parent with hypertension.",
        "Both parents have hypertension.",
    )[person.parents]
    return (
        f"{person.identity.given} {person.identity.family} seen today. {history} Reachable at {person.identity.phone}."
    )
