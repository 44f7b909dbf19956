"""`cuff consume --once` in a process of its own that may kill itself (SIGKILL, no clean-up) around a named step.

Usage: killed_consumer.py VAR [before|after MODULE:QUALIFIED.NAME]
"""

import sys
from pathlib import Path

from ehr.live.consume import run_consumer
from tests.conftest import make_settings
from tests.ehr.killed_ingest import die_around

if __name__ == "__main__":
    if len(sys.argv) > 2:
        die_around(sys.argv[2], sys.argv[3])
    print("ready", flush=True)
    run_consumer(make_settings(Path(sys.argv[1]), consume_messages=25), print, once=True)
