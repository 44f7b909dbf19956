"""Alerts against real servers on loopback: a webhook, a mail server, and both of them dead."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

from sqlalchemy import select

from core.alerts import raise_alert
from core.settings import Settings
from core.store import Alert, store_session


class _Webhook(BaseHTTPRequestHandler):
    bodies: ClassVar[list[dict[str, object]]] = []
    status = 200

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet: the test reads bodies, not logs."""


class _MailServer(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as one delivery needs."""

    mails: ClassVar[list[str]] = []

    def handle(self) -> None:
        self._say("220 ready")
        while line := self.rfile.readline().decode().strip():
            verb = line.split()[0].upper()
            if verb == "DATA":
                self._say("354 go on")
                lines = list(iter(lambda: self.rfile.readline().decode(), ".\r\n"))
                self.mails.append("".join(lines))
            elif verb == "QUIT":
                self._say("221 bye")
                return
            self._say("250 ok")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kept(settings: Settings) -> list[Alert]:
    with store_session(settings) as session:
        return list(session.scalars(select(Alert).order_by(Alert.alert_id)))


def raise_one(settings: Settings) -> None:
    raise_alert(settings, "critical", "data_fault", "source a has been silent for 5 days", {"build": 7})


def with_delivery(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update=changes)


def test_without_configuration_an_alert_is_a_log_line_and_a_row(settings: Settings) -> None:
    raise_one(settings)
    (alert,) = kept(settings)
    assert (alert.severity, alert.kind, alert.detail) == ("critical", "data_fault", {"build": 7})
    assert alert.delivered_to == ["log"]


def test_a_webhook_receives_the_alert_as_json(settings: Settings) -> None:
    _Webhook.bodies, _Webhook.status = [], 200
    with serving(HTTPServer(("127.0.0.1", 0), _Webhook)) as port:
        raise_one(with_delivery(settings, webhook_url=f"http://127.0.0.1:{port}/alerts"))
    assert _Webhook.bodies == [{"severity": "critical", "kind": "data_fault", "detail": {"build": 7},
                                "summary": "source a has been silent for 5 days"}]
    assert kept(settings)[0].delivered_to == ["log", "webhook"]


def test_a_mail_server_receives_subject_and_detail(settings: Settings) -> None:
    _MailServer.mails = []
    with serving(socketserver.TCPServer(("127.0.0.1", 0), _MailServer)) as port:
        raise_one(with_delivery(settings, smtp_url=f"smtp://127.0.0.1:{port}", smtp_from="cuff@example.org",
                                smtp_to="oncall@example.org"))
    (mail,) = _MailServer.mails
    assert "Subject: [Cuff critical] data_fault" in mail
    assert "source a has been silent for 5 days" in mail
    assert "build: 7" in mail
    assert kept(settings)[0].delivered_to == ["log", "smtp"]


def test_dead_or_refusing_servers_do_not_stop_the_pipeline(settings: Settings) -> None:
    with serving(HTTPServer(("127.0.0.1", 0), _Webhook)) as port:
        dead = port
        _Webhook.status = 500
        raise_one(with_delivery(settings, webhook_url=f"http://127.0.0.1:{port}/alerts"))
    raise_one(with_delivery(settings, webhook_url=f"http://127.0.0.1:{dead}/alerts",
                            smtp_url=f"smtp://127.0.0.1:{dead}", smtp_to="oncall@example.org"))
    assert [alert.delivered_to for alert in kept(settings)] == [["log"], ["log"]]
