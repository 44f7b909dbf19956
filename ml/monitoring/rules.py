"""The rules of judgement (`rules.toml`) as frozen, typed values."""

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

RULES_FILE = Path(__file__).with_name("rules.toml")


@dataclass(frozen=True)
class Windows:
    first_days: int
    month_days: int
    reference_days: int
    visit_lookback_days: int
    feature_dates: int


@dataclass(frozen=True)
class Confidence:
    level: float
    design_effect: float


@dataclass(frozen=True)
class Sample:
    visits: int
    rows: int
    expected: int
    reference: int


@dataclass(frozen=True)
class EffectRule:
    """Breached when |effect| >= ``effect`` and its bound towards zero >= ``floor``."""

    effect: float
    floor: float
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class CollapseRule:
    """Breached when observed / expected <= ``effect`` and its upper bound <= ``ceiling``."""

    effect: float
    ceiling: float
    measures: tuple[str, ...] = ()
    silent_gaps: int = 0
    silent_days: int = 0


@dataclass(frozen=True)
class Performance:
    horizon_days: int
    minimum_events: int
    auc_drop: float
    auc_floor: float
    observed_expected: tuple[float, float]
    slope: tuple[float, float]


@dataclass(frozen=True)
class SkewRule:
    """Shares of what was served: breached when a feature's share is above ``mismatch_rate``."""

    mismatch_rate: float
    unreadable_rate: float


@dataclass(frozen=True)
class ReportLimits:
    reference_rows: int
    grid: int
    history: int


@dataclass(frozen=True)
class Rules:
    windows: Windows
    confidence: Confidence
    sample: Sample
    within_person: EffectRule
    visitors: EffectRule
    mix: EffectRule
    prediction: EffectRule
    volume: CollapseRule
    yields: CollapseRule
    share: EffectRule
    nulls: EffectRule
    performance: Performance
    skew: SkewRule
    repeat_after_days: int
    report: ReportLimits


@lru_cache(maxsize=1)
def load_rules(path: Path = RULES_FILE) -> Rules:
    """The rules in force. Errors: `KeyError` or `TypeError` naming the entry when the file does not fit."""
    raw = tomllib.loads(path.read_text())
    drift, fault = raw["drift"], raw["fault"]
    return Rules(
        windows=Windows(**raw["windows"]),
        confidence=Confidence(**raw["confidence"]),
        sample=Sample(**raw["sample"]),
        **{name: EffectRule(**_tuples(drift[name])) for name in ("within_person", "visitors", "mix", "prediction")},
        volume=CollapseRule(**_tuples(fault["volume"])),
        yields=CollapseRule(**_tuples(fault["yield"])),
        share=EffectRule(**fault["share"]),
        nulls=EffectRule(**fault["nulls"]),
        performance=Performance(**_tuples(raw["performance"])),
        skew=SkewRule(**raw["skew"]),
        repeat_after_days=raw["alerts"]["repeat_after_days"],
        report=ReportLimits(**raw["report"]),
    )


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
