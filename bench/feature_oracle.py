"""The features of one patient at one day, worked out from facts by plain Python loops: slow, and written from the contract.

A fact counts when it had happened and had been told before the end of the day (UTC), in the version that was valid then.
Numbers that the warehouse rounds to six decimals are given here as exact fractions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

from duckdb import DuckDBPyConnection

from ml.features.catalog import FEATURE_NAMES, OBSERVED_COLUMNS

Fact = dict[str, Any]
Answer = dict[str, Any]
LAST_VALUES = {
    "heart_rate": "heart_rate_last_bpm", "glucose": "glucose_last_mg_dl", "hba1c": "hba1c_last_pct",
    "creatinine": "creatinine_last_mg_dl", "egfr": "egfr_last_ml_min", "total_cholesterol": "total_cholesterol_last_mg_dl",
    "ldl": "ldl_last_mg_dl", "hdl": "hdl_last_mg_dl", "triglycerides": "triglycerides_last_mg_dl",
}
NOT_TAKEN = ("entered-in-error", "cancelled", "draft", "not-taken", "intended")
NOT_VISITED = ("entered-in-error", "cancelled", "planned")
TABLES = ("fct_blood_pressure", "fct_measurements", "fct_conditions", "fct_medications", "fct_encounters")
_HALF_OF_LAST_DECIMAL = Fraction(1, 2_000_000) + Fraction(1, 10**9)  # and what sums of doubles may be off by
_YEAR = Fraction(36525 * 86400, 100)


@dataclass
class Patient:
    """All that is in the fact tables of one patient, in no order."""

    sex: str | None = None
    birth_date: date | None = None
    facts: dict[str, list[Fact]] = field(default_factory=lambda: {table: [] for table in TABLES})


def read_patients(lake: DuckDBPyConnection) -> dict[str, Patient]:
    """Every patient with every fact, row by row: no join, no filter, no order."""
    found: dict[str, Patient] = {}
    for key, sex, born in lake.execute("select patient_key, sex, birth_date from clinical.core.dim_patients").fetchall():
        found[key] = Patient(sex, born)
    for table in TABLES:
        cursor = lake.execute(f"select * from clinical.core.{table}")
        names = [column[0] for column in cursor.description or []]
        while rows := cursor.fetchmany(50_000):
            for row in rows:
                fact = dict(zip(names, row, strict=True))
                found.setdefault(fact["patient_key"], Patient()).facts[table].append(fact)
    return found


def is_known(fact: Fact, cutoff: datetime) -> bool:
    """Whether this version was the hospital's word before ``cutoff``."""
    superseded = fact.get("superseded_at")
    happened = fact["started_at"] if "started_at" in fact else fact["event_at"]
    return happened < cutoff and fact["known_at"] < cutoff and (superseded is None or superseded >= cutoff)


def answer(patient: Patient, day: date, known: Callable[[Fact, datetime], bool] = is_known) -> Answer:
    """Every feature, every ``_observed_on`` and ``source_ids``. ``known`` may be a rule that leaks, to see what it would do."""
    cutoff = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    facts = {table: [fact for fact in rows if known(fact, cutoff)] for table, rows in patient.facts.items()}
    year_before = cutoff - timedelta(days=365)
    found: Answer = dict.fromkeys((*FEATURE_NAMES, *OBSERVED_COLUMNS))
    found["sex"] = patient.sex
    if patient.birth_date is not None:
        found["age_years"] = (day - patient.birth_date).days / 365.25
    found |= _pressure(facts["fct_blood_pressure"], day, cutoff, year_before)
    measurements = [fact for fact in facts["fct_measurements"] if fact["is_plausible"]]
    for measure, name in LAST_VALUES.items():
        _take_last(found, name, f"{measure}_observed_on", (f for f in measurements if f["measure"] == measure), "value")
    _take_last(found, "smoking_status", "smoking_status_observed_on",
               (f for f in measurements if f["measure"] == "smoking_status" and f["value_code"] != "unknown"), "value_code")
    found |= _body_mass(measurements, year_before)
    concepts = {fact["concept"] for fact in facts["fct_conditions"]}
    found["has_diabetes"] = "diabetes" in concepts
    found["has_chronic_kidney_disease"] = "chronic_kidney_disease" in concepts
    found["drug_count_12m"] = float(len({
        (fact["code_system"], fact["code"]) for fact in facts["fct_medications"]
        if fact["event_at"] >= year_before and fact["status"] not in NOT_TAKEN}))
    found["visit_count_12m"] = float(sum(
        fact["started_at"] >= year_before and fact["status"] not in NOT_VISITED for fact in facts["fct_encounters"]))
    found["source_ids"] = ",".join(sorted({
        fact["source_id"] for rows in patient.facts.values() for fact in rows
        if known({**fact, "superseded_at": None}, cutoff) and fact["source_id"] is not None}))
    return found


def _pressure(known: list[Fact], day: date, cutoff: datetime, year_before: datetime) -> Answer:
    readings = [fact for fact in known if fact["is_plausible"] and not fact["is_preliminary"]]
    if not readings:
        return {"blood_pressure_count_12m": 0.0}
    last = max(readings, key=lambda fact: (fact["event_at"], fact["known_at"], fact["blood_pressure_key"]))
    of_year = [fact for fact in readings if fact["event_at"] >= year_before]
    found: Answer = {
        "systolic_last_mmhg": last["systolic_mmhg"], "diastolic_last_mmhg": last["diastolic_mmhg"],
        "pulse_pressure_last_mmhg": last["systolic_mmhg"] - last["diastolic_mmhg"],
        "blood_pressure_count_12m": float(len(of_year)),
        "blood_pressure_age_days": float((day - last["event_at"].date()).days),
        "blood_pressure_observed_on": last["event_at"].date(),
    }
    if of_year:
        systolic = [Fraction(fact["systolic_mmhg"]) for fact in of_year]
        found["systolic_mean_12m_mmhg"] = mean = sum(systolic) / len(systolic)
        found["diastolic_mean_12m_mmhg"] = sum(Fraction(fact["diastolic_mmhg"]) for fact in of_year) / len(of_year)
        if len(of_year) > 1:
            found["systolic_sd_12m_mmhg"] = ("root", sum((each - mean) ** 2 for each in systolic) / (len(systolic) - 1))
    recent = [fact for fact in readings if fact["event_at"] >= _years_before(cutoff, 3)]
    if recent:
        dates = [fact["event_at"].date() for fact in recent]
        if (max(dates) - min(dates)).days >= 90:
            found["systolic_slope_mmhg_per_year"] = _slope(recent)
    return found


def _slope(readings: list[Fact]) -> Fraction:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    x = [Fraction((fact["event_at"] - epoch) // timedelta(microseconds=1), 1_000_000) / _YEAR for fact in readings]
    y = [Fraction(fact["systolic_mmhg"]) for fact in readings]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    across = sum((each - mean_x) * (other - mean_y) for each, other in zip(x, y, strict=True))
    return Fraction(across / sum((each - mean_x) ** 2 for each in x))


def _years_before(moment: datetime, years: int) -> datetime:
    """The calendar's: from 29 February to the 28th of a year that has none."""
    try:
        return moment.replace(year=moment.year - years)
    except ValueError:
        return moment.replace(year=moment.year - years, day=28)


def _order(fact: Fact) -> tuple[Any, ...]:
    return fact["event_at"], fact["measure"] == "bmi", fact["known_at"], fact["measurement_key"]


def _take_last(found: Answer, name: str, observed: str, facts: Iterable[Fact], column: str) -> None:
    told = [fact for fact in facts if fact[column] is not None]
    if told:
        last = max(told, key=_order)
        found[name], found[observed] = last[column], last["event_at"].date()


def _body_mass(measurements: list[Fact], year_before: datetime) -> Answer:
    heights = [fact for fact in measurements if fact["measure"] == "body_height" and fact["value"] is not None]
    height_m = max(heights, key=_order)["value"] / 100 if heights else None
    points: list[tuple[Fact, float]] = []
    for fact in sorted(measurements, key=_order):
        if fact["value"] is None:
            continue
        if fact["measure"] == "bmi":
            points.append((fact, fact["value"]))
        elif fact["measure"] == "body_weight" and height_m:
            points.append((fact, fact["value"] / height_m ** 2))
    found: Answer = {}
    if points:
        found["bmi_last_kg_m2"], found["bmi_observed_on"] = points[-1][1], points[-1][0]["event_at"].date()
    recent = [(fact, value) for fact, value in points if fact["event_at"] >= year_before]
    if len({fact["event_at"] for fact, _ in recent}) >= 2:
        found["bmi_change_12m_kg_m2"] = recent[-1][1] - recent[0][1]
    return found


def is_same(found: Any, expected: Any) -> bool:
    """Equal, floats bit for bit; where the oracle gives a fraction (or its root), equal to it rounded to six decimals."""
    if isinstance(expected, Fraction):
        return found is not None and abs(Fraction(found) - expected) <= _HALF_OF_LAST_DECIMAL
    if isinstance(expected, tuple):
        _root, square = expected
        if found is None:
            return False
        low, high = Fraction(found) - _HALF_OF_LAST_DECIMAL, Fraction(found) + _HALF_OF_LAST_DECIMAL
        return (low <= 0 or low ** 2 <= square) and high >= 0 and square <= high ** 2
    return type(found) is type(expected) and found == expected


def differences(row: dict[str, Any], expected: Answer) -> list[str]:
    """The columns in which a row of ``patient_features`` is not what the oracle says."""
    return [name for name in (*FEATURE_NAMES, *OBSERVED_COLUMNS, "source_ids") if not is_same(row[name], expected[name])]
