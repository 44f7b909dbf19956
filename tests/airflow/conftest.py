"""The demo on a small hospital, once: the real scheduler, the real DAGs, two nights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from core.settings import Settings
from cuff_demo import demo_house, run_demo
from tests.browser.conftest import free_port
from tests.conftest import make_settings

PATIENTS = 300


@dataclass
class Demo:
    """What a finished demo left behind."""

    house: Settings
    exit_code: int
    output: str
    summary: dict[str, Any]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    root = tmp_path_factory.mktemp("demo")
    settings = make_settings(root / "var", airflow_port=free_port(), mlflow_port=free_port(), mllp_port=free_port(),
                             fhir_port=free_port(), consumer_port=free_port(), serve_port=free_port(),
                             bootstrap_samples=20)
    printed = root / "printed.txt"
    with printed.open("w") as out:
        exit_code = run_demo(settings, PATIENTS, Console(file=out, width=160))
    var = settings.var / "demo"
    assert exit_code == 0, printed.read_text()
    summary = json.loads((var / "summary.json").read_text())
    house = settings.model_copy(update={"var": var, "nightly_cron": "", "watch_cron": ""})
    return Demo(house, exit_code, printed.read_text(), summary)


@pytest.fixture
def planted(demo: Demo) -> set[str]:
    """Numbers, phones and streets of the people whom the demo's hospital sent: they may appear nowhere."""
    found: set[str] = set()
    for path in sorted(Path(demo.house.extracts_dir).rglob("bundles/*.json"))[:30]:
        found |= _identifying(json.loads(path.read_text()))
    return {value for value in found if len(value) >= 7}


def _identifying(document: dict[str, Any]) -> set[str]:
    if document.get("resourceType") == "Bundle":
        return set().union(*(_identifying(entry.get("resource", {})) for entry in document.get("entry", [])))
    if document.get("resourceType") != "Patient":
        return set()
    return {each["value"] for kind in ("identifier", "telecom") for each in document.get(kind, []) if "value" in each} | {
        line for address in document.get("address", []) for line in address.get("line", [])}


__all__ = ["Demo", "demo_house"]
