"""The Framingham hypertension risk score (Parikh et al., Ann Intern Med 2008;148:102-110), a Weibull model."""

from typing import Any

import numpy as np

SCALE = 0.876925


def linear_predictor(
    age_years: Any,
    is_woman: Any,
    bmi_kg_m2: Any,
    systolic_mmhg: Any,
    diastolic_mmhg: Any,
    is_smoker: Any,
    parents_with_hypertension: Any,
) -> Any:
    """The location of ln(time to hypertension in years): larger is safer. Numbers or arrays that broadcast."""
    return (
        22.949536
        - 0.156412 * age_years
        - 0.202933 * is_woman
        - 0.033881 * bmi_kg_m2
        - 0.05933 * systolic_mmhg
        - 0.128468 * diastolic_mmhg
        - 0.190731 * is_smoker
        - 0.166121 * parents_with_hypertension
        + 0.001624 * age_years * diastolic_mmhg
    )


def cumulative_hazard(predictor: Any, years: float) -> Any:
    """Expected onsets within ``years`` for somebody still free of hypertension."""
    return np.exp((np.log(years) - predictor) / SCALE)


def risk_within(predictor: Any, years: float) -> Any:
    """Probability of hypertension within ``years``."""
    return 1.0 - np.exp(-cumulative_hazard(predictor, years))
