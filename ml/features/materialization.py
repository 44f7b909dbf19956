"""Give the published features to the feature store: all dates offline, each patient's newest row online."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from core.lake import read_lake
from core.publication import Published, published
from core.settings import Settings
from ml.features.catalog import FEATURE_NAMES
from ml.features.definitions import (
    DESCRIBING,
    ENTITY_KEY,
    FEATURE_VIEW,
    LINK_VIEW,
    PERSON_KEY,
    TIME_TO_LIVE,
    TIMESTAMP,
    definitions,
    export_path,
    features_dir,
    links_path,
)
from ml.features.online_cells import Materialization
from ml.features.online_writing import OnlineWriting, open_for_writing

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection
_ROWS_AT_A_TIME = 5000  # Feast makes an object of every value


@dataclass(frozen=True)
class FeaturesOutcome:
    """Rows exported (every patient and feature date), patients whose newest row is served online, and what changed there."""

    build_id: int
    as_of: date
    rows: int
    patients: int
    written: int
    unchanged: int
    removed: int


def materialize(settings: Settings) -> FeaturesOutcome:
    """Export and serve the features of the published build. Can be run, killed and run again as often as one likes.

    The online store itself says what it holds: each row bears a digest of its content, and only rows whose content differs
    are written. Who was erased, merged away or fell behind the time to live is removed. A reader sees a patient's row of
    one run or of the next, never parts of both. Errors: `NotPublishedError`.
    """
    now_published = published(settings)
    _quiet()
    features_dir(settings).mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(settings), read_lake(settings, ("clinical",), now_published.snapshots) as lake:
        rows = _export(lake, now_published, export_path(settings))
        _export_links(lake, links_path(settings))
        with open_for_writing(settings) as online:
            online.store.apply(definitions(settings))
            outcome = _serve(lake, online, now_published)
    return FeaturesOutcome(now_published.build_id, now_published.as_of, rows, *outcome)


def _serve(lake: "DuckDBPyConnection", online: OnlineWriting, now: Published) -> tuple[int, int, int, int]:
    """(patients, written, unchanged, removed)."""
    run = Materialization(online.next_number(), now.build_id, now.clinical_snapshot, now.as_of)
    links = lake.execute(
        f"""
        select {PERSON_KEY}, {ENTITY_KEY}, $1::date::timestamp at time zone 'UTC' as {TIMESTAMP}
        from clinical.intermediate.int_persons__resolved where {PERSON_KEY} <> {ENTITY_KEY}
        """, [now.as_of]).df()
    newest = _newest(lake, run)
    held = online.row_digests()
    changed = newest[newest["row_digest"] != newest[ENTITY_KEY].map(held)]
    gone = held.keys() - set(newest[ENTITY_KEY])
    online.remove_rows(gone)
    for start in range(0, len(changed), _ROWS_AT_A_TIME):
        online.store.write_to_online_store(FEATURE_VIEW, df=changed.iloc[start:start + _ROWS_AT_A_TIME])
    linked = online.links()
    wanted = dict(zip(links[PERSON_KEY], links[ENTITY_KEY], strict=True))
    online.remove_links(linked.keys() - wanted.keys())
    news = links[links[ENTITY_KEY] != links[PERSON_KEY].map(linked)]
    if len(news):
        online.store.write_to_online_store(LINK_VIEW, df=news)
    online.finish(run)
    return len(newest), len(changed), len(newest) - len(changed), len(gone)


def _described() -> str:
    """The columns of a row: features, then what the row says of itself, days as ISO dates."""
    return ", ".join([*FEATURE_NAMES, *(name if name in ("is_eligible", "source_ids") else f"{name}::varchar as {name}"
                                        for name in DESCRIBING)])


def _export(lake: "DuckDBPyConnection", now: Published, path: Path) -> int:
    return _copy(lake, f"""
        select patient_key, feature_date::timestamp at time zone 'UTC' as {TIMESTAMP}, {_described()},
            {now.build_id}::bigint as build_id, {now.clinical_snapshot}::bigint as clinical_snapshot,
            null::bigint as materialization, null::varchar as row_digest
        from clinical.ml.patient_features
        order by feature_date, patient_key""", path)


def _export_links(lake: "DuckDBPyConnection", path: Path) -> int:
    return _copy(lake, f"""
        select {PERSON_KEY}, {ENTITY_KEY}, timestamptz '1970-01-01 00:00:00+00' as {TIMESTAMP}
        from clinical.intermediate.int_persons__resolved where {PERSON_KEY} <> {ENTITY_KEY} order by all""", path)


def _copy(lake: "DuckDBPyConnection", query: str, path: Path) -> int:
    """Write the rows of a query beside ``path`` and put them in its place; returns their number."""
    beside = path.with_suffix(".parquet.new")
    copied = lake.execute(
        f"copy ({query}) to '{str(beside).replace(chr(39), chr(39) * 2)}' (format parquet, compression zstd)").fetchone()
    beside.chmod(0o600)
    os.replace(beside, path)
    return int(copied[0]) if copied else 0


def _newest(lake: "DuckDBPyConnection", run: Materialization) -> "pd.DataFrame":
    """Each patient's newest row within the time to live, with its digest: column names and values, floats to the last bit."""
    return lake.execute(
        f"""
        with newest as (
            select {ENTITY_KEY}, feature_date::timestamp at time zone 'UTC' as {TIMESTAMP}, {_described()}
            from clinical.ml.patient_features
            where feature_date <= $1::date and feature_date > $1::date - {TIME_TO_LIVE.days}
            qualify row_number() over (partition by patient_key order by feature_date desc) = 1
        )
        select newest.*, $2::bigint as build_id, $3::bigint as clinical_snapshot, $4::bigint as materialization,
            md5(newest::varchar) as row_digest
        from newest
        """,
        [run.as_of, run.build_id, run.clinical_snapshot, run.number],
    ).df()


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One run at a time: two would build the same file, or stamp rows with the same number."""
    with open(features_dir(settings) / "materialize.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _quiet() -> None:
    for name in ("feast", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
