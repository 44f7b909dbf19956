"""`ml/gates.toml` read into types: risk bands and what a model must show."""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

GATES_FILE = Path(__file__).resolve().parent.parent / "gates.toml"
Band = Literal["low", "moderate", "high"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bands(_Strict):
    """One-year risks from which a patient counts as moderate and as high."""

    moderate: float
    high: float

    def of(self, risk: float) -> Band:
        return "high" if risk >= self.high else "moderate" if risk >= self.moderate else "low"


class Enough(_Strict):
    test_events: int
    train_events: int


class BetterThan(_Strict):
    strict_from_events: int
    auroc_tolerance: float
    auroc_minimum_low: float


class Range(_Strict):
    low: float
    high: float
    outer_low: float
    outer_high: float


class Subgroups(_Strict):
    minimum_events: int
    auroc_drop: float
    observed_to_expected_low: float
    observed_to_expected_high: float


class Champion(_Strict):
    minimum_difference: float
    brier_ratio: float


class GateRules(_Strict):
    """The whole file. Errors: pydantic ``ValidationError`` naming the missing or unknown field."""

    bands: Bands
    enough: Enough
    better_than_framingham: BetterThan
    calibration_slope: Range
    calibration_in_the_large: Range
    subgroups: Subgroups
    champion: Champion


@lru_cache(maxsize=4)
def load_gate_rules(path: Path = GATES_FILE) -> GateRules:
    return GateRules.model_validate(tomllib.loads(path.read_text()))
