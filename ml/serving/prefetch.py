"""Features of one person from a CDS Hooks prefetch, by the definitions of ``clinical.ml.patient_features``.

Each step says which part of ``dbt_project/models/marts/ml/patient_features.sql`` it follows; a test holds both to each
other for the same facts. A prefetch key that was not answered leaves its features absent: 0 visits, or no diabetes, is
something to be told, not to be assumed.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeVar

from ml.features.catalog import FEATURE_NAMES
from ml.serving.code_tables import code_tables, round_like_duckdb
from ml.serving.prefetch_facts import Facts, Measurement, Reading, read_prefetch

# Prefetch key → FHIR search, as the discovery document tells EHRs. `patient` alone is indispensable.
PREFETCH = {
    "patient": "Patient/{{context.patientId}}",
    "observations": "Observation?patient={{context.patientId}}&_sort=-date&_count=1000",
    "conditions": "Condition?patient={{context.patientId}}&_count=500",
    "medications": "MedicationRequest?patient={{context.patientId}}&_include=MedicationRequest:medication&_count=500",
    "encounters": "Encounter?patient={{context.patientId}}&_sort=-date&_count=500",
}
LAST_VALUES = {
    "heart_rate": "heart_rate_last_bpm", "glucose": "glucose_last_mg_dl", "hba1c": "hba1c_last_pct",
    "creatinine": "creatinine_last_mg_dl", "egfr": "egfr_last_ml_min", "total_cholesterol": "total_cholesterol_last_mg_dl",
    "ldl": "ldl_last_mg_dl", "hdl": "hdl_last_mg_dl", "triglycerides": "triglycerides_last_mg_dl",
}  # fmt: skip
HIGH_SYSTOLIC_MMHG, HIGH_DIASTOLIC_MMHG = 140, 90  # macros/clinical_rules.sql, is_high
_SECONDS_PER_YEAR = 365.25 * 86400
Value = float | bool | str | None
Fact = TypeVar("Fact", bound=Reading | Measurement)


@dataclass(frozen=True)
class PrefetchedPerson:
    """``values`` and ``observed_on`` name every feature. ``ineligible_reason`` is as in ``clinical.ml.patient_eligibility``,
    or None; ``ignored`` counts entries that could not be used."""

    values: dict[str, Value]
    observed_on: dict[str, date | None]
    feature_date: date
    ineligible_reason: str | None
    ignored: int


def person_from_prefetch(prefetch: dict[str, Any], patient_id: str, now: datetime | None = None) -> PrefetchedPerson:
    """Features on the day of ``now`` (UTC), which includes the whole of that day. Never fails over what is in an entry."""
    now = now or datetime.now(UTC)
    window = _Window(now.astimezone(UTC).date())
    facts = read_prefetch(prefetch, patient_id, now)
    told: dict[str, tuple[Value, date | None]] = {}
    readings = _plausible_readings(facts, window)
    told |= _patient(facts, window)
    told |= _pressure(readings, window, "observations" in facts.given)
    measurements = _plausible_measurements(facts, window)
    told |= _measured(measurements) | _body_mass(measurements, window) | _history(facts, window)
    pairs = {name: told.get(name, (None, None)) for name in FEATURE_NAMES}
    return PrefetchedPerson(
        {name: value for name, (value, _) in pairs.items()},
        {name: day if value is not None else None for name, (value, day) in pairs.items()},
        window.feature_date, _ineligible_reason(facts, readings, window), facts.ignored,
    )  # fmt: skip


@dataclass(frozen=True)
class _Window:
    """The spine's bounds of one feature date."""

    feature_date: date

    @property
    def cutoff_at(self) -> datetime:
        return datetime.combine(self.feature_date + timedelta(1), time(), UTC)

    @property
    def year_before_at(self) -> datetime:
        return self.cutoff_at - timedelta(365)

    @property
    def slope_from_at(self) -> datetime:
        cutoff = self.cutoff_at
        leap_day = (cutoff.month, cutoff.day) == (2, 29)  # SQL's interval goes to the last day of that month
        return cutoff.replace(year=cutoff.year - 3, day=28 if leap_day else cutoff.day)


def _merged(facts: Iterable[Fact], content: Callable[[Fact], tuple[object, ...]]) -> list[list[Fact]]:
    """Versions of the same fact, by minute and content, told first to told last (dbt's macro ``merge_routes``)."""
    groups: dict[tuple[object, ...], list[Fact]] = {}
    for fact in sorted(facts, key=lambda one: (one.known_at, one.key)):
        minute = fact.event_at.replace(second=0, microsecond=0)
        groups.setdefault((minute, *content(fact)), []).append(fact)
    return list(groups.values())


def _plausible_readings(facts: Facts, window: _Window) -> list[Reading]:
    """fct_blood_pressure, and the model's ``blood_pressure``: oldest first."""
    tables, kept = code_tables(), []
    for group in _merged(facts.readings, lambda each: (each.systolic, each.diastolic, each.is_unit_known)):
        reading, is_preliminary = group[0], group[-1].is_preliminary
        if reading.systolic is None or reading.diastolic is None or not reading.is_unit_known or is_preliminary:
            continue
        is_plausible = (tables.is_plausible("systolic", reading.systolic) and reading.systolic > reading.diastolic
                        and tables.is_plausible("diastolic", reading.diastolic))  # fmt: skip
        if is_plausible and reading.event_at < window.cutoff_at:
            kept.append(reading)
    return sorted(kept, key=lambda each: (each.event_at, each.known_at, each.key))


def _plausible_measurements(facts: Facts, window: _Window) -> list[Measurement]:
    """fct_measurements, and the model's ``measurements``: oldest first, BMI as sent after a weight of the same moment."""
    tables, kept = code_tables(), []
    for group in _merged(facts.measurements, lambda each: (each.measure, each.value, each.value_code, each.is_unit_known)):
        one = group[0]
        is_plausible = one.value_code is not None if one.measure == "smoking_status" else (
            one.value is not None and one.is_unit_known and tables.is_plausible(one.measure, one.value))  # fmt: skip
        if is_plausible and one.event_at < window.cutoff_at:
            kept.append(one)
    return sorted(kept, key=lambda each: (each.event_at, each.measure == "bmi", each.known_at, each.key))


def _patient(facts: Facts, window: _Window) -> dict[str, tuple[Value, date | None]]:
    today = window.feature_date
    age = None if facts.birth_date is None else (today - facts.birth_date).days / 365.25
    return {"age_years": (age, today), "sex": (facts.sex, today)}


def _pressure(readings: list[Reading], window: _Window, is_given: bool) -> dict[str, tuple[Value, date | None]]:
    """``pressure_features``."""
    today, count = window.feature_date, float(sum(each.event_at >= window.year_before_at for each in readings))
    told: dict[str, tuple[Value, date | None]] = {"blood_pressure_count_12m": (count if is_given else None, today)}
    if not readings:
        return told
    newest = readings[-1]
    systolic, diastolic = _numbers(newest)
    newest_day = newest.event_at.date()
    recent = [_numbers(each) for each in readings if each.event_at >= window.year_before_at]
    for_slope = [each for each in readings if each.event_at >= window.slope_from_at]
    return told | {
        "systolic_last_mmhg": (systolic, newest_day), "diastolic_last_mmhg": (diastolic, newest_day),
        "pulse_pressure_last_mmhg": (systolic - diastolic, newest_day),
        "systolic_mean_12m_mmhg": (_mean([each[0] for each in recent]), today),
        "diastolic_mean_12m_mmhg": (_mean([each[1] for each in recent]), today),
        "systolic_sd_12m_mmhg": (_sample_sd([each[0] for each in recent]), today),
        "systolic_slope_mmhg_per_year": (_slope(for_slope), today),
        "blood_pressure_age_days": (float((today - newest_day).days), today),
    }  # fmt: skip


def _measured(measurements: list[Measurement]) -> dict[str, tuple[Value, date | None]]:
    """``measurement_features``: the newest of each measure wins."""
    told: dict[str, tuple[Value, date | None]] = {}
    for one in measurements:
        if one.measure in LAST_VALUES:
            told[LAST_VALUES[one.measure]] = (one.value, one.event_at.date())
        elif one.measure == "smoking_status" and one.value_code != "unknown":
            told["smoking_status"] = (one.value_code, one.event_at.date())
    return told


def _body_mass(measurements: list[Measurement], window: _Window) -> dict[str, tuple[Value, date | None]]:
    """``bmi_points`` and ``bmi_features``: BMI as sent, else weight over the last known height."""
    height_cm = next((one.value for one in reversed(measurements) if one.measure == "body_height"), None)
    points: list[tuple[datetime, float]] = []
    for one in measurements:
        if one.measure == "bmi" and one.value is not None:
            points.append((one.event_at, one.value))
        elif one.measure == "body_weight" and one.value is not None and height_cm:
            points.append((one.event_at, one.value / (height_cm / 100) ** 2))
    if not points:
        return {}
    recent = [point for point in points if point[0] >= window.year_before_at]
    is_change = len({event_at for event_at, _ in recent}) >= 2
    return {"bmi_last_kg_m2": (points[-1][1], points[-1][0].date()),
            "bmi_change_12m_kg_m2": (recent[-1][1] - recent[0][1] if is_change else None, window.feature_date)}  # fmt: skip


def _history(facts: Facts, window: _Window) -> dict[str, tuple[Value, date | None]]:
    """``condition_features``, ``drug_features`` and ``visit_features``."""
    told: dict[str, tuple[Value, date | None]] = {}
    today, since, until = window.feature_date, window.year_before_at, window.cutoff_at
    if "conditions" in facts.given:
        known = {concept for event_at, concept in facts.conditions if event_at < until}
        told["has_diabetes"] = ("diabetes" in known, today)
        told["has_chronic_kidney_disease"] = ("chronic_kidney_disease" in known, today)
    if "medications" in facts.given:
        drugs = {coding for event_at, coding, _ in facts.drugs if since <= event_at < until}
        told["drug_count_12m"] = (float(len(drugs)), today)
    if "encounters" in facts.given:
        visits = sum(since <= started_at < until for started_at in facts.visits.values())
        told["visit_count_12m"] = (float(visits), today)
    return told


def _ineligible_reason(facts: Facts, readings: list[Reading], window: _Window) -> str | None:
    """``reasons`` of patient_eligibility.sql, in its order."""
    today, born = window.feature_date, facts.birth_date
    high_days = {each.event_at.date() for each in readings
                 if _numbers(each)[0] >= HIGH_SYSTOLIC_MMHG or _numbers(each)[1] >= HIGH_DIASTOLIC_MMHG}  # fmt: skip
    if born is None:
        return "age_unknown"
    if born > _years_before(today, 18):
        return "under_18"
    if born <= _years_before(today, 86):
        return "over_85"
    if facts.died_date is not None and facts.died_date <= today:
        return "deceased"
    if any(concept == "hypertension" and event_at < window.cutoff_at for event_at, concept in facts.conditions):
        return "diagnosed"
    if any(concept == "antihypertensive" and event_at < window.cutoff_at for event_at, _, concept in facts.drugs):
        return "treated"
    if len(high_days) >= 2:
        return "two_high_readings"
    return None if any(each.event_at >= window.year_before_at for each in readings) else "no_recent_reading"


def _years_before(day: date, years: int) -> date:
    return day.replace(year=day.year - years, day=28 if (day.month, day.day) == (2, 29) and years % 4 else day.day)


def _numbers(reading: Reading) -> tuple[float, float]:
    """Both numbers of a plausible reading, which has them."""
    assert reading.systolic is not None
    assert reading.diastolic is not None
    return reading.systolic, reading.diastolic


def _mean(numbers: list[float]) -> float | None:
    return round_like_duckdb(math.fsum(numbers) / len(numbers), 6) if numbers else None


def _sample_sd(numbers: list[float]) -> float | None:
    if len(numbers) < 2:
        return None
    mean = math.fsum(numbers) / len(numbers)
    return round_like_duckdb(math.sqrt(math.fsum((each - mean) ** 2 for each in numbers) / (len(numbers) - 1)), 6)


def _slope(readings: list[Reading]) -> float | None:
    """Least squares, mmHg per year, where the readings span 90 days: noise over weeks is no trend."""
    if not readings or (readings[-1].event_at.date() - readings[0].event_at.date()).days < 90:
        return None
    years = [each.event_at.timestamp() / _SECONDS_PER_YEAR for each in readings]
    systolic = [_numbers(each)[0] for each in readings]
    mean_years, mean_systolic = math.fsum(years) / len(years), math.fsum(systolic) / len(systolic)
    spread = math.fsum((x - mean_years) ** 2 for x in years)
    together = math.fsum((x - mean_years) * (y - mean_systolic) for x, y in zip(years, systolic, strict=True))
    return round_like_duckdb(together / spread, 6)
