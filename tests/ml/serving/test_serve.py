"""`cuff serve` as a machine sees it: workers that die, an end that drains, a port that is taken."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from core.airflow_environment import settings_environment
from core.settings import PROJECT_ROOT, Settings
from ml.serving.security.development import issue
from tests.ehr.live.certificates import Authority
from tests.ml.serving.running_api import free_port, running_api

pytestmark = pytest.mark.slow


def children(port: int) -> list[int]:
    """The workers of the API that was started on this port."""
    for process in psutil.process_iter(["pid", "ppid"]):
        if process.info["ppid"] == os.getpid() and any(
                one.laddr.port == port and one.status == psutil.CONN_LISTEN for one in process.net_connections("tcp")):
            return [child.pid for child in process.children()]
    raise AssertionError("the API does not run")


def asking(settings: Settings, address: str) -> httpx.Client:
    token = issue(settings, ["risk:score", "model:read"])
    return httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=20)


PERSON = {"values": {"age_years": 61, "systolic_last_mmhg": 131, "diastolic_last_mmhg": 82}}


def test_a_worker_that_is_killed_is_replaced_while_the_other_answers(house: Settings) -> None:
    settings = house.model_copy(update={"serve_port": free_port(), "serve_workers": 2})
    with running_api(settings) as address:
        before = children(settings.serve_port)
        assert len(before) == 2
        risks, failures = set(), 0
        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with asking(settings, address) as client:
                try:
                    answer = client.post("/v1/risk/score", json={"people": [PERSON]})
                except httpx.TransportError:
                    failures += 1
                    continue
            assert answer.status_code == 200
            risks.add(answer.json()["assessments"][0]["risk_12_months"])
            now = children(settings.serve_port)
            if len(now) == 2 and before[0] not in now:
                break
        assert before[1] in now
        assert before[0] not in now
        assert failures <= 1
        assert len(risks) == 1
    assert "is replaced" in (settings.var.parent / "serve.log").read_text()


def test_over_tls_it_answers_and_in_plain_text_it_does_not(house: Settings, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("cuff.example")
    settings = house.model_copy(update={"serve_port": free_port(), "serve_workers": 1,
                                        "serve_tls_certificate": certificate, "serve_tls_key": key})  # fmt: skip
    trusted = ssl.create_default_context(cafile=str(authority.path))
    with running_api(settings, verify=trusted) as address:
        assert address.startswith("https://")
        token = issue(settings, ["risk:score"])
        answer = httpx.post(f"{address}/v1/risk/score", json={"people": [PERSON]}, verify=trusted, trust_env=False,
                            headers={"Authorization": f"Bearer {token}"})  # fmt: skip
        assert answer.status_code == 200
        assert answer.json()["assessments"][0]["band"] in ("low", "moderate", "high")
        assert "max-age=" in answer.headers["strict-transport-security"]
        with pytest.raises(httpx.HTTPError):
            httpx.get(address.replace("https", "http") + "/healthz", trust_env=False)
        with pytest.raises(httpx.ConnectError):  # nobody the client trusts has signed it
            httpx.get(f"{address}/healthz", trust_env=False)


def test_told_to_end_it_answers_first_what_it_was_asked(house: Settings) -> None:
    settings = house.model_copy(update={"serve_port": free_port(), "serve_workers": 1})
    answers: list[int] = []
    with running_api(settings) as address, asking(settings, address) as client:
        (worker,) = children(settings.serve_port)
        people = {"people": [PERSON] * 1000}
        client.post("/v1/risk/score", json=people)
        thread = threading.Thread(target=lambda: answers.append(client.post("/v1/risk/score", json=people).status_code))
        thread.start()
        time.sleep(0.03)
        os.kill(psutil.Process(worker).ppid(), signal.SIGTERM)
        thread.join(20)
    assert answers == [200]
    assert not psutil.pid_exists(worker)


def test_workers_end_with_their_supervisor_however_it_went(house: Settings) -> None:
    settings = house.model_copy(update={"serve_port": free_port(), "serve_workers": 1})
    with running_api(settings):
        (worker,) = children(settings.serve_port)
        os.kill(psutil.Process(worker).ppid(), signal.SIGKILL)
        psutil.Process(worker).wait(15)


@pytest.mark.parametrize("more", [{}, {"environment": "production"}])
def test_what_it_cannot_start_with_is_one_line(house: Settings, more: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = house.model_copy(update={"serve_port": taken.getsockname()[1], **more})
        done = subprocess.run([sys.executable, "-c", "import cuff; cuff.main()", "serve"], capture_output=True, text=True,
                              timeout=60, cwd=tmp_path,
                              env=os.environ | settings_environment(settings) | {"PYTHONPATH": str(PROJECT_ROOT)})  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert ("CUFF_TOKEN_JWKS" if more else f"port {settings.serve_port}") in done.stderr
