"""Exit 0 when a service is healthy: ``python healthcheck.py scheduler``, ``… listener`` or ``… api``.

Airflow's components write heartbeats into its database and the api-server judges them, so this needs neither Airflow's
import (seconds of CPU, every time) nor the database's password. The live door's processes and the API are asked
themselves, from within their own container.
"""

import json
import os
import socket
import ssl
import sys
import urllib.error
import urllib.request

COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
CERTIFICATES = {"listener": "CUFF_LISTEN_TLS_CERTIFICATE", "api": "CUFF_SERVE_TLS_CERTIFICATE"}
LIVE = {
    "listener": ("CUFF_FHIR_PORT", "2580"), "consumer": ("CUFF_CONSUMER_PORT", "2581"), "relay": ("CUFF_RELAY_PORT", "2582"),
    "api": ("CUFF_SERVE_PORT", "8000"),
}  # fmt: skip


def component_status(base_url: str, component: str) -> str | None:
    """The status of one component, as Airflow words it. Errors: ``OSError`` when the api-server does not answer."""
    with urllib.request.urlopen(f"{base_url}/api/v2/monitor/health", timeout=8) as answer:
        health = json.load(answer)
    return health.get(component, {}).get("status")


def live_status(service: str) -> str:
    """``ready``, or what the service says is missing. Errors: ``OSError`` when it does not answer.

    Where the listener wants a client's certificate nobody without one is answered; that it greets is then all there is.
    """
    variable, default = LIVE[service]
    port = int(os.environ.get(variable) or default)
    is_tls = bool(os.environ.get(CERTIFICATES.get(service, "")))
    if service == "listener" and is_tls and os.environ.get("CUFF_LISTEN_TLS_CLIENT_CA"):
        socket.create_connection(("127.0.0.1", port), timeout=6).close()
        return "ready"
    # Its certificate is for the name that the hospital knows, not for this loopback.
    context = ssl._create_unverified_context() if is_tls else None
    url = f"{'https' if is_tls else 'http'}://127.0.0.1:{port}/readyz"
    # The API answers only for hosts that it trusts.
    host = os.environ.get("CUFF_SERVE_TRUSTED_HOSTS", "").split(",")[0].strip() if service == "api" else ""
    request = urllib.request.Request(url, headers={"Host": host} if host and host != "*" else {})
    try:
        with urllib.request.urlopen(request, timeout=6, context=context) as answer:
            said = json.load(answer)
            return "ready" if said.get("is_ready") is True else str(said["status"])
    except urllib.error.HTTPError as refused:
        return refused.read().decode(errors="replace")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in (*COMPONENTS, *LIVE):
        print(f"usage: healthcheck.py {'|'.join((*COMPONENTS, *LIVE))}", file=sys.stderr)
        return 2
    if arguments[0] in LIVE:
        try:
            said = live_status(arguments[0])
        except OSError as error:
            print(f"the {arguments[0]} does not answer: {error}", file=sys.stderr)
            return 1
        print(f"{arguments[0]}: {said}")
        return 0 if said == "ready" else 1
    base_url = os.environ.get("CUFF_AIRFLOW_HEALTH_URL", "http://airflow-api-server:8080")
    try:
        status = component_status(base_url, arguments[0])
    except OSError as error:
        print(f"{base_url} does not answer: {error}", file=sys.stderr)
        return 1
    print(f"{arguments[0]}: {status}")
    return 0 if status == "healthy" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
