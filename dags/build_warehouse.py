"""### Build, audit and publish the warehouse

**Purpose**: turn landed facts into marts, and let readers see them only when every gate holds.

**Inputs**: `clinical.raw.*` up to the newest landed batch (asset `raw_landed`: of an ingest, or of live messages that have
waited `CUFF_WAKE_SECONDS`).

**Outputs**: the schemas of `clinical` and `analytics`; one publication naming the tested snapshots; asset
`marts_published`. Each dbt model shows as a task of its own; one process does the writing.

**When it fails**: readers keep the published build. A red gate names the suite: its findings are on the Cuff page and
in Data Docs. A red model: read the log of `run_dbt`. After mending the cause, clear `start_build` with everything
downstream or trigger the DAG: the next build repairs whatever a dead one left behind.
"""

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

from core.settings import load_settings
from dbt_tasks import dbt_nodes, run_dbt_build
from expectation_gate import expectation_gate
from pipeline_assets import MARTS_PUBLISHED, RAW_LANDED
from pipeline_defaults import LAKE_WRITER_POOL, dag_arguments


@dag(schedule=[RAW_LANDED], **dag_arguments(__doc__, "warehouse"))
def build_warehouse():
    @task
    def start_build() -> int:
        """Fix what the build holds; returns its number."""
        from core.publication import start_build as start

        return start(load_settings()).build_id

    @task(pool=LAKE_WRITER_POOL)
    def finish_build(build_id: int) -> int:
        """Note the snapshots that were written: the gate and the publication read exactly these."""
        from core.dbt import manifest_hash
        from core.publication import finish_build as finish

        settings = load_settings()
        return finish(settings, build_id, manifest_hash(settings)).build_id

    @task(outlets=[MARTS_PUBLISHED])
    def publish(build_id: int) -> int:
        """Let every reader see the build."""
        from core.publication import publish as move

        return move(load_settings(), build_id, "airflow").build_id

    @task(trigger_rule="one_failed", retries=0, on_failure_callback=None)
    def fail_build(build_id: int) -> None:
        """Close a build that will not be published. Fails itself, because a run is judged by its last task."""
        from core.publication import fail_build as fail

        fail(load_settings(), build_id, "a task of build_warehouse failed; see its log")
        raise AirflowFailException(f"build {build_id} was not published; see the task that failed before this one")

    build_id = start_build()
    landed = expectation_gate.override(task_id="gate_landed")("landed", build_id)
    built = run_dbt_build(build_id)
    finished = finish_build(build_id)
    marts = expectation_gate.override(task_id="gate_marts")("marts", finished)
    published = publish(finished)
    warehouse = dbt_nodes(load_settings(), built.operator.task_id)

    landed >> [built, warehouse]
    [built, warehouse] >> finished >> marts >> published
    [landed, built, warehouse, finished, marts, published] >> fail_build(build_id)


build_warehouse()
