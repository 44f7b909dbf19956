"""What every DAG shares: who owns it, how often it retries, how long it may take, whom a failure tells."""

from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable

from core.settings import Settings, load_settings

LAKE_WRITER_POOL = "lake_writer"  # one slot: an embedded lake takes one writer at a time
RETRIES = 2

TASK_LIMIT = timedelta(minutes=30)
LONG_TASK_LIMIT = timedelta(hours=3)
DAG_RUN_LIMIT = timedelta(hours=8)


def alert_on_failure(context: dict[str, Any]) -> None:
    """Tell people that a task failed for good. The exception's text stays in the task's log: it may quote data."""
    from core.alerts import raise_alert

    ti = context["task_instance"]
    raise_alert(
        load_settings(), "critical", "task_failed", f"{ti.dag_id}: task {ti.task_id} failed; its log says why",
        {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "try_number": ti.try_number},
    )


DEFAULT_ARGS: dict[str, Any] = {
    "owner": "data-engineering",
    "retries": RETRIES,
    "retry_delay": timedelta(seconds=20),
    "execution_timeout": TASK_LIMIT,
    "on_failure_callback": alert_on_failure,
}


def nightly(settings: Settings) -> CronTriggerTimetable | None:
    """The nightly clock, or none where `CUFF_NIGHTLY_CRON` is empty. Never a run for a night that is over."""
    return CronTriggerTimetable(settings.nightly_cron, timezone="UTC") if settings.nightly_cron else None


def dag_arguments(doc: str | None, *tags: str) -> dict[str, Any]:
    """Keyword arguments that every ``@dag`` takes. ``doc`` is the module's docstring, shown in the UI."""
    return {
        "doc_md": doc,
        "tags": ["cuff", *tags],
        "default_args": DEFAULT_ARGS,
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": DAG_RUN_LIMIT,
    }
