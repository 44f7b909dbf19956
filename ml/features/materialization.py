"""Give the published features to the feature store: all dates offline, each patient's newest row online."""

import logging
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from core.lake import read_lake
from core.publication import published
from core.settings import Settings
from ml.features.catalog import FEATURE_NAMES
from ml.features.definitions import (
    ENTITY_KEY,
    FEATURE_VIEW,
    TIME_TO_LIVE,
    TIMESTAMP,
    definitions,
    export_path,
    features_dir,
    open_feature_store,
)

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class FeaturesOutcome:
    """Rows exported (every patient and feature date) and patients whose newest row is served online."""

    build_id: int
    as_of: date
    rows: int
    patients: int


def materialize(settings: Settings) -> FeaturesOutcome:
    """Export and serve the features of the published build. Replaces whole, so it can be run as often as one likes.

    The online store is built beside the one that serves and then takes its place: a reader sees the old night or the new
    one, and nobody who was erased or merged away stays behind. Errors: `NotPublishedError`.
    """
    now_published = published(settings)
    _quiet()
    folder = features_dir(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    export = folder / "patient_features.parquet.new"
    with read_lake(settings, ("clinical",), now_published.snapshots) as lake:
        rows = _export(lake, export)
        newest = _newest(lake, now_published.as_of)
    export.chmod(0o600)
    os.replace(export, export_path(settings))
    online = folder / "online.db.new"
    for left_over in folder.glob("online.db.new*"):
        left_over.unlink()
    store = open_feature_store(settings, online)
    store.apply(definitions(settings))
    if len(newest):
        store.write_to_online_store(FEATURE_VIEW, df=newest)
    _close(store, online)
    os.replace(online, folder / "online.db")
    return FeaturesOutcome(now_published.build_id, now_published.as_of, rows, len(newest))


def _export(lake: "DuckDBPyConnection", path: Path) -> int:
    copied = lake.execute(
        f"""
        copy (
            select patient_key, feature_date::timestamp at time zone 'UTC' as {TIMESTAMP}, {', '.join(FEATURE_NAMES)}
            from clinical.ml.patient_features
            order by feature_date, patient_key
        ) to '{str(path).replace("'", "''")}' (format parquet, compression zstd)
        """
    ).fetchone()
    return int(copied[0]) if copied else 0


def _newest(lake: "DuckDBPyConnection", as_of: date) -> "pd.DataFrame":
    return lake.execute(
        f"""
        select {ENTITY_KEY}, feature_date::timestamp at time zone 'UTC' as {TIMESTAMP}, {', '.join(FEATURE_NAMES)}
        from clinical.ml.patient_features
        where feature_date <= $1::date and feature_date > $1::date - {TIME_TO_LIVE.days}
        qualify row_number() over (partition by patient_key order by feature_date desc) = 1
        """,
        [as_of],
    ).df()


def _close(store: object, online: Path) -> None:
    """Close the SQLite connection that Feast keeps, and fold its journal into the file that is about to be moved."""
    import sqlite3

    from feast import FeatureStore

    assert isinstance(store, FeatureStore)
    connection = getattr(store._get_provider().online_store, "_conn", None)
    if connection is not None:
        connection.close()
    with sqlite3.connect(online) as journal:
        journal.execute("pragma journal_mode=delete")
    journal.close()
    online.chmod(0o600)


def _quiet() -> None:
    for name in ("feast", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
