"""The door's programs as processes of their own, killed when the test is over."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from core.airflow_environment import settings_environment
from core.live_doors import is_open
from core.settings import PROJECT_ROOT, Settings


@contextmanager
def cuff_process(settings: Settings, *command: str, port: int, log: Path):
    """``cuff command`` with these settings, once ``port`` can be reached. Its output goes to ``log``."""
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-c", "import cuff; cuff.main()", *command], cwd=PROJECT_ROOT,
                                   env=os.environ | settings_environment(settings), stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while not is_open("127.0.0.1", port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()
