"""Keeping the lake small: old snapshots expire, small files merge, files that no snapshot needs are deleted.

What is published, what a build is about to publish, what a registered model was trained on, and what a prediction was made
from that has not been compared with it yet, stays readable.
"""

from dataclasses import dataclass
from datetime import timedelta

from duckdb import DuckDBPyConnection
from sqlalchemy import func, select

from core.lake import CATALOGS, write_lake
from core.serving_tables import ServedPrediction, SkewCheck
from core.settings import Settings
from core.store import Build, ModelEvent, Publication, store_session, utc_now

KEEP_DAYS = 14  # how long a publication can be rolled back to
_SMALL_FILE_BYTES = 2 << 20  # a merged file soon outgrows it and is left to the weekly run
_SNAPSHOTS_AT_A_TIME = 2000


@dataclass(frozen=True)
class MaintenanceOutcome:
    """What one run of `maintain` did, over both catalogs."""

    expired_snapshots: int
    kept_snapshots: int


def maintain(settings: Settings, keep_days: int = KEEP_DAYS) -> MaintenanceOutcome:
    """Expire, merge and delete. Errors: `LakeBusyError` while a build writes."""
    kept = _numbers_to_keep(settings, keep_days)
    expired = 0
    with write_lake(settings, CATALOGS) as lake:
        for catalog in CATALOGS:
            newest = lake.execute(f"select max(snapshot_id) from ducklake_snapshots('{catalog}')").fetchone()
            keep = kept[catalog] | {int(newest[0]) if newest else 0}
            found = {int(row[0]) for row in lake.execute(
                f"select snapshot_id from ducklake_snapshots('{catalog}')").fetchall()}
            if drop := sorted(found - keep):
                numbers = ", ".join(map(str, drop))
                lake.execute(f"call ducklake_expire_snapshots('{catalog}', versions => [{numbers}])")
            expired += len(drop)
            lake.execute(f"call ducklake_merge_adjacent_files('{catalog}')")
            lake.execute(f"call ducklake_cleanup_old_files('{catalog}', cleanup_all => true)")
    return MaintenanceOutcome(expired, sum(len(numbers) for numbers in kept.values()))


def tidy_landing(settings: Settings, lake: DuckDBPyConnection) -> None:
    """What hundreds of small landings leave behind, cleared up every few minutes on a writing connection: small files of
    ``clinical.raw`` merge, snapshots that nobody may ask for any more expire.

    Files that an earlier call replaced are deleted now and not by that call: a reader may just have been opening them.
    """
    lake.execute("call ducklake_cleanup_old_files('clinical', cleanup_all => true)")
    keep = _numbers_to_keep(settings, KEEP_DAYS)["clinical"]
    # A build notes its snapshot shortly after it was made, hence a day's grace.
    found = lake.execute(
        "select snapshot_id from ducklake_snapshots('clinical') where snapshot_time < now() - interval 1 day "
        "order by snapshot_id limit $1", [_SNAPSHOTS_AT_A_TIME]).fetchall()
    if drop := sorted({int(row[0]) for row in found} - keep):
        lake.execute(f"call ducklake_expire_snapshots('clinical', versions => [{', '.join(map(str, drop))}])")
    for (table,) in lake.execute(
        "select table_name from duckdb_tables() where database_name = 'clinical' and schema_name = 'raw'"
    ).fetchall():
        lake.execute(f"call ducklake_merge_adjacent_files('clinical', '{table}', schema => 'raw', "
                     f"max_file_size => {_SMALL_FILE_BYTES})")  # fmt: skip


def _numbers_to_keep(settings: Settings, keep_days: int) -> dict[str, set[int]]:
    """Snapshot numbers by catalog that somebody may still ask for."""
    recently = utc_now() - timedelta(days=keep_days)
    with store_session(settings) as session:
        newest = session.scalars(
            select(Publication).order_by(Publication.publication_id.desc()).limit(1)).first()
        needed = {newest.build_id} if newest else set()
        needed |= set(session.scalars(select(Publication.build_id).where(Publication.published_at >= recently)))
        evidence = session.scalars(select(ModelEvent.evidence)).all()
        needed |= {int(each["build_id"]) for each in evidence if each.get("build_id") is not None}
        checked = session.scalar(select(func.max(SkewCheck.through_prediction_number))) or 0
        needed |= set(session.scalars(select(ServedPrediction.build_id).distinct().where(
            ServedPrediction.prediction_number > checked, ServedPrediction.build_id.is_not(None))))
        builds = session.scalars(
            select(Build).where(Build.build_id.in_(needed) | (Build.state == "built"))).all()
        return {
            "clinical": {build.clinical_snapshot for build in builds if build.clinical_snapshot is not None},
            "analytics": {build.analytics_snapshot for build in builds if build.analytics_snapshot is not None},
        }
