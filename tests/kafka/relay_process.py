"""`cuff relay` as a process of its own, to be killed."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

from core.airflow_environment import settings_environment
from core.settings import PROJECT_ROOT, Settings
from tests.kafka.broker import free_ports

CUFF = (sys.executable, "-c", "from cuff import main; main()")


def relay_environment(settings: Settings) -> dict[str, str]:
    """The house, as variables."""
    return os.environ | settings_environment(settings)


def with_free_port(settings: Settings) -> Settings:
    port, = free_ports(1)
    return settings.model_copy(update={"relay_port": port})


@contextmanager
def relay_process(settings: Settings, log: Path) -> Iterator[subprocess.Popen[str]]:
    """A running `cuff relay` that has said that it relays; killed at the end of the block, when it is still there."""
    with open(log, "a") as errors:
        process = subprocess.Popen(
            [*CUFF, "relay"], cwd=PROJECT_ROOT, env=relay_environment(settings),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("relaying: "), f"it said {line!r} and {log.read_text()[-2000:]}"
        yield process
    finally:
        process.kill()
        process.wait()


def ask(settings: Settings, path: str) -> tuple[int, str]:
    """(status, body) of the relay's own HTTP door."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.relay_port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
