"""The end of the demo: the inference API, started on what the nights published, is asked about three patients."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from core.airflow_environment import settings_environment
from core.champion import champion_version
from core.errors import CuffError
from core.lake import read_lake
from core.publication import published
from core.settings import PROJECT_ROOT, Settings
from core.stack import require_free_port

_READY_SECONDS, _STOP_SECONDS, _ANSWER_SECONDS = 60, 12, 10
_REASONS_SHOWN = 3


class ApiDemoError(CuffError):
    """The API did not start, or did not answer as it must."""

    exit_code = 10


def require_port(settings: Settings) -> None:
    """Errors: `ConfigurationError` when the API's port is taken: better told before the nights than after them."""
    require_free_port(settings.serve_port, "CUFF_SERVE_PORT", "the inference API", settings.serve_host)


def ask_three(settings: Settings, console: Console) -> dict[str, Any]:
    """Start `cuff serve`, ask about the patients with the lowest, the middle and the highest risk of the newest scoring,
    and stop it. Empty when there is no champion, and so nobody who was scored.

    Errors: `ApiDemoError` with the reason; `ConfigurationError` for a taken port.
    """
    from ml.serving.security.development import issue

    scored = _lowest_middle_highest(settings)
    if not scored:
        return {}
    began = time.monotonic()
    with console.status("starting the inference API"), _running_api(settings) as ready_seconds:
        token = issue(settings, {"risk:read"}, name="demo", minutes=5)
        address = f"http://{settings.serve_host}:{settings.serve_port}"
        with httpx.Client(base_url=address, timeout=_ANSWER_SECONDS, trust_env=False,
                          headers={"Authorization": f"Bearer {token}"}) as http:  # fmt: skip
            asked = [_ask(http, *each, champion_version(settings)) for each in scored]
    return {"ready_seconds": round(ready_seconds, 1), "seconds": round(time.monotonic() - began, 1), "patients": asked}


def answers_table(served: dict[str, Any]) -> Table:
    table = Table("patient", "risk in 12 months", "band", "top reasons", "inputs", "answered in",
                  title="Asked of the running API (POST /v1/risk)", title_justify="left")  # fmt: skip
    for each in served["patients"]:
        statuses = ", ".join(f"{number} {status}" for status, number in each["inputs"].items())
        table.add_row(each["patient_key"][:8] + "…", f"{100 * each['risk']:.1f} %", each["band"],
                      "\n".join(each["reasons"]), statuses, f"{each['milliseconds']:.0f} ms")  # fmt: skip
    return table


def _lowest_middle_highest(settings: Settings) -> list[tuple[str, float, int]]:
    """(patient_key, risk, model version) out of the newest scoring of the published build."""
    if champion_version(settings) is None:
        return []
    with read_lake(settings, ("clinical",)) as lake:
        rows = lake.execute(
            """
            select patient_key, risk, model_version from clinical.scores.predictions
            where build_id = $1
            qualify scoring_run_id = max(scoring_run_id) over ()
            order by risk, patient_key
            """, [published(settings).build_id]).fetchall()
    places = sorted({0, len(rows) // 2, len(rows) - 1}) if rows else []
    return [(str(key), float(risk), int(version)) for key, risk, version in (rows[place] for place in places)]


def _ask(http: httpx.Client, patient_key: str, scored_risk: float, scored_by: int, champion: int | None) -> dict[str, Any]:
    """One answer, held against the night's score of the same features by the same model: they are the same number."""
    began = time.monotonic()
    try:
        answer = http.post("/v1/risk", json={"patient_key": patient_key})
    except httpx.HTTPError as error:
        raise ApiDemoError(f"the API did not answer about a patient: {type(error).__name__}") from None
    milliseconds = 1000 * (time.monotonic() - began)
    if answer.status_code != 200 or not answer.json()["assessments"]:
        said = answer.json().get("detail") or answer.json().get("not_assessed", {}).get("text", "")
        raise ApiDemoError(f"the API gave no risk of a patient who has one: {answer.status_code} {said}")
    (assessment,) = answer.json()["assessments"]
    risk, version = assessment["risk_12_months"], assessment["model"]["version"]
    if version != champion:
        raise ApiDemoError(f"the API answered with model version {version}, the champion is {champion}")
    if version == scored_by and risk != scored_risk:
        raise ApiDemoError(f"the API and the night's scoring differ by {abs(risk - scored_risk):.3g} for the same features")
    statuses = [each["status"] for each in assessment["inputs"]]
    return {
        "patient_key": patient_key, "prediction_id": assessment["prediction_id"], "risk": risk, "band": assessment["band"],
        "model_version": version, "same_as_scored": version == scored_by, "milliseconds": round(milliseconds, 1),
        "reasons": [f"{'▲' if each['direction'] == 'raises' else '▼'} {each['text']}"
                    for each in assessment["reasons"][:_REASONS_SHOWN]],
        "inputs": {status: statuses.count(status) for status in ("present", "stale", "absent") if status in statuses},
    }  # fmt: skip


@contextmanager
def _running_api(settings: Settings) -> Iterator[float]:
    """`cuff serve` in a session of its own; yields the seconds until it was ready, and leaves nothing running."""
    require_port(settings)
    log = settings.var / "logs" / "serve.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | settings_environment(settings) | {"PYTHONPATH": str(PROJECT_ROOT)}
    began = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-c", "import cuff; cuff.main()", "serve"], env=environment,
                                   cwd=PROJECT_ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                   start_new_session=True)  # fmt: skip
    try:
        address = f"http://{settings.serve_host}:{settings.serve_port}/readyz"
        while not _is_ready(address):
            if process.poll() is not None:
                raise ApiDemoError(f"the API ended with code {process.returncode}; see {log}")
            if time.monotonic() - began > _READY_SECONDS:
                raise ApiDemoError(f"the API was not ready after {_READY_SECONDS} s: GET {address}; see {log}")
            time.sleep(0.2)
        yield time.monotonic() - began
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
