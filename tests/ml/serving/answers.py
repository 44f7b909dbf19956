"""Assessments of nobody, as the scorer gives them."""

from datetime import UTC, datetime
from typing import Any

from ml.features.catalog import FEATURES
from ml.serving.reasons import Reason
from ml.serving.risk import Assessment, Input

SERVED_AT = datetime(2026, 2, 1, 10, 30, 12, 345678, tzinfo=UTC)


def example_inputs() -> tuple[Input, ...]:
    """Every feature with its example, one stale, one absent."""
    inputs = []
    for feature in FEATURES:
        value: Any = None if feature.name == "hba1c_last_pct" else feature.example
        status = "absent" if value is None else "stale" if feature.name == "bmi_last_kg_m2" else "present"
        age = None if value is None else 900 if status == "stale" else 12
        inputs.append(Input(feature.name, value, feature.unit, status, age))
    return tuple(inputs)


def an_assessment() -> Assessment:
    reasons = (
        Reason("systolic_mean_12m_mmhg", "Systolic pressure, mean of 12 months: 131 mmHg raises the risk (odds times 1.52)",
               "raises", 0.42),
        Reason("age_years", "Age: 38 years lowers the risk (odds divided by 1.23)", "lowers", -0.21),
    )  # fmt: skip
    return Assessment("0192f0a07c117d6e8a5f3b2c1d0e9f88", 0.0412, "moderate", reasons, example_inputs(), 3, 8, 21, "f" * 64,
                      "e" * 64, SERVED_AT)  # fmt: skip
