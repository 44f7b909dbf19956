"""### Keep the lake small and fast

**Purpose**: expire snapshots that nobody may ask for again, merge small files, delete what no snapshot needs.

**Inputs**: the lake's catalogs. What is published, and what a registered model was trained on, is never expired.

**Outputs**: fewer snapshots and files; row counts do not change.

**When it fails**: the lake stays whole, only larger. "Writing the lake" in the log means that a build ran at the same
moment: clear the task later.
"""

from airflow.sdk import CronTriggerTimetable, dag, task

from core.settings import load_settings
from pipeline_defaults import LAKE_WRITER_POOL, LONG_TASK_LIMIT, dag_arguments


@dag(schedule=CronTriggerTimetable("30 4 * * 0", timezone="UTC"), **dag_arguments(__doc__, "warehouse"))
def maintain_lake():
    @task(pool=LAKE_WRITER_POOL, execution_timeout=LONG_TASK_LIMIT)
    def expire_and_compact() -> int:
        """Returns how many snapshots were expired."""
        from core.maintenance import maintain

        return maintain(load_settings()).expired_snapshots

    expire_and_compact()


maintain_lake()
