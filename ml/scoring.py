"""The champion's risk for everybody eligible, kept with the model, the snapshot and the features as served."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from sqlalchemy import select

from core.errors import ModelError
from core.lake import read_lake, write_lake
from core.publication import Published, published
from core.settings import Settings
from core.store import ScoringRun, store_session, utc_now
from ml import registry
from ml.evaluation.rules import load_gate_rules
from ml.features.catalog import FEATURE_NAMES, FEATURES

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

_SQL_TYPES = {"number": "double", "boolean": "boolean", "category": "varchar"}
_IDS = ("scoring_run_id", "patient_key", "as_of", "model_version", "build_id", "clinical_snapshot", "risk", "band",
        "scored_at")


@dataclass(frozen=True)
class ScoringOutcome:
    """``skipped`` means that this build had been scored by this model before; the figures are then of that run."""

    scoring_run_id: int
    build_id: int
    model_version: int
    as_of: date
    patients: int
    mean_risk: float | None
    skipped: bool


def score(settings: Settings) -> ScoringOutcome:
    """Score the published build once per model version. Errors: `ModelError` without a champion; `NotPublishedError`.

    A run that died between lake and ops database left rows without a run; the next replaces them.
    """
    now_published = published(settings)
    champion = registry.champion(settings)
    if champion is None:
        raise ModelError("there is no champion to score with; train one with `cuff train`")
    if (done := _earlier_run(settings, now_published.build_id, champion.version)) is not None:
        return _outcome(done, skipped=True)
    with read_lake(settings, ("clinical",), now_published.snapshots) as lake:
        people = eligible_features(lake, now_published.as_of)
    people["risk"] = champion.predict(people, settings.training_threads)
    bands = load_gate_rules().bands
    people["band"] = [bands.of(risk) for risk in people["risk"]]
    with store_session(settings) as session:
        run = ScoringRun(
            build_id=now_published.build_id, clinical_snapshot=now_published.clinical_snapshot,
            as_of=now_published.as_of, model_version=champion.version, patients=len(people),
            mean_risk=float(people["risk"].mean()) if len(people) else None, scored_at=utc_now())
        session.add(run)
        session.flush()
        with write_lake(settings) as lake:
            _append(lake, people, run, now_published)
    return _outcome(run, skipped=False)


def eligible_features(lake: "DuckDBPyConnection", as_of: date) -> "pd.DataFrame":
    """``patient_key`` and the features of everybody eligible on ``as_of``, in the order of the keys."""
    return lake.execute(
        f"select patient_key, {', '.join(FEATURE_NAMES)} from clinical.ml.patient_features "
        "where feature_date = $1 and is_eligible order by patient_key", [as_of]).df()


def create_predictions_table(lake: "DuckDBPyConnection") -> None:
    """The prediction log, empty when new; dbt and the monitor read it."""
    features = ", ".join(f"{feature.name} {_SQL_TYPES[feature.dtype]}" for feature in FEATURES)
    lake.execute("create schema if not exists clinical.scores")
    lake.execute(
        f"""
        create table if not exists clinical.scores.predictions (
            scoring_run_id integer, patient_key varchar, as_of date, model_version integer, build_id integer,
            clinical_snapshot bigint, risk double, band varchar, scored_at timestamptz, {features}
        )
        """)


def _append(lake: "DuckDBPyConnection", people: "pd.DataFrame", run: ScoringRun, now_published: Published) -> None:
    create_predictions_table(lake)
    casts = ", ".join(f"{feature.name}::{_SQL_TYPES[feature.dtype]}" for feature in FEATURES)
    lake.register("people", people)
    lake.execute("begin")
    lake.execute("delete from clinical.scores.predictions where build_id = $1 and model_version = $2",
                 [run.build_id, run.model_version])
    lake.execute(
        f"""
        insert into clinical.scores.predictions ({', '.join((*_IDS, *FEATURE_NAMES))})
        select $1, patient_key, $2::date, $3, $4, $5, risk, band, $6::timestamptz, {casts} from people
        """,
        [run.scoring_run_id, now_published.as_of, run.model_version, run.build_id, run.clinical_snapshot, run.scored_at])
    lake.execute("commit")


def _earlier_run(settings: Settings, build_id: int, model_version: int) -> ScoringRun | None:
    with store_session(settings) as session:
        return session.scalars(
            select(ScoringRun).where(ScoringRun.build_id == build_id, ScoringRun.model_version == model_version)
            .order_by(ScoringRun.scoring_run_id.desc()).limit(1)
        ).first()


def _outcome(run: ScoringRun, *, skipped: bool) -> ScoringOutcome:
    return ScoringOutcome(run.scoring_run_id, run.build_id, run.model_version, run.as_of, run.patients, run.mean_risk,
                          skipped)
