"""Assessments of nobody, as the scorer gives them."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from ml.features.catalog import FEATURES


@dataclass(frozen=True)
class Reason:
    feature: str
    text: str
    direction: str
    log_odds: float


@dataclass(frozen=True)
class Input:
    name: str
    value: Any
    unit: str
    status: str
    age_days: int | None


@dataclass(frozen=True)
class Assessment:
    prediction_id: str = "0192f0a07c117d6e8a5f3b2c1d0e9f88"
    risk: float = 0.0412
    band: str = "moderate"
    reasons: tuple[Reason, ...] = (
        Reason("systolic_mean_12m_mmhg", "Systolic pressure, mean of 12 months: 131 mmHg", "raises", 0.42),
        Reason("age_years", "Age: 38 years", "lowers", -0.21),
    )
    inputs: tuple[Input, ...] = field(default_factory=lambda: example_inputs())
    model_version: int = 3
    build_id: int | None = 8
    clinical_snapshot: int | None = 21
    feature_hash: str = "f" * 64
    label_hash: str = "e" * 64
    served_at: datetime = datetime(2026, 2, 1, 10, 30, 12, 345678, tzinfo=UTC)


def example_inputs() -> tuple[Input, ...]:
    """Every feature with its example, one stale, one absent."""
    inputs = []
    for feature in FEATURES:
        value: Any = None if feature.name == "hba1c_last_pct" else feature.example
        status = "absent" if value is None else "stale" if feature.name == "bmi_last_kg_m2" else "present"
        age = None if value is None else 900 if status == "stale" else 12
        inputs.append(Input(feature.name, value, feature.unit, status, age))
    return tuple(inputs)


TODAY = date(2026, 2, 1)
