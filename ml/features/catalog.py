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


@dataclass(frozen=True)
class Feature:
    """One input of the model. ``direction`` is +1 where more never means less risk, 0 where medicine does not say."""

    name: str
    dtype: Literal["number", "boolean", "category"]
    unit: str  # UCUM
    direction: Literal[0, 1]
    description: str
    example: float | bool | str  # of no real person; for signatures and documentation


FEATURES = (
    Feature("age_years", "number", "a", 1, "Age on the feature date", 52.0),
    Feature("sex", "category", "", 0, "Administrative sex", "female"),
    Feature("systolic_last_mmhg", "number", "mm[Hg]", 1, "Systolic pressure, newest plausible reading", 126.0),
    Feature("diastolic_last_mmhg", "number", "mm[Hg]", 1, "Diastolic pressure, newest plausible reading", 81.0),
    Feature("systolic_mean_12m_mmhg", "number", "mm[Hg]", 1, "Systolic pressure, mean of 12 months", 124.5),
    Feature("diastolic_mean_12m_mmhg", "number", "mm[Hg]", 1, "Diastolic pressure, mean of 12 months", 80.0),
    Feature("systolic_slope_mmhg_per_year", "number", "mm[Hg]/a", 0, "Trend of systolic pressure", 1.5),
    Feature("systolic_sd_12m_mmhg", "number", "mm[Hg]", 0, "Within-person spread of systolic pressure, 12 months", 6.0),
    Feature("pulse_pressure_last_mmhg", "number", "mm[Hg]", 0, "Systolic minus diastolic, newest reading", 45.0),
    Feature("blood_pressure_count_12m", "number", "{count}", 0, "Plausible readings in 12 months", 3.0),
    Feature("blood_pressure_age_days", "number", "d", 0, "Days since the newest reading", 40.0),
    Feature("bmi_last_kg_m2", "number", "kg/m2", 1, "Body mass index, newest", 27.4),
    Feature("bmi_change_12m_kg_m2", "number", "kg/m2", 0, "Change of body mass index in 12 months", 0.3),
    Feature("heart_rate_last_bpm", "number", "/min", 0, "Heart rate, newest", 72.0),
    Feature("glucose_last_mg_dl", "number", "mg/dL", 0, "Glucose, newest", 96.0),
    Feature("hba1c_last_pct", "number", "%", 0, "Glycated haemoglobin, newest", 5.6),
    Feature("creatinine_last_mg_dl", "number", "mg/dL", 0, "Creatinine, newest", 0.9),
    Feature("egfr_last_ml_min", "number", "mL/min/{1.73_m2}", 0, "Estimated filtration rate, newest", 88.0),
    Feature("total_cholesterol_last_mg_dl", "number", "mg/dL", 0, "Total cholesterol, newest", 195.0),
    Feature("ldl_last_mg_dl", "number", "mg/dL", 0, "LDL cholesterol, newest", 118.0),
    Feature("hdl_last_mg_dl", "number", "mg/dL", 0, "HDL cholesterol, newest", 54.0),
    Feature("triglycerides_last_mg_dl", "number", "mg/dL", 0, "Triglycerides, newest", 130.0),
    Feature("smoking_status", "category", "", 0, "Smoking: current, former, never, unknown", "never"),
    Feature("has_diabetes", "boolean", "", 0, "A diagnosis of diabetes by the feature date", False),
    Feature("has_chronic_kidney_disease", "boolean", "", 0, "A diagnosis of kidney disease by then", False),
    Feature("drug_count_12m", "number", "{count}", 0, "Different drugs prescribed in 12 months", 1.0),
    Feature("visit_count_12m", "number", "{count}", 0, "Encounters in 12 months", 4.0),
)
FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
CATEGORICAL = tuple(feature.name for feature in FEATURES if feature.dtype == "category")


def monotone_constraints() -> dict[str, int]:
    """Feature name → +1, for those with a known direction."""
    return {feature.name: feature.direction for feature in FEATURES if feature.direction}


def feature_hash(features: tuple[Feature, ...] = FEATURES) -> str:
    """SHA-256 of what defines the inputs: changes with a name, type, unit, direction or the order."""
    defining = [{k: v for k, v in asdict(f).items() if k not in ("description", "example")} for f in features]
    return hashlib.sha256(json.dumps(defining).encode()).hexdigest()


def label_hash(dbt_project: Path = PROJECT_ROOT / "dbt_project") -> str:
    """SHA-256 over `LABEL_FILES`. Errors: `ModelError` naming the file that is absent."""
    digest = hashlib.sha256()
    for name in LABEL_FILES:
        if not (path := dbt_project / name).exists():
            raise ModelError(f"the label's definition {path.name} is absent; restore dbt_project/{name}")
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
