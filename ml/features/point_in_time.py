"""The one join by time: to every (patient, moment) the newest features that were there by then, and not too old.

DuckDB's ``asof join`` sorts keys and times alone, once; the features are then fetched by key. Feast joins every moment with
all rows before it and keeps the newest, which gives the same rows (`bench/features.py` compares them) for more work the more
rows a patient has.
"""

from typing import TYPE_CHECKING

from ml.features.catalog import FEATURE_NAMES
from ml.features.definitions import ENTITY_KEY, TIME_TO_LIVE, TIMESTAMP

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection


def joined_by_time(
    entities: str, moment: str, source: str, known: str, longest: str, columns: tuple[str, ...] = FEATURE_NAMES
) -> str:
    """SQL: every row of the relation ``entities`` once, with ``columns`` of the relation ``source`` and ``known`` itself.

    Taken is the patient's newest row with ``source.known <= entities.moment``; where there is none, or it is older than
    ``longest`` (days for dates, an interval for timestamps), the columns are null. Both relations have ``patient_key``, and
    ``source`` has one row for each of it and ``known``.
    """
    return f"""
        select matched.*, {', '.join(f'features.{name}' for name in columns)}
        from (
            select entities.*, case when entities.{moment} - times.{known} <= {longest} then times.{known} end as {known}
            from {entities} as entities
            asof left join (select {ENTITY_KEY}, {known} from {source}) as times
                on entities.{ENTITY_KEY} = times.{ENTITY_KEY} and entities.{moment} >= times.{known}
        ) as matched
        left join {source} as features
            on matched.{ENTITY_KEY} = features.{ENTITY_KEY} and matched.{known} = features.{known}"""


def historical_features(connection: "DuckDBPyConnection", entities: "pd.DataFrame", export: str) -> "pd.DataFrame":
    """What Feast's ``get_historical_features`` gives for the features of the model, from the exported Parquet ``export``.

    ``entities`` has ``patient_key`` and ``event_timestamp`` (UTC), in any order; the order is not kept.
    """
    connection.register("asked_entities", entities)
    source = "read_parquet('" + export.replace("'", "''") + "')"
    try:
        joined = joined_by_time("asked_entities", "event_timestamp", source, TIMESTAMP, f"interval {TIME_TO_LIVE.days} days")
        return connection.execute(f"select * exclude ({TIMESTAMP}) from ({joined})").df()
    finally:
        connection.unregister("asked_entities")
