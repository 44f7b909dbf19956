"""Keeping a verdict: its row in the ops database, its numbers in the lake."""

from datetime import date

from sqlalchemy import select

from core.lake import read_lake, write_lake
from core.settings import Settings
from core.store import DriftVerdict, store_session
from ml.monitoring.metrics import DriftMetric

_TABLE = """
create schema if not exists clinical.monitoring;
create table if not exists clinical.monitoring.drift_metrics (
    drift_verdict_id bigint, as_of date, model_version integer, kind varchar, feature varchar, statistic varchar,
    value double, threshold double, is_breached boolean
);
"""


def verdict_of(settings: Settings, build_id: int, model_version: int) -> DriftVerdict | None:
    """The verdict already given on a build and a model version."""
    with store_session(settings) as session:
        return session.scalars(select(DriftVerdict).where(
            DriftVerdict.build_id == build_id, DriftVerdict.model_version == model_version)).first()


def breaches_of(settings: Settings, drift_verdict_id: int) -> list[tuple[str, str]]:
    """(kind, feature) of what breached its rule in a verdict."""
    with read_lake(settings, ("clinical",)) as lake:
        return lake.execute("select distinct kind, feature from clinical.monitoring.drift_metrics "
                            "where drift_verdict_id = $1 and is_breached order by all", [drift_verdict_id]).fetchall()


def mark_emitted(settings: Settings, drift_verdict_id: int) -> None:
    """Note that a verdict of drift was passed on: from then on it starts the cool-down and asks for nothing more."""
    with store_session(settings) as session:
        verdict = session.get_one(DriftVerdict, drift_verdict_id)
        verdict.emitted = True


def judged_days(settings: Settings) -> list[date]:
    """The data days that have been judged so far."""
    with store_session(settings) as session:
        return list(session.scalars(select(DriftVerdict.as_of).distinct()))


def keep_verdict(settings: Settings, verdict: DriftVerdict, metrics: list[DriftMetric]) -> DriftVerdict:
    """Write the metrics, then the verdict, under the number it will have.

    The lake and the ops database share no transaction: a death in between leaves metrics without a verdict, which the
    next run of the same number replaces.
    """
    import pandas as pd

    with store_session(settings) as session:
        newest = session.scalars(select(DriftVerdict.drift_verdict_id)
                                 .order_by(DriftVerdict.drift_verdict_id.desc()).limit(1)).first()
    verdict.drift_verdict_id = (newest or 0) + 1
    with write_lake(settings) as lake:
        lake.execute(_TABLE)
        lake.execute("begin")
        lake.execute("delete from clinical.monitoring.drift_metrics where drift_verdict_id = $1",
                     [verdict.drift_verdict_id])
        rows = pd.DataFrame({  # one insert, so one file
            "drift_verdict_id": verdict.drift_verdict_id, "as_of": verdict.as_of,
            "model_version": verdict.model_version,
            **{name: [getattr(metric, name) for metric in metrics]
               for name in ("kind", "feature", "statistic", "value", "threshold", "is_breached")}})
        rows["threshold"] = rows["threshold"].astype(float)
        lake.register("rows", rows)
        lake.execute("insert into clinical.monitoring.drift_metrics by name "
                     "select * replace (nullif(threshold, 'nan'::double) as threshold) from rows")
        lake.execute("commit")
    with store_session(settings) as session:
        session.add(verdict)
        session.flush()
        return verdict
