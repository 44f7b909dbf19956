"""### Watch the live feeds

**Purpose**: tell people once when a feed goes silent at an hour at which it usually speaks, or when what was acknowledged
does not land; and once more when that is over.

**Inputs**: the inbox and the hours of each feed in the ops database, from which the expected rate is learned.

**Outputs**: alerts. Nothing waits for this DAG.

**When it fails**: the next run, ten minutes later, looks again; nothing is told twice. What to do about an alert stands in
`docs/runbooks/live_feeds.md`.
"""

from airflow.sdk import CronTriggerTimetable, dag, task

from core.settings import load_settings
from pipeline_defaults import dag_arguments

_CRON = load_settings().watch_cron


@dag(schedule=CronTriggerTimetable(_CRON, timezone="UTC") if _CRON else None, **dag_arguments(__doc__, "ehr", "monitoring"))
def watch_feeds():
    @task
    def look_at_each_feed() -> int:
        """Returns how many alerts were raised."""
        from ehr.live.feed_alerts import watch_feeds as look

        return len(look(load_settings()))

    look_at_each_feed()


watch_feeds()
