"""The days under judgement, [start, end), and the frames read from the lake for them.

An extract is cut in the night, so of the day it is delivered on (`as_of`) it holds a few hours at most: a day is judged
once it is over, by the delivery of the day after.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from duckdb import DuckDBPyConnection

from ml.monitoring.rules import Rules

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Window:
    """Days from ``start`` on and before ``end``."""

    name: str  # night | two_nights | month
    start: date
    end: date

    @property
    def days(self) -> int:
        return (self.end - self.start).days


def windows_of(as_of: date, judged_before: list[date], rules: Rules) -> list[Window]:
    """The looks of one verdict: since the last judged day, since the one before it, and the last month."""
    earlier = sorted({day for day in judged_before if day < as_of}, reverse=True)
    if not earlier:
        return [Window("night", as_of - timedelta(rules.windows.first_days), as_of)]
    looks = [Window("night", earlier[0], as_of)]
    if len(earlier) > 1:
        looks.append(Window("two_nights", earlier[1], as_of))
    month = as_of - timedelta(rules.windows.month_days)
    return [*looks, Window("month", month, as_of)] if month < looks[-1].start else looks


def within_person(lake: DuckDBPyConnection, start: date, end: date) -> "pd.DataFrame":
    """Per person and day in [start, end): mean reading minus the person's own mean of the 12 months before, in mmHg.

    Columns ``event_date, systolic_mmhg, diastolic_mmhg``. Days of people without an earlier reading are left out.
    """
    return lake.execute(
        """
        with days as (
            select patient_key, event_date, avg(systolic_mmhg) as systolic, avg(diastolic_mmhg) as diastolic
            from clinical.core.fct_blood_pressure
            where is_current and is_plausible and event_date >= $1::date - 366 and event_date < $2::date
            group by all
        ),
        shifts as (
            select event_date, systolic - avg(systolic) over year_before as systolic_mmhg,
                diastolic - avg(diastolic) over year_before as diastolic_mmhg
            from days
            window year_before as (partition by patient_key order by event_date
                range between interval 365 days preceding and interval 1 day preceding)
        )
        select * from shifts where event_date >= $1::date and systolic_mmhg is not null and diastolic_mmhg is not null
        order by all
        """, [start, end]).df()


def visitors(lake: DuckDBPyConnection, start: date, end: date, feature_date: date, rules: Rules, *,
             heard: bool) -> "pd.DataFrame":
    """One row per person and visit day in [start, end), with the person's features at ``feature_date``.

    ``heard`` takes visits that became known in the window (a clinic that joins brings its charts), of the last year;
    else visits that took place in it. ``is_returning`` says whether we knew the person ``visit_lookback_days`` before
    ``feature_date``: the same in a night and in the reference, so that people who join do not look like lost values.
    """
    clock = "cast(known_at as date)" if heard else "visit_date"
    return lake.execute(
        f"""
        with visits as (
            select patient_key, cast(started_at as date) as visit_date, min(known_at) as known_at
            from clinical.core.fct_encounters group by all
        ),
        acquaintances as (select patient_key, cast(min(known_at) as date) as since_date from visits group by all)
        select f.* exclude (patient_key), f.patient_key, since_date < $4::date as is_returning
        from visits
        join clinical.ml.patient_features f using (patient_key)
        join acquaintances using (patient_key)
        where f.feature_date = $3::date and {clock} >= $1::date and {clock} < $2::date
            and visit_date >= $2::date - 365 and visit_date < $2::date
        order by f.patient_key, visit_date
        """, [start, end, feature_date, feature_date - timedelta(rules.windows.visit_lookback_days)]).df()


def reference_visitors(lake: DuckDBPyConnection, as_of: date, rules: Rules) -> "pd.DataFrame":
    """Visits before each of the newest feature dates up to ``as_of``: what `visitors` looked like in training."""
    import pandas as pd

    dates = [row[0] for row in lake.execute(
        "select distinct feature_date from clinical.ml.patient_features where feature_date <= $1 "
        "order by 1 desc limit $2",
        [as_of, rules.windows.feature_dates]).fetchall()]
    back = timedelta(rules.windows.visit_lookback_days)
    frames = [visitors(lake, day - back, day, day, rules, heard=False) for day in dates]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def served_risk(lake: DuckDBPyConnection, model_version: int, as_of: date) -> "pd.DataFrame":
    """The newest run of a model version on or before ``as_of``: ``patient_key, risk, run_as_of``; empty if none."""
    return lake.execute(
        """
        select patient_key, risk, as_of as run_as_of from clinical.scores.predictions
        where scoring_run_id = (
            select max(scoring_run_id) from clinical.scores.predictions
            where model_version::varchar = $1::varchar and as_of <= $2)
        """, [str(model_version), as_of]).df()


def table_exists(lake: DuckDBPyConnection, schema: str, table: str) -> bool:
    """Whether the attached clinical catalog holds the table at its snapshot."""
    return lake.execute(
        "select count(*) from information_schema.tables where table_catalog = 'clinical' and table_schema = $1 "
        "and table_name = $2", [schema, table]).fetchone() != (0,)


def has_snapshot(lake: DuckDBPyConnection, number: int) -> bool:
    """Whether the attached clinical catalog can still be read at a number: maintenance expires what nobody needs."""
    return lake.execute("select count(*) from ducklake_snapshots('clinical') where snapshot_id = $1",
                        [number]).fetchone() == (1,)
