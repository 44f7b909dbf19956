"""Exit 0 when Airflow's api-server says that a component is healthy: ``python healthcheck.py scheduler``.

The component writes heartbeats into Airflow's database and the api-server judges them, so this needs neither Airflow's
import (seconds of CPU, every time) nor the database's password.
"""

import json
import os
import sys
import urllib.request

COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


def component_status(base_url: str, component: str) -> str | None:
    """The status of one component, as Airflow words it. Errors: ``OSError`` when the api-server does not answer."""
    with urllib.request.urlopen(f"{base_url}/api/v2/monitor/health", timeout=8) as answer:
        health = json.load(answer)
    return health.get(component, {}).get("status")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in COMPONENTS:
        print(f"usage: healthcheck.py {'|'.join(COMPONENTS)}", file=sys.stderr)
        return 2
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
