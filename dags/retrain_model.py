"""### Train, evaluate, promote or hold

**Purpose**: a challenger from the published build, judged by gates that were written down beforehand.

**Inputs**: `clinical.ml.hypertension_examples` and features, as published. Runs nightly and on `drift_detected`.

**Outputs**: an MLflow run, a registered version, a row of `model_events` (promoted or held, and why); asset
`champion_changed` only when the champion has scored nobody yet.

**When it fails**: the champion stays. A red `gate_training_set` names what is wrong with the examples. A challenger
that is held is not a failure: `cuff models` shows which gate it did not pass.
"""

from typing import Any

from airflow.sdk import AssetOrTimeSchedule, dag, task

from core.settings import load_settings
from expectation_gate import expectation_gate
from pipeline_assets import CHAMPION_CHANGED, DRIFT_DETECTED
from pipeline_defaults import LONG_TASK_LIMIT, dag_arguments, nightly

_NIGHTLY = nightly(load_settings())


@dag(
    schedule=AssetOrTimeSchedule(timetable=_NIGHTLY, assets=[DRIFT_DETECTED]) if _NIGHTLY else [DRIFT_DETECTED],
    **dag_arguments(__doc__, "model"),
)
def retrain_model():
    @task.short_circuit
    def is_anything_published() -> bool:
        """Skips a night before the first publication."""
        from core.publication import find_published

        return find_published(load_settings()) is not None

    @task
    def published_build() -> int:
        """The number of the build that readers see."""
        from core.publication import published

        return published(load_settings()).build_id

    @task(execution_timeout=LONG_TASK_LIMIT)
    def train(dag_run: Any = None) -> None:
        """Train and judge; promotes or holds."""
        from ml.training import train as train_model

        trigger = "drift" if str(dag_run.run_type).endswith("asset_triggered") else "nightly"
        train_model(load_settings(), trigger)

    @task.short_circuit
    def is_champion_unscored() -> bool:
        """A task that succeeds always emits its outlets, so this one stands before it. It asks who has scored, not what
        this run did: a training killed behind its promotion is announced by its next try, whatever that one comes to."""
        from core.champion import is_champion_unscored as is_unscored

        return is_unscored(load_settings())

    @task(outlets=[CHAMPION_CHANGED])
    def announce_champion() -> None:
        """Carries the asset that makes everybody be scored anew."""

    build_id = published_build()
    gate = expectation_gate.override(task_id="gate_training_set")("training_set", build_id)
    is_anything_published() >> build_id
    gate >> train() >> is_champion_unscored() >> announce_champion()


retrain_model()
