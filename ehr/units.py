"""Units as they may travel: made of known words, so that a name typed into the unit's field does not reach the lake."""

import re
from functools import lru_cache
from pathlib import Path

_FILE = Path(__file__).resolve().parent / "unit_words.txt"
# Stands for a unit that was sent and may not pass. It is no missing one: those are taken for the measure's usual unit.
DROPPED_UNIT = "{dropped}"


@lru_cache(maxsize=1)
def unit_pattern() -> str:
    """A regular expression, for Python as for DuckDB, of text whose letters are words of `unit_words.txt` alone."""
    words = "|".join(_FILE.read_text().split())
    return f"(?i)[^a-z]*(?:(?:{words})(?:[^a-z]+|$))*"


@lru_cache(maxsize=4096)
def is_of_unit_words(unit: str) -> bool:
    return re.fullmatch(unit_pattern(), unit) is not None
