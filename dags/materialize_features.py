"""### Materialise features

**Purpose**: give the published features to the feature store, offline and online.

**Inputs**: `clinical.ml.patient_features` at the published snapshot (asset `marts_published`).

**Outputs**: the feature view `blood_pressure_risk`; asset `features_materialized`.

**When it fails**: scoring keeps the features of the last good night. Clear the task; it replaces whole features and
can be run as often as one likes.
"""

from airflow.sdk import dag, task

from core.settings import load_settings
from pipeline_assets import FEATURES_MATERIALIZED, MARTS_PUBLISHED
from pipeline_defaults import dag_arguments


@dag(schedule=[MARTS_PUBLISHED], **dag_arguments(__doc__, "features"))
def materialize_features():
    @task(outlets=[FEATURES_MATERIALIZED])
    def materialize() -> None:
        """Write the features of the published build, offline and online."""
        from ml.features import materialize as write

        write(load_settings())

    materialize()


materialize_features()
