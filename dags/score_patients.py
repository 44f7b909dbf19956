"""### Score everybody

**Purpose**: the champion's risk for every eligible patient, logged with model, features and snapshot.

**Inputs**: the feature view and the champion (assets `features_materialized` or `champion_changed`).

**Outputs**: rows of `clinical.scores.predictions`, a row of `scoring_runs`; asset `patients_scored`. Before the first
champion there is nothing to score with: the run is skipped and emits nothing.

**When it fails**: the last predictions stay. "Digest" in the log means that the model file is not the one registered:
find out why before anything else, then `cuff rollback`. A red gate means that predictions are missing or out of range.
"""

from airflow.sdk import AssetAny, dag, task

from core.settings import load_settings
from expectation_gate import expectation_gate
from pipeline_assets import CHAMPION_CHANGED, FEATURES_MATERIALIZED, PATIENTS_SCORED
from pipeline_defaults import LAKE_WRITER_POOL, dag_arguments


@dag(schedule=AssetAny(FEATURES_MATERIALIZED, CHAMPION_CHANGED), **dag_arguments(__doc__, "model"))
def score_patients():
    @task.short_circuit
    def is_there_a_champion() -> bool:
        """Skips the run where no model may score yet, or nothing is published."""
        from core.champion import champion_version
        from core.publication import find_published

        settings = load_settings()
        return champion_version(settings) is not None and find_published(settings) is not None

    @task(pool=LAKE_WRITER_POOL)
    def score() -> int:
        """Score; returns the number of the build that was scored."""
        from ml.scoring import score as score_everybody

        return score_everybody(load_settings()).build_id

    @task(outlets=[PATIENTS_SCORED])
    def announce_scores() -> None:
        """Carries the asset that starts the monitor."""

    scored = score()
    gate = expectation_gate.override(task_id="gate_prediction_log")("prediction_log", scored)
    is_there_a_champion() >> scored
    gate >> announce_scores()


score_patients()
