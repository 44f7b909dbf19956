"""A house that can answer (a drawn hospital, a champion, an online store), and `cuff serve` on it in a process of its own."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from core.airflow_environment import settings_environment
from core.settings import PROJECT_ROOT, Settings
from ml import registry
from ml.features import materialize
from ml.training import train
from tests.conftest import make_settings
from tests.ml.hospital import draw, publish_hospital


def house_that_can_answer(var: Path, patients: int = 700) -> Settings:
    settings = make_settings(var, serve_port=free_port(), serve_workers=1, bootstrap_samples=20)
    publish_hospital(settings, draw(patients, seed=3))
    outcome = train(settings, "manual", actor="tester")
    if not outcome.promoted:
        registry.promote(settings, outcome.model_version, "tester", "for a test")
    materialize(settings)
    return settings


@contextmanager
def running_api(settings: Settings, seconds: float = 60, verify: ssl.SSLContext | bool = True) -> Iterator[str]:
    """The address of a ready API. What it prints is in ``serve.log`` beside ``var``. ``verify``: whom to trust over TLS."""
    log = settings.var.parent / "serve.log"
    environment = os.environ | settings_environment(settings) | {"PYTHONPATH": str(PROJECT_ROOT)}
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-c", "import cuff; cuff.main()", "serve"], env=environment, stdout=out,
                                   stderr=out, cwd=PROJECT_ROOT, start_new_session=True)  # fmt: skip
    address = f"{'https' if settings.serve_tls_certificate else 'http'}://127.0.0.1:{settings.serve_port}"
    try:
        deadline = time.monotonic() + seconds
        while not is_ready(address, verify):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def is_ready(address: str, verify: ssl.SSLContext | bool = True) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=5, trust_env=False, verify=verify).status_code == 200
    except httpx.HTTPError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
