"""The people of the synthetic hospital and what is truly the matter with them.

Everything about a person comes from ``(seed, index)`` alone, so no option about windows or drift can move a draw.
Blood pressure without disease follows a straight line; hypertension starts when the accumulated Framingham hazard,
taken anew at each landmark from the person's true values, passes an exponential threshold drawn once.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, timedelta
from math import exp, inf
from uuid import UUID

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from ehr.simulate.clock import DAY, YEAR, instant, landmarks_between, years_before
from ehr.simulate.drift import NEW_CLINIC_CHART_DAYS, Drift
from ehr.simulate.framingham import cumulative_hazard, linear_predictor
from ehr.simulate.names import Identity, draw_identity
from ehr.simulate.options import HORIZON_DAYS, SimulationOptions

PERSON_STREAM, VISIT_STREAM, MESS_STREAM = 0, 1, 2
RAMP_SECONDS = 150 * DAY  # from onset to the hypertensive level
TREATMENT_SECONDS = 60 * DAY  # from prescription to its full effect
ADULT_AGE_YEARS = 18.0
MAX_SCORED_AGE_YEARS = 85.0


@dataclass(frozen=True)
class Calendar:
    """When the world begins and ends, and the steps at which the hazard is taken anew."""

    start: int
    end: int
    horizon: int
    steps: np.ndarray  # seconds; the last one closes the last step, a year after the horizon
    landmarks: tuple[date, ...]


def calendar_of(options: SimulationOptions) -> Calendar:
    first = years_before(options.end, options.years)
    last = options.end + timedelta(days=HORIZON_DAYS)
    far = last + timedelta(days=366)
    inner = [day for day in landmarks_between(first, far) if first < day < far]
    steps = np.array([instant(day) for day in (first, *inner, far)], dtype=np.float64)
    return Calendar(instant(first), instant(options.end), instant(last), steps, tuple(landmarks_between(first, last)))


@dataclass(slots=True)
class Person:
    """One person: fixed traits, latent trajectories, and when things happen (seconds; infinite: never)."""

    index: int
    fhir_id: str
    second_fhir_id: str
    identity: Identity
    is_woman: bool
    born: date
    born_at: int
    height_cm: float
    bmi_start: float
    bmi_per_year: float
    smoking: str  # current | former | never
    parents: int
    diabetes_at: float
    kidney_disease_at: float
    systolic_start: float
    systolic_per_year: float
    diastolic_start: float
    diastolic_per_year: float
    systolic_peak: float
    diastolic_peak: float
    drug_effect: float
    onset_at: float
    is_prevalent: bool
    was_diagnosed_before: bool
    joins_at: float
    moves_at: float
    dies_at: float
    visits_multiplier: float
    routes: str  # ndjson | bundle | hl7v2 | mixed
    hazards: np.ndarray  # per step, for as long as there is no hypertension
    world_start: int

    def age_years(self, at: float) -> float:
        return (at - self.born_at) / YEAR

    def bmi(self, at: float) -> float:
        return self.bmi_start + self.bmi_per_year * (at - self.world_start) / YEAR

    def blood_pressure(self, at: float, treated_at: float = inf) -> tuple[float, float]:
        """True systolic and diastolic pressure, mmHg."""
        years = (at - self.world_start) / YEAR
        systolic = self.systolic_start + self.systolic_per_year * years
        diastolic = self.diastolic_start + self.diastolic_per_year * years
        if at > self.onset_at:
            share = min(1.0, (at - self.onset_at) / RAMP_SECONDS)
            systolic += share * max(10.0, self.systolic_peak - systolic)
            diastolic += share * max(5.0, self.diastolic_peak - diastolic)
        if at > treated_at:
            share = min(1.0, (at - treated_at) / TREATMENT_SECONDS)
            systolic -= share * self.drug_effect
            diastolic -= share * self.drug_effect * 0.55
        return systolic, diastolic

    def last_seen_by(self) -> float:
        return min(self.moves_at, self.dies_at)


def stream(options: SimulationOptions, index: int, name: int) -> Generator:
    """The random numbers of one person for one purpose."""
    return Generator(PCG64(SeedSequence((options.seed, index, name))))


def random_uuid(rng: Generator) -> str:
    return str(UUID(bytes=rng.bytes(16), version=4))


def draw_person(options: SimulationOptions, calendar: Calendar, drift: Drift, index: int) -> Person:
    """The person of this index; indices from ``options.patients`` on belong to the clinic that joins with the drift."""
    rng = stream(options, index, PERSON_STREAM)
    u = [float(x) for x in rng.random(20)]
    z = [float(x) for x in rng.standard_normal(12)]
    start = calendar.start
    is_new_clinic = index >= options.patients
    age = _age_at_start(u[0], u[1])
    joins_at = start + u[2] * 60 * DAY if u[3] < 0.8 else start + u[2] * (calendar.horizon - start)
    if is_new_clinic:
        joins_at = drift.starts_at - (0.6 + 0.4 * u[2]) * NEW_CLINIC_CHART_DAYS * DAY
        age = 18.3 + 10.5 * u[1] - (joins_at - start) / YEAR
    is_woman = u[4] < 0.52
    born_at = int(start - age * YEAR) // DAY * DAY
    bmi = 26.2 + 4.3 * z[0] + 0.9 * z[0] * z[0] + 0.03 * (min(age, 60) - 45)
    bmi = min(52.0, max(16.5, bmi))
    smoking = "current" if u[5] < 0.17 else "former" if u[5] < 0.38 and age > 22 else "never"
    parents = int(u[6] < 0.48) + int(u[6] < 0.12)
    older = max(0.0, age - 20)
    systolic = 113.0 + 0.16 * older + 0.45 * (bmi - 26) - 2.0 * is_woman + 1.5 * parents + 6.5 * z[1]
    diastolic = (
        72.0
        + 0.10 * min(older, 40)
        + 0.28 * (bmi - 26)
        - 1.0 * is_woman
        + 0.8 * parents
        + 4.2 * (0.6 * z[1] + 0.8 * z[2])
    )
    systolic, diastolic = min(132.0, systolic), min(84.0, diastolic)
    odds = exp(-4.3 + 0.052 * older + 0.07 * (bmi - 26) + 0.35 * parents + 0.3 * (smoking == "current"))
    is_prevalent = age > ADULT_AGE_YEARS and u[7] < odds / (1 + odds)
    diabetes_rate = 0.0035 * exp(0.045 * (age - 45) + 0.09 * (bmi - 27))
    kidney_rate = 0.0025 * exp(0.055 * (age - 50))
    death_rate = 0.0006 * exp(0.088 * (age - 45))
    person = Person(
        index=index,
        fhir_id=random_uuid(rng),
        second_fhir_id=random_uuid(rng),
        identity=draw_identity(rng, index, is_woman),
        is_woman=is_woman,
        born=date.fromordinal(date(1970, 1, 1).toordinal() + born_at // DAY),
        born_at=born_at,
        height_cm=(162.5 if is_woman else 176.5) + 6.8 * z[3],
        bmi_start=bmi,
        bmi_per_year=0.12 + 0.28 * z[4],
        smoking=smoking,
        parents=parents,
        diabetes_at=_event_time(u[8], diabetes_rate, start, 12.0),
        kidney_disease_at=_event_time(u[9], kidney_rate, start, 8.0),
        systolic_start=systolic,
        systolic_per_year=0.45 + 0.35 * z[5],
        diastolic_start=diastolic,
        diastolic_per_year=(0.22 if age < 55 else -0.15) + 0.22 * z[6],
        systolic_peak=151.0 + 6.5 * z[7],
        diastolic_peak=93.0 - 0.12 * max(0.0, age - 55) + 4.0 * z[8],
        drug_effect=max(5.0, 16.0 + 5.0 * z[9]),
        onset_at=inf,
        is_prevalent=is_prevalent,
        was_diagnosed_before=u[10] < 0.82,
        joins_at=joins_at,
        moves_at=_event_time(u[11], 0.028, joins_at, 0.0),
        dies_at=_event_time(u[12], death_rate, start, 0.0),
        visits_multiplier=float(rng.gamma(6.0, 1 / 6.0)),
        routes="ndjson" if u[13] < 0.62 else "bundle" if u[13] < 0.74 else "hl7v2" if u[13] < 0.87 else "mixed",
        hazards=np.empty(0),
        world_start=start,
    )
    person.hazards = _hazards(person, calendar.steps)
    if is_prevalent:
        person.onset_at = start - (0.5 + 8.0 * u[14]) * YEAR
    else:
        person.onset_at = _onset(calendar.steps, person.hazards, -np.log1p(-u[15]))
    return person


def _age_at_start(which: float, u: float) -> float:
    """Mostly adults, a few minors, thinning out towards 90."""
    if which < 0.05:
        return 8.0 + 10.0 * u
    return 18.0 + 72.0 * (0.75 * u + 0.25 * u * u * u)


def _event_time(u: float, rate_per_year: float, start: float, years_at_risk_before: float) -> float:
    """Exponential waiting time that began ``years_at_risk_before`` the start; infinite beyond forty years."""
    waited = -float(np.log1p(-u)) / max(rate_per_year, 1e-9)
    return start + (waited - years_at_risk_before) * YEAR if waited < 40 else inf


def _hazards(person: Person, steps: np.ndarray) -> np.ndarray:
    """Expected onsets in each step: the yearly Framingham hazard at the step's start times its length in years."""
    years = (steps[:-1] - person.world_start) / YEAR
    age = (steps[:-1] - person.born_at) / YEAR
    predictor = linear_predictor(
        age,
        person.is_woman,
        person.bmi_start + person.bmi_per_year * years,
        person.systolic_start + person.systolic_per_year * years,
        person.diastolic_start + person.diastolic_per_year * years,
        person.smoking == "current",
        person.parents,
    )
    return np.where(age >= ADULT_AGE_YEARS, cumulative_hazard(predictor, 1.0) * np.diff(steps) / YEAR, 0.0)


def _onset(steps: np.ndarray, hazards: np.ndarray, threshold: float) -> float:
    """When the accumulated hazard passes the threshold; infinite if it does not."""
    accumulated = np.concatenate(([0.0], np.cumsum(hazards)))
    step = bisect_right(accumulated.tolist(), threshold) - 1
    if step >= len(hazards):
        return inf
    share = (threshold - accumulated[step]) / hazards[step]
    return float(steps[step] + share * (steps[step + 1] - steps[step]))
