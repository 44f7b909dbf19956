"""What Cuff asks of Airflow's REST API: is it well, start this DAG, what is running, what did it come to."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from core.airflow_environment import USERNAME, airflow_password, base_url
from core.settings import Settings

_TOKEN_SECONDS = 3600


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG. Times are aware; ``ended_at`` is None while it goes on."""

    dag_id: str
    run_id: str
    state: str  # queued | running | success | failed
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        return self.state in ("success", "failed")


@dataclass(frozen=True)
class TaskRun:
    """One try of one task."""

    dag_id: str
    run_id: str
    task_id: str
    state: str | None
    try_number: int
    seconds: float | None


class AirflowClient:
    """Airflow's REST API with a token that renews itself. Errors: ``httpx.HTTPError`` from every call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = httpx.Client(base_url=base_url(settings), timeout=30, trust_env=False)
        self._token_until = 0.0

    def close(self) -> None:
        self._http.close()

    def unhealthy_components(self) -> list[str]:
        """The components that do not report health, all of them while the API does not answer yet."""
        try:
            report = self._http.get("/api/v2/monitor/health", timeout=5).raise_for_status().json()
        except httpx.HTTPError:
            return ["api-server"]
        return sorted(name for name, each in report.items() if each and each.get("status") != "healthy")

    def import_errors(self) -> list[str]:
        """The file and the last line of every DAG that cannot be loaded."""
        found = self._get("/importErrors", limit=50)["import_errors"]
        return [f"{each['filename']}: {each['stack_trace'].strip().splitlines()[-1]}" for each in found]

    def dag_ids(self) -> set[str]:
        return {each["dag_id"] for each in self._get("/dags", limit=100)["dags"]}

    def keep_pool(self, name: str, slots: int, description: str) -> None:
        """Make the pool, or set its slots when it is there."""
        body = {"slots": slots, "description": description, "include_deferred": False}
        response = self._request("POST", "/pools", json={"name": name} | body)
        if response.status_code == httpx.codes.CONFLICT:
            response = self._request("PATCH", f"/pools/{name}", json={"pool": name} | body)
        response.raise_for_status()

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start one run now; returns its id."""
        body = {"logical_date": None, "conf": conf or {}}
        return str(self._request("POST", f"/dags/{dag_id}/dagRuns", json=body).raise_for_status().json()["dag_run_id"])

    def dag_runs(self) -> list[DagRun]:
        """The newest hundred runs of every DAG, oldest first."""
        found = self._get("/dags/~/dagRuns", order_by="-run_after", limit=100)["dag_runs"]
        return [DagRun(each["dag_id"], each["dag_run_id"], each["state"], _time(each["start_date"]),
                       _time(each["end_date"])) for each in reversed(found)]

    def task_runs(self, run: DagRun) -> list[TaskRun]:
        found = self._get(f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances", limit=100)["task_instances"]
        return [TaskRun(run.dag_id, run.run_id, each["task_id"], each["state"], each["try_number"], each["duration"])
                for each in found]

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._request("GET", path, params=params).raise_for_status().json()
        return answer

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        if time.monotonic() > self._token_until:
            login = {"username": USERNAME, "password": airflow_password(self._settings)}
            token = self._http.post("/auth/token", json=login).raise_for_status().json()["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
            self._token_until = time.monotonic() + _TOKEN_SECONDS
        return self._http.request(method, f"/api/v2{path}", **arguments)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
