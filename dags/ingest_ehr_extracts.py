"""### Take hospital extracts in

**Purpose**: archive, parse, scrub and land what the hospital sent.

**Inputs**: the files of `paths`, or whatever is new in the landing folder (`CUFF_LANDING_DIR`, `var/landing`).

**Outputs**: `clinical.raw.*`, the ledger and quarantine of the ops database; asset `raw_landed` when something landed.

**When it fails**: nothing is lost or doubled, so clear the task to run it again. A file that cannot be used does not
fail the run: see `cuff quarantine list`. "No readable file" means that the path is wrong or the hospital sent nothing.
"""

from datetime import date
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

from core.settings import load_settings
from pipeline_assets import RAW_LANDED
from pipeline_defaults import LAKE_WRITER_POOL, LONG_TASK_LIMIT, dag_arguments, nightly


@dag(
    schedule=nightly(load_settings()),
    params={
        "paths": Param([], type="array", items={"type": "string"}, description="files, folders; empty: landing folder"),
        "as_of": Param(None, type=["null", "string"], format="date", description="day of the extract; empty: today"),
    },
    **dag_arguments(__doc__, "ehr"),
)
def ingest_ehr_extracts():
    @task(pool=LAKE_WRITER_POOL, execution_timeout=LONG_TASK_LIMIT)
    def ingest_files(params: dict[str, Any] | None = None) -> int:
        """Land the files; returns how many payloads were new."""
        from ehr.ingest import ingest

        settings, params = load_settings(), params or {}
        paths = [Path(path) for path in params["paths"]] or [settings.extracts_dir]
        as_of = date.fromisoformat(params["as_of"]) if params["as_of"] else None
        summary = ingest(settings, paths, as_of=as_of)
        if not summary.balanced:
            raise RuntimeError(f"the ledger of batch {summary.batch_id} does not balance; see `cuff status`")
        return summary.new_payloads

    @task.short_circuit
    def anything_new(new_payloads: int) -> bool:
        """Files seen before change nothing, unless no build has published what they brought: this run's own first try,
        killed behind the landing, finds nothing new either."""
        from core.publication import has_unpublished_batches

        return new_payloads > 0 or has_unpublished_batches(load_settings())

    @task(outlets=[RAW_LANDED])
    def announce_landing() -> None:
        """Carries the asset that starts the build."""

    anything_new(ingest_files()) >> announce_landing()


ingest_ehr_extracts()
