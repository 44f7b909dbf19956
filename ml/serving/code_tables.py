"""The code sets, unit conversions and plausible ranges of the warehouse, read from dbt's own seeds: one definition."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT

SEEDS = PROJECT_ROOT / "dbt_project" / "seeds"
_UNIT_NOISE = re.compile(r"[\s\[\]{}]")


@dataclass(frozen=True)
class Coding:
    """A code and the system it belongs to, as sent."""

    system: str | None
    code: str


@dataclass(frozen=True)
class Concept:
    """What a code stands for, and while it was valid (both days included)."""

    name: str
    valid_from: date
    valid_to: date
    is_category: bool

    def at(self, day: date) -> str | None:
        """The name, if the code was valid on ``day`` (as dbt's macro ``valid_concept``)."""
        return self.name if self.valid_from <= day <= self.valid_to else None


@dataclass(frozen=True)
class Conversion:
    """canonical = number × factor + summand; for numbers in [low, high) where no unit was sent."""

    factor: float
    summand: float
    low: float
    high: float


@dataclass(frozen=True)
class CodeTables:
    """The three seeds, ready to be asked."""

    concepts: dict[tuple[str, str, str], Concept]
    conversions: dict[tuple[str, str], tuple[Conversion, ...]]
    limits: dict[str, tuple[float, float]]

    def first_mapped(self, domain: str, codings: Sequence[Coding]) -> tuple[Coding | None, Concept | None]:
        """The first coding that the seed maps, else the first one without a concept (dbt's macro ``mapped_codings``)."""
        for coding in codings:
            system = "local" if coding.system and coding.system.startswith("local:") else coding.system or ""
            concept = self.concepts.get((domain, system, coding.code))
            if concept is None:
                category = self.concepts.get((domain, system, coding.code[:3]))
                concept = category if category and category.is_category else None
            if concept is not None:
                return coding, concept
        return (codings[0] if codings else None), None

    def concept_at(self, domain: str, codings: Sequence[Coding], day: date) -> str | None:
        """What the codings stand for on ``day``; None where the seed knows none of them, or not for that day."""
        _, concept = self.first_mapped(domain, codings)
        return concept.at(day) if concept else None

    def convert(self, measure: str, number: float, unit: str | None, digits: int) -> float | None:
        """The number in the measure's canonical unit, rounded as the warehouse does; None where its unit is not known."""
        for conversion in self.conversions.get((measure, normalized_unit(unit)), ()):
            if conversion.low <= number < conversion.high:
                return round_like_duckdb(number * conversion.factor + conversion.summand, digits)
        return None

    def is_plausible(self, measure: str, value: float) -> bool:
        low, high = self.limits.get(measure, (-math.inf, math.inf))
        return low <= value <= high


def normalized_unit(unit: str | None) -> str:
    """As the seed spells it: ``mm[Hg]`` and ``mmHg`` are ``mmhg``; ``none`` where none was sent."""
    return _UNIT_NOISE.sub("", (unit or "").lower()) or "none"


def round_like_duckdb(number: float, digits: int) -> float:
    """Half away from zero on the scaled double, as SQL's ``round`` computes; Python's own differs in the last digit."""
    scale = 10.0**digits
    scaled = number * scale
    if not math.isfinite(scaled):
        return number
    below = math.floor(abs(scaled))
    whole = below + 1 if abs(scaled) - below >= 0.5 else below
    return math.copysign(whole, scaled) / scale


@lru_cache(maxsize=1)
def code_tables(seeds: Path = SEEDS) -> CodeTables:
    """Read once per process. Errors: `ConfigurationError` naming the seed that is absent."""
    concepts = {
        (row["domain"], row["code_system"], row["code"]): Concept(
            row["concept"], date.fromisoformat(row["valid_from"]) if row["valid_from"] else date.min,
            date.fromisoformat(row["valid_to"]) if row["valid_to"] else date.max, row["is_category"] == "true")
        for row in _rows(seeds / "concept_codes.csv")
    }  # fmt: skip
    conversions: dict[tuple[str, str], tuple[Conversion, ...]] = {}
    for row in _rows(seeds / "unit_conversions.csv"):
        key = (row["measure"], row["unit"])
        conversions[key] = (*conversions.get(key, ()), Conversion(
            float(row["factor"]), float(row["summand"]), _number(row["assumed_from"], -math.inf),
            _number(row["assumed_below"], math.inf)))  # fmt: skip
    limits = {row["measure"]: (float(row["low"]), float(row["high"])) for row in _rows(seeds / "plausibility_limits.csv")}
    return CodeTables(concepts, conversions, limits)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as lines:
            return list(csv.DictReader(lines))
    except FileNotFoundError:
        raise ConfigurationError(f"the seed {path.name} is absent; restore dbt_project/seeds") from None


def _number(text: str, otherwise: float) -> float:
    return float(text) if text else otherwise
