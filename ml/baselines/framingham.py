"""The Framingham hypertension risk score (Parikh et al., Ann Intern Med 2008;148:102-110; a Weibull model)."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

WEIBULL_SCALE = 0.876925
# Stand-ins where a record is silent: the middle of the score's own cohort.
REFERENCE_AGE_YEARS = 50.0
REFERENCE_BMI_KG_M2 = 26.0
REFERENCE_SYSTOLIC_MMHG = 120.0
REFERENCE_DIASTOLIC_MMHG = 78.0

Floats = NDArray[np.float64]


def framingham_risk(age_years: Floats, is_woman: Floats, bmi_kg_m2: Floats, systolic_mmhg: Floats,
                    diastolic_mmhg: Floats, is_smoker: Floats, hypertensive_parents: Floats | int = 0,
                    within_years: float = 1.0) -> Floats:
    """Risk of hypertension within ``within_years``, each argument of shape (n,); result in [0, 1]."""
    predictor = (
        22.949536 - 0.156412 * age_years - 0.202933 * is_woman - 0.033881 * bmi_kg_m2 - 0.05933 * systolic_mmhg
        - 0.128468 * diastolic_mmhg - 0.190731 * is_smoker - 0.166121 * hypertensive_parents
        + 0.001624 * age_years * diastolic_mmhg
    )
    return np.asarray(-np.expm1(-np.exp((np.log(within_years) - predictor) / WEIBULL_SCALE)), dtype=np.float64)


def framingham_from_features(frame: "pd.DataFrame", readings: Literal["last", "mean_12m"]) -> Floats:
    """One-year risk of each row of ``patient_features``, from the newest reading or from the mean of 12 months.

    Parental history is unknown and counts as none. What is missing takes the cohort's middle, so that every row has a
    score. Shape (n,).
    """
    def column(name: str, default: float) -> Floats:
        return np.asarray(frame[name].astype("float64").fillna(default), dtype=np.float64)

    def pressure(kind: str, default: float) -> Floats:
        other = "mean_12m" if readings == "last" else "last"
        first, second = (frame[f"{kind}_{which}_mmhg"].astype("float64") for which in (readings, other))
        return np.asarray(first.fillna(second).fillna(default), dtype=np.float64)

    return framingham_risk(
        column("age_years", REFERENCE_AGE_YEARS),
        np.asarray(frame["sex"] == "female", dtype=np.float64),
        column("bmi_last_kg_m2", REFERENCE_BMI_KG_M2),
        pressure("systolic", REFERENCE_SYSTOLIC_MMHG),
        pressure("diastolic", REFERENCE_DIASTOLIC_MMHG),
        np.asarray(frame["smoking_status"] == "current", dtype=np.float64),
    )
