"""Alerts: always a log line and a row in the ops database; by mail or webhook where one is configured."""

import logging
import smtplib
from email.message import EmailMessage
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from core.settings import Settings
from core.store import Alert, store_session

logger = logging.getLogger("cuff.alerts")
Severity = Literal["info", "warning", "critical"]
_TIMEOUT_SECONDS = 10


def raise_alert(
    settings: Settings, severity: Severity, kind: str, summary: str, detail: dict[str, Any] | None = None
) -> Alert:
    """Keep and deliver one alert. ``summary`` and ``detail`` never hold a patient's value.

    A delivery that fails is logged and does not fail the caller: the row is kept, with where it did arrive.
    """
    detail = detail or {}
    logger.warning("%s: %s", kind, summary, extra={"severity": severity})
    delivered = ["log"]
    for name, configured, deliver in (
        ("webhook", settings.webhook_url, _post_webhook),
        ("smtp", settings.smtp_url and settings.smtp_to, _send_mail),
    ):
        if not configured:
            continue
        try:
            deliver(settings, severity, kind, summary, detail)
            delivered.append(name)
        except Exception as error:  # a dead mail server must not stop the pipeline
            logger.error("alert could not be delivered by %s: %s", name, type(error).__name__)
    with store_session(settings) as session:
        alert = Alert(severity=severity, kind=kind, summary=summary, detail=detail, delivered_to=delivered)
        session.add(alert)
        session.flush()
        return alert


def _post_webhook(settings: Settings, severity: str, kind: str, summary: str, detail: dict[str, Any]) -> None:
    import httpx

    body = {"severity": severity, "kind": kind, "summary": summary, "detail": detail}
    httpx.post(settings.webhook_url, json=body, timeout=_TIMEOUT_SECONDS).raise_for_status()


def _send_mail(settings: Settings, severity: str, kind: str, summary: str, detail: dict[str, Any]) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = (
        f"[Cuff {severity}] {kind}",
        settings.smtp_from,
        settings.smtp_to,
    )
    message.set_content("\n".join([summary, "", *(f"{key}: {value}" for key, value in detail.items())]))
    url = urlsplit(settings.smtp_url)
    with smtplib.SMTP(url.hostname or "localhost", url.port or 25, timeout=_TIMEOUT_SECONDS) as server:
        if url.username:
            server.starttls()
            server.login(unquote(url.username), unquote(url.password or ""))
        server.send_message(message)
