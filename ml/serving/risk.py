"""What the API says of a person: risk, band, reasons, the inputs with their age, and which model said it of which data."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson

from core.keys import seal
from ml.evaluation.rules import Band, load_gate_rules
from ml.features.catalog import FEATURES
from ml.features.status import Status, status_of
from ml.serving.reasons import Reason, top_reasons

if TYPE_CHECKING:
    from ml.features.online import OnlineRow
    from ml.serving.served_champion import Served

Value = float | bool | str | None
Source = Literal["store", "given", "cds"]


@dataclass(frozen=True)
class Person:
    """Whose risk is asked for: every feature by name, None where it is missing, and the day on which it was observed."""

    values: Mapping[str, Value]
    source: Source
    observed_on: Mapping[str, date | None] = field(default_factory=dict)
    patient_key: str | None = None
    feature_date: date | None = None
    build_id: int | None = None
    clinical_snapshot: int | None = None

    @classmethod
    def of_row(cls, row: "OnlineRow") -> "Person":
        return cls(row.values, "store", row.observed_on, row.patient_key, row.feature_date, row.build_id,
                   row.clinical_snapshot)


@dataclass(frozen=True)
class Input:
    name: str
    value: Value
    unit: str
    status: Status
    age_days: int | None


@dataclass(frozen=True)
class Assessment:
    prediction_id: str
    risk: float
    band: Band
    reasons: tuple[Reason, ...]
    inputs: tuple[Input, ...]
    model_version: int
    build_id: int | None
    clinical_snapshot: int | None
    feature_hash: str
    label_hash: str
    served_at: datetime


def assess(served: "Served", persons: Sequence[Person], today: date, now: datetime) -> list[Assessment]:
    """One assessment per person, by one model, in their order."""
    scored = served.rows.score([person.values for person in persons])
    shares = served.rows.shown(scored)
    bands = load_gate_rules().bands
    return [
        Assessment(_new_id(), risk, bands.of(risk), top_reasons(served.rows.features, person.values, row),
                   _inputs(person, today), served.version, person.build_id, person.clinical_snapshot,
                   served.feature_hash, served.label_hash, now)
        for person, risk, row in zip(persons, scored.risk.tolist(), shares.tolist(), strict=True)
    ]


def prediction_row(key: bytes, client: str, person: Person, assessment: Assessment) -> dict[str, Any]:
    """A row of ``served_predictions``: exactly what the model got, sealed."""
    content = {"features": dict(person.values),
               "observed_on": {name: day for name, day in person.observed_on.items() if day is not None}}
    sealed = seal(key, orjson.dumps(content), assessment.prediction_id)
    return {
        "prediction_id": assessment.prediction_id, "served_at": assessment.served_at, "client": client,
        "source": person.source, "patient_key": person.patient_key, "feature_date": person.feature_date,
        "build_id": person.build_id, "clinical_snapshot": person.clinical_snapshot,
        "model_version": assessment.model_version, "risk": assessment.risk, "band": assessment.band,
        "features_sealed": sealed,
    }  # fmt: skip


def _inputs(person: Person, today: date) -> tuple[Input, ...]:
    # An EHR's facts may be younger than a store that lives in its own time (development).
    today = max(today, person.feature_date or today)
    told = []
    for feature in FEATURES:
        value = person.values.get(feature.name)
        status, age_days = status_of(feature.name, value, person.observed_on.get(feature.name), today)
        told.append(Input(feature.name, value, feature.unit, status, age_days))
    return tuple(told)


def _new_id() -> str:
    """UUID 7 (RFC 9562): milliseconds, then chance, so that the index of the log grows at its end."""
    chance = int.from_bytes(os.urandom(10), "big")
    number = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | 0x7 << 76 | (chance >> 68) << 64 | 0b10 << 62
    return f"{number | chance & (1 << 62) - 1:032x}"
