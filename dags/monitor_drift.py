"""### Watch the model

**Purpose**: one verdict per night: fine, data fault, drift, or too little data to say. And whether what the API served
was what had been published.

**Inputs**: predictions, features and the champion's training reference (asset `patients_scored`); what the API logged.

**Outputs**: an Evidently page, rows of `clinical.monitoring.drift_metrics` and `feature_skew`, a drift verdict, alerts;
asset `drift_detected` only when the verdict is drift and the cool-down is over.

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
    def check_drift() -> int:
        """Judge the night; returns the verdict's number when it asks for retraining, else 0."""
        from ml.monitoring import check_drift as check

        outcome = check(load_settings())
        return outcome.drift_verdict_id if outcome.should_retrain else 0

    @task.short_circuit
    def is_retraining_due(drift_verdict_id: int) -> int:
        """A task that succeeds always emits its outlets, so this one stands before it; hands the number on."""
        return drift_verdict_id

    @task(outlets=[DRIFT_DETECTED])
    def announce_drift(drift_verdict_id: int) -> None:
        """Carries the asset that starts the retraining, and starts the cool-down."""
        from ml.monitoring import mark_emitted

        mark_emitted(load_settings(), drift_verdict_id)

    @task(pool=LAKE_WRITER_POOL)
    def check_skew() -> None:
        """Compare what the API served since the last night with the features as published."""
        from ml.monitoring import check_skew as check

        check(load_settings())

    announce_drift(is_retraining_due(check_drift()))
    check_skew()


monitor_drift()
