"""A throw-away redis-server on a free loopback port, from Debian's package."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import ConnectionError as NoConnection
from redis import Redis

from tests.postgres.server import free_port, wait_until


@contextmanager
def own_redis(folder: Path) -> Iterator[str]:
    """The address of a server that keeps nothing on disk. Without the program: skip, but fail in CI."""
    program = shutil.which("redis-server")
    if program is None:
        reason = "no redis-server: install Debian's package redis-server"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    port = free_port()
    server = subprocess.Popen([program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                               "--dir", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = Redis(host="127.0.0.1", port=port)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except NoConnection:
            return False

    try:
        wait_until(answers, 20, "redis-server")
        yield f"redis://127.0.0.1:{port}"
    finally:
        client.close()
        server.terminate()
        server.wait(20)
