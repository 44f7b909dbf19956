"""`deploy/healthcheck.py` asks the live door's processes and the API whether they are ready."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.healthcheck import LIVE, live_status, main
from ehr.live.status_server import start_status_server
from ml.serving.operations import Readiness


@pytest.fixture
def missing() -> dict[str, str]:
    return {}


@pytest.fixture
def status(missing, monkeypatch):
    server = start_status_server("127.0.0.1", 0, lambda: missing)
    for variable, _default in LIVE.values():
        monkeypatch.setenv(variable, str(server.port))
    for variable in ("CUFF_LISTEN_TLS_CERTIFICATE", "CUFF_SERVE_TLS_CERTIFICATE", "CUFF_SERVE_TRUSTED_HOSTS"):
        monkeypatch.delenv(variable, raising=False)
    yield server
    server.stop()


@pytest.mark.parametrize("service", sorted(LIVE))
def test_what_is_ready_is_healthy(service, status, missing):
    assert main([service]) == 0
    missing["kafka"] = "no acknowledgement"
    assert main([service]) == 1
    assert "no acknowledgement" in live_status(service)


def test_what_does_not_answer_is_not_healthy(monkeypatch, capsys):
    monkeypatch.setenv("CUFF_RELAY_PORT", "1")
    assert main(["relay"]) == 1
    assert "does not answer" in capsys.readouterr().err


def test_where_certificates_are_wanted_a_greeting_is_enough(status, missing, monkeypatch):
    monkeypatch.setenv("CUFF_LISTEN_TLS_CERTIFICATE", "/tls/chain.pem")
    monkeypatch.setenv("CUFF_LISTEN_TLS_CLIENT_CA", "/tls/ca.pem")
    missing["inbox"] = "the last commit failed"
    assert main(["listener"]) == 0


def test_the_api_is_asked_by_a_name_that_it_trusts(monkeypatch):
    """It answers nobody who calls it otherwise."""
    asked = []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Host"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(Readiness(is_ready=True, model_loaded=True, store_reachable=True, audit_writable=True,
                                       model_version=3).model_dump_json().encode())  # fmt: skip

        def log_message(self, *_):
            """Silent."""

    server = HTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("CUFF_SERVE_PORT", str(server.server_port))
    monkeypatch.setenv("CUFF_SERVE_TRUSTED_HOSTS", "risk.hospital.example, localhost")
    monkeypatch.delenv("CUFF_SERVE_TLS_CERTIFICATE", raising=False)
    try:
        assert main(["api"]) == 0
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert asked == [("/readyz", "risk.hospital.example")]
