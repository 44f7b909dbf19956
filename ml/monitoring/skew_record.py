"""Keeping a skew check: its row in the ops database, its rates by feature in the lake."""

from collections.abc import Callable, Mapping

from sqlalchemy import func, select

from core.lake import write_lake
from core.serving_tables import SkewCheck
from core.settings import Settings
from core.store import store_session
from ml.features.catalog import FEATURE_NAMES

_TABLE = """
create schema if not exists clinical.monitoring;
create table if not exists clinical.monitoring.feature_skew (
    skew_check_id bigint, checked_on date, feature varchar, compared bigint, mismatched bigint, mismatch_rate double,
    bound double, is_breached boolean
);
"""


def keep_rates(settings: Settings, check: SkewCheck, mismatched: Mapping[str, int], bound: float,
               tell: Callable[[], None]) -> SkewCheck:
    """Write the rates, tell of them, then write the check under the number it will have.

    The lake and the ops database share no transaction: a death in between leaves rates without a check, which the next run
    of the same number replaces, and perhaps an alert that is told twice rather than never.
    """
    import pandas as pd

    with store_session(settings) as session:
        check.skew_check_id = (session.scalar(select(func.max(SkewCheck.skew_check_id))) or 0) + 1
    if check.compared:
        rates = pd.DataFrame({"feature": FEATURE_NAMES, "mismatched": [mismatched.get(name, 0) for name in FEATURE_NAMES]})
        with write_lake(settings) as lake:
            lake.execute(_TABLE)
            lake.register("rates", rates)
            lake.execute("begin")
            lake.execute("delete from clinical.monitoring.feature_skew where skew_check_id = $1", [check.skew_check_id])
            lake.execute(
                """
                insert into clinical.monitoring.feature_skew by name
                select $1::bigint as skew_check_id, $2::date as checked_on, feature, $3::bigint as compared, mismatched,
                    mismatched / $3::double as mismatch_rate, $4::double as bound, mismatch_rate > bound as is_breached
                from rates
                """, [check.skew_check_id, check.checked_at.date(), check.compared, bound])
            lake.execute("commit")
    tell()
    with store_session(settings) as session:
        session.add(check)
        session.flush()
        return check
