"""What a check is, and the four suites by name. One module per suite says what must hold at its boundary."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Literal

Severity = Literal["fail", "warn"]
SUITE_NAMES = ("landed", "marts", "training_set", "prediction_log")


@dataclass(frozen=True)
class Check:
    """One expectation: a query whose every row is a violation. ``table`` says where; only the rows' number is ever read.

    ``fail`` closes the gate, ``warn`` is written down.
    """

    name: str
    severity: Severity
    table: str
    says: str
    violations: str


@dataclass(frozen=True)
class Scope:
    """What a suite is asked about. Relations are names or subqueries that the gate's connection can read."""

    as_of: date
    since_batch_id: int = 0
    through_batch_id: int = 0
    published_rows: dict[str, int] | None = None  # rows of each core mart as readers see it now; None: nothing published
    key_columns: dict[str, list[str]] | None = None  # raw table → its *_key columns
    text_columns: dict[str, list[str]] | None = None  # raw table → SQL expressions of its free varchar
    rows: str = ""  # the training set or the predictions under test
    eligible: str = ""  # who should have been scored


def checks_of(suite: str, scope: Scope) -> list[Check]:
    """The checks of a suite for this scope. Errors: `KeyError` for a suite that does not exist."""
    from expectations import landed, marts, prediction_log, training_set

    suites: dict[str, Callable[[Scope], list[Check]]] = {
        "landed": landed.checks,
        "marts": marts.checks,
        "training_set": training_set.checks,
        "prediction_log": prediction_log.checks,
    }
    return suites[suite](scope)


def not_null(table: str, column: str, relation: str = "") -> Check:
    return Check(f"{table.split('.')[-1]}_{column}_is_known", "fail", table, f"`{column}` is never null",
                 f"select 1 from {relation or table} where {column} is null")


def unique(table: str, columns: tuple[str, ...], relation: str = "") -> Check:
    grain = ", ".join(columns)
    return Check(f"{table.split('.')[-1]}_grain_is_unique", "fail", table, f"one row per {grain}",
                 f"select 1 from (select {grain} from {relation or table} group by all having count(*) > 1)")


def share_at_least(name: str, severity: Severity, table: str, says: str, part: str, least: float,
                   relation: str = "", where: str = "true", least_rows: int = 1) -> Check:
    """Violated when the share of rows with ``part`` is below ``least``, given at least ``least_rows`` rows."""
    return Check(name, severity, table, says, f"""
        select 1 from (
            select count(*) filter (where {part}) as part, count(*) as whole
            from {relation or table} where {where}
        ) where whole >= {least_rows} and part < {least} * whole""")
