"""`ingest` in a process of its own that may kill itself (SIGKILL, no clean-up) around a named step.

Usage: killed_ingest.py VAR FOLDER [before|after MODULE:QUALIFIED.NAME]
"""

import importlib
import os
import signal
import sys
from functools import wraps
from pathlib import Path
from typing import Any

from ehr.ingest import ingest
from tests.conftest import make_settings


def die_around(when: str, target: str) -> None:
    module_name, _, qualified = target.partition(":")
    owner: Any = importlib.import_module(module_name)
    *path, name = qualified.split(".")
    for part in path:
        owner = getattr(owner, part)
    step = getattr(owner, name)

    @wraps(step)
    def dying(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        step(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, dying)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_around(sys.argv[3], sys.argv[4])
    print("ready", flush=True)
    ingest(make_settings(Path(sys.argv[1])), [Path(sys.argv[2])])
