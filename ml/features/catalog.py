"""The one table of features: names, types, units, and the direction in which medicine says risk moves.

Feast's definitions, the monotone constraints, the model's signature and ``feature_hash`` all derive from it. The order is
that of ``clinical.ml.patient_features`` (docs/contracts.md) and of the model's columns.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from core.errors import ModelError
from core.settings import PROJECT_ROOT

# All that decides who is an example and which outcome counts: the two models, the macros they call, the seeds that say
# which codes mean hypertension or a drug against it and which readings are plausible.
LABEL_FILES = (
    "models/marts/ml/hypertension_examples.sql", "models/marts/ml/patient_eligibility.sql", "macros/clinical_rules.sql",
    "macros/point_in_time.sql", "seeds/concept_codes.csv", "seeds/plausibility_limits.csv",
)
ELIGIBLE_AGE_YEARS = (18, 85)
LABEL_WINDOW_DAYS = 365

# How long a value is taken for present. A reading of pressure makes a patient eligible for a year; smoking and weight are
# asked about yearly and may be a year late; screening for diabetes repeats within 3 years (ADA), for lipids every 4 to 6
# (ACC/AHA); 2 years for kidney function is our own. What is worked out nightly is as old as its night, and the training
# join takes no row older than a month.
PRESSURE_DAYS, HABIT_DAYS, KIDNEY_DAYS, SUGAR_DAYS, LIPID_DAYS, WORKED_OUT_DAYS = 365, 730, 730, 1096, 1827, 31


@dataclass(frozen=True)
class Feature:
    """One input of the model. ``direction`` is +1 where more never means less risk, 0 where medicine does not say.

    ``observed_in`` is the column beside the features that names the day of the value taken; None where the feature is worked
    out on its feature date (ages, counts, means). A value older than ``fresh_days`` is stale; None: it never is.
    """

    name: str
    dtype: Literal["number", "boolean", "category"]
    unit: str  # UCUM
    direction: Literal[0, 1]
    description: str
    example: float | bool | str  # of no real person; for signatures and documentation
    observed_in: str | None = None
    fresh_days: int | None = WORKED_OUT_DAYS


FEATURES = (
    Feature("age_years", "number", "a", 1, "Age on the feature date", 52.0),
    Feature("sex", "category", "", 0, "Administrative sex", "female", fresh_days=None),
    Feature("systolic_last_mmhg", "number", "mm[Hg]", 1, "Systolic pressure, newest plausible reading", 126.0,
            "blood_pressure_observed_on", PRESSURE_DAYS),
    Feature("diastolic_last_mmhg", "number", "mm[Hg]", 1, "Diastolic pressure, newest plausible reading", 81.0,
            "blood_pressure_observed_on", PRESSURE_DAYS),
    Feature("systolic_mean_12m_mmhg", "number", "mm[Hg]", 1, "Systolic pressure, mean of 12 months", 124.5),
    Feature("diastolic_mean_12m_mmhg", "number", "mm[Hg]", 1, "Diastolic pressure, mean of 12 months", 80.0),
    Feature("systolic_slope_mmhg_per_year", "number", "mm[Hg]/a", 0, "Trend of systolic pressure", 1.5),
    Feature("systolic_sd_12m_mmhg", "number", "mm[Hg]", 0, "Within-person spread of systolic pressure, 12 months", 6.0),
    Feature("pulse_pressure_last_mmhg", "number", "mm[Hg]", 0, "Systolic minus diastolic, newest reading", 45.0,
            "blood_pressure_observed_on", PRESSURE_DAYS),
    Feature("blood_pressure_count_12m", "number", "{count}", 0, "Plausible readings in 12 months", 3.0),
    Feature("blood_pressure_age_days", "number", "d", 0, "Days since the newest reading", 40.0),
    Feature("bmi_last_kg_m2", "number", "kg/m2", 1, "Body mass index, newest", 27.4,
            "bmi_observed_on", HABIT_DAYS),
    Feature("bmi_change_12m_kg_m2", "number", "kg/m2", 0, "Change of body mass index in 12 months", 0.3),
    Feature("heart_rate_last_bpm", "number", "/min", 0, "Heart rate, newest", 72.0,
            "heart_rate_observed_on", PRESSURE_DAYS),
    Feature("glucose_last_mg_dl", "number", "mg/dL", 0, "Glucose, newest", 96.0,
            "glucose_observed_on", SUGAR_DAYS),
    Feature("hba1c_last_pct", "number", "%", 0, "Glycated haemoglobin, newest", 5.6,
            "hba1c_observed_on", SUGAR_DAYS),
    Feature("creatinine_last_mg_dl", "number", "mg/dL", 0, "Creatinine, newest", 0.9,
            "creatinine_observed_on", KIDNEY_DAYS),
    Feature("egfr_last_ml_min", "number", "mL/min/{1.73_m2}", 0, "Estimated filtration rate, newest", 88.0,
            "egfr_observed_on", KIDNEY_DAYS),
    Feature("total_cholesterol_last_mg_dl", "number", "mg/dL", 0, "Total cholesterol, newest", 195.0,
            "total_cholesterol_observed_on", LIPID_DAYS),
    Feature("ldl_last_mg_dl", "number", "mg/dL", 0, "LDL cholesterol, newest", 118.0,
            "ldl_observed_on", LIPID_DAYS),
    Feature("hdl_last_mg_dl", "number", "mg/dL", 0, "HDL cholesterol, newest", 54.0,
            "hdl_observed_on", LIPID_DAYS),
    Feature("triglycerides_last_mg_dl", "number", "mg/dL", 0, "Triglycerides, newest", 130.0,
            "triglycerides_observed_on", LIPID_DAYS),
    Feature("smoking_status", "category", "", 0, "Smoking: current, former, never, unknown", "never",
            "smoking_status_observed_on", HABIT_DAYS),
    Feature("has_diabetes", "boolean", "", 0, "A diagnosis of diabetes by the feature date", False),
    Feature("has_chronic_kidney_disease", "boolean", "", 0, "A diagnosis of kidney disease by then", False),
    Feature("drug_count_12m", "number", "{count}", 0, "Different drugs prescribed in 12 months", 1.0),
    Feature("visit_count_12m", "number", "{count}", 0, "Encounters in 12 months", 4.0),
)
FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
# In the order of the columns after the features.
OBSERVED_COLUMNS = tuple(dict.fromkeys(feature.observed_in for feature in FEATURES if feature.observed_in))
CATEGORICAL = tuple(feature.name for feature in FEATURES if feature.dtype == "category")


def monotone_constraints() -> dict[str, int]:
    """Feature name → +1, for those with a known direction."""
    return {feature.name: feature.direction for feature in FEATURES if feature.direction}


def feature_hash(features: tuple[Feature, ...] = FEATURES) -> str:
    """SHA-256 of what defines the inputs: changes with a name, type, unit, direction or the order."""
    defining = [{k: v for k, v in asdict(f).items() if k in ("name", "dtype", "unit", "direction")} for f in features]
    return hashlib.sha256(json.dumps(defining).encode()).hexdigest()


def label_hash(dbt_project: Path = PROJECT_ROOT / "dbt_project") -> str:
    """SHA-256 over `LABEL_FILES`. Errors: `ModelError` naming the file that is absent."""
    digest = hashlib.sha256()
    for name in LABEL_FILES:
        if not (path := dbt_project / name).exists():
            raise ModelError(f"the label's definition {path.name} is absent; restore dbt_project/{name}")
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
