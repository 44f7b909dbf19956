"""### Watch the model

**Purpose**: one verdict per night: fine, data fault, drift, or too little data to say.

**Inputs**: predictions, features and the champion's training reference (asset `patients_scored`).

**Outputs**: an Evidently page, rows of `clinical.monitoring.drift_metrics`, a drift verdict, alerts; asset
`drift_detected` only when the verdict is drift and the cool-down is over.

**When it fails**: nothing else stops. Clear the task. A data fault is not a failure of this DAG: look upstream (units,
codes, missing feeds) and do not retrain.
"""

from airflow.sdk import dag, task

from core.settings import load_settings
from pipeline_assets import DRIFT_DETECTED, PATIENTS_SCORED
from pipeline_defaults import LAKE_WRITER_POOL, dag_arguments


@dag(schedule=[PATIENTS_SCORED], **dag_arguments(__doc__, "model", "monitoring"))
def monitor_drift():
    @task(pool=LAKE_WRITER_POOL)
    def check_drift() -> bool:
        """Judge the night; returns whether retraining is asked for."""
        from ml.monitoring import check_drift as check

        return check(load_settings()).should_retrain

    @task.short_circuit
    def is_retraining_due(should_retrain: bool) -> bool:
        """A task that succeeds always emits its outlets, so this one stands before it."""
        return should_retrain

    @task(outlets=[DRIFT_DETECTED])
    def announce_drift() -> None:
        """Carries the asset that starts the retraining."""

    is_retraining_due(check_drift()) >> announce_drift()


monitor_drift()
