"""A hospital whose truth is known: `ml.hypertension_examples` and `ml.patient_features`, drawn and published.

Latent pressures follow each person for years; a year's onset is drawn from the Framingham model on the latent values; the
features see them through a few noisy readings and missing laboratory values. No part of the pipeline runs.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd

from core.lake import write_lake
from core.publication import Published, finish_build, publish, start_build
from core.settings import Settings
from core.store import Batch, store_session
from ml.baselines.framingham import framingham_risk
from ml.features.catalog import FEATURE_NAMES, FEATURES, OBSERVED_COLUMNS

READING_NOISE_SD_MMHG = 8.0
LABORATORY = ("heart_rate_last_bpm", "glucose_last_mg_dl", "hba1c_last_pct", "creatinine_last_mg_dl",
              "egfr_last_ml_min", "total_cholesterol_last_mg_dl", "ldl_last_mg_dl", "hdl_last_mg_dl",
              "triglycerides_last_mg_dl")
_TYPES = {"number": "double", "boolean": "boolean", "category": "varchar"}


@dataclass(frozen=True)
class Drawn:
    """The two tables and, beside them, the true one-year risk of each example (index as ``examples``)."""

    examples: pd.DataFrame
    features: pd.DataFrame
    true_risk: np.ndarray
    as_of: date
    persons: dict[str, str] = field(default_factory=dict)  # who has another's record: person key → patient key


def draw(patients: int = 1500, seed: int = 7, years: int = 5, as_of: date = date(2026, 1, 1)) -> Drawn:
    """Draw a hospital with ``years`` of history up to ``as_of``, landmarks every half year from its second year."""
    random = np.random.default_rng(seed)
    n = patients
    age = random.uniform(20, 80, n)
    woman = random.random(n) < 0.53
    bmi = random.normal(27, 4.5, n).clip(17, 48)
    smoker = random.random(n) < 0.2
    parents = random.binomial(2, 0.3, n)
    systolic = 103 + 0.25 * age + 0.4 * (bmi - 27) + random.normal(0, 9, n)
    diastolic = 35 + 0.33 * systolic + random.normal(0, 6, n)
    slope = random.normal(0.5, 1.2, n)
    at_risk = (systolic < 140) & (diastolic < 90)
    landmarks = [date(as_of.year - years + 1 + half // 2, 1 + 6 * (half % 2), 1) for half in range(2 * (years - 1) + 1)]
    examples, features, risks = [], [], []
    for landmark in landmarks:
        years_in = (landmark - landmarks[0]).days / 365.25
        now_systolic, now_diastolic = systolic + slope * years_in, diastolic + 0.5 * slope * years_in
        risk = framingham_risk(age + years_in, woman.astype(float), bmi, now_systolic, now_diastolic,
                               smoker.astype(float), parents.astype(float))
        event = random.random(n) < risk
        who = np.flatnonzero(at_risk)
        matured = (as_of - landmark).days >= 365
        label = np.where(event[who], 1, np.where(random.random(who.size) < 0.05, np.nan, 0)) if matured else np.nan
        examples.append(pd.DataFrame({"patient_key": _keys(who), "landmark_date": landmark, "label": label}))
        risks.append(risk[who])
        seen = _seen(random, age + years_in, woman, bmi, smoker, now_systolic, now_diastolic)
        seen.insert(0, "patient_key", _keys(np.arange(n)))
        seen.insert(1, "feature_date", landmark)
        seen.insert(2, "is_eligible", at_risk)
        features.append(seen)
        at_risk = at_risk & ~(event & (random.random(n) < 0.5))  # half of a year's onsets fall before the next landmark
    return Drawn(pd.concat(examples, ignore_index=True), pd.concat(features, ignore_index=True),
                 np.concatenate(risks), as_of)


def publish_hospital(settings: Settings, drawn: Drawn) -> Published:
    """Write the tables into the lake and publish them, as ingest, dbt and the gates would."""
    with store_session(settings) as session:
        session.add(Batch(as_of=drawn.as_of, finished_at=datetime.now(UTC)))
    build = start_build(settings, drawn.as_of)
    columns = ", ".join(f"{f.name}::{_TYPES[f.dtype]} as {f.name}" for f in FEATURES)
    of = {feature.observed_in: feature.name for feature in FEATURES}
    observed = ", ".join(f"case when {of[name]} is not null then feature_date::date - 7 end as {name}"
                         for name in OBSERVED_COLUMNS)
    persons = {key: key for key in drawn.features["patient_key"].unique()} | drawn.persons
    with write_lake(settings) as lake:
        lake.register("examples", drawn.examples)
        lake.register("features", drawn.features)
        lake.register("persons", pd.DataFrame(list(persons.items()), columns=["person_key", "patient_key"]))
        lake.execute("create schema if not exists clinical.ml")
        lake.execute("""
            create or replace table clinical.ml.hypertension_examples as
            select patient_key, landmark_date::date as landmark_date, label::tinyint as label,
                case label when 1 then 'event' when 0 then 'no_event' else 'censored' end as outcome,
                null::date as event_date, null::varchar as event_kind, null::date as followed_until
            from examples""")
        lake.execute(f"""
            create or replace table clinical.ml.patient_features as
            select patient_key, feature_date::date as feature_date, is_eligible, {columns}, {observed},
                'st_mary,valley' as source_ids
            from features""")
        lake.execute("create schema if not exists clinical.intermediate")
        lake.execute("""
            create or replace table clinical.intermediate.int_persons__resolved as
            select person_key, patient_key, patient_key as group_key from persons""")
    finish_build(settings, build.build_id)
    return publish(settings, build.build_id, "test")


def _keys(numbers: np.ndarray) -> list[str]:
    return [f"{number:032x}" for number in numbers]


def _seen(random: np.random.Generator, age: np.ndarray, woman: np.ndarray, bmi: np.ndarray, smoker: np.ndarray,
          systolic: np.ndarray, diastolic: np.ndarray) -> pd.DataFrame:
    n = age.size
    count = 1 + random.poisson(2.0, n)
    last = [level + random.normal(0, sd, n) for level, sd in ((systolic, READING_NOISE_SD_MMHG), (diastolic, 5.0))]
    others = [random.normal(0, sd, n) / np.sqrt(np.maximum(count - 1, 1)) for sd in (READING_NOISE_SD_MMHG, 5.0)]
    means = [np.where(count == 1, newest, (newest + (count - 1) * (level + rest)) / count)
             for newest, level, rest in zip(last, (systolic, diastolic), others, strict=True)]
    seen = pd.DataFrame({
        "age_years": age, "sex": np.where(woman, "female", "male"),
        "systolic_last_mmhg": last[0], "diastolic_last_mmhg": last[1],
        "systolic_mean_12m_mmhg": means[0], "diastolic_mean_12m_mmhg": means[1],
        "systolic_slope_mmhg_per_year": np.where(count > 2, random.normal(0.5, 5, n), np.nan),
        "systolic_sd_12m_mmhg": np.where(count > 1, np.abs(random.normal(READING_NOISE_SD_MMHG, 3, n)), np.nan),
        "pulse_pressure_last_mmhg": last[0] - last[1], "blood_pressure_count_12m": count.astype(float),
        "blood_pressure_age_days": random.integers(0, 365, n).astype(float),
        "bmi_last_kg_m2": np.where(random.random(n) < 0.15, np.nan, bmi + random.normal(0, 0.4, n)),
        "bmi_change_12m_kg_m2": np.where(random.random(n) < 0.4, np.nan, random.normal(0, 0.8, n)),
        "smoking_status": np.where(random.random(n) < 0.2, None, np.where(smoker, "current", "never")),
        "has_diabetes": random.random(n) < 0.07, "has_chronic_kidney_disease": random.random(n) < 0.03,
        "drug_count_12m": random.poisson(0.8, n).astype(float), "visit_count_12m": (count + 1).astype(float),
    })
    for name in LABORATORY:
        level = next(float(feature.example) for feature in FEATURES if feature.name == name)
        seen[name] = np.where(random.random(n) < 0.5, np.nan, random.normal(level, 0.15 * level, n))
    return seen[list(FEATURE_NAMES)]
