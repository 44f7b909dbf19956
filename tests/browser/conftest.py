"""A house with a past, made of rows instead of nights, and a real Airflow that shows it to a real Chromium."""

import os
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from core.serving_tables import SkewCheck
from core.settings import Settings
from core.stack import Stack
from core.store import (
    Alert,
    Batch,
    Build,
    DriftVerdict,
    GateResult,
    LedgerEntry,
    ModelEvent,
    Publication,
    Quarantine,
    ScoringRun,
    store_session,
)
from tests.conftest import make_settings
from tests.ehr.live.feed_history import put_into_inbox, remember

CHROMIUM = os.environ.get("CUFF_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
          "--disable-sync", "--no-first-run", "--disable-dev-shm-usage")
FIRST_NIGHT = date(2026, 1, 1)
REPORT = "drift/build-8-model-3/index.html"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Eight nights, three trained models, two of them promoted, one drift; one night on which other values were served."""
    settings = make_settings(tmp_path_factory.mktemp("house") / "var", airflow_port=free_port(),
                             mlflow_port=free_port(), nightly_cron="", watch_cron="")
    report = settings.reports_dir / REPORT
    report.parent.mkdir(parents=True)
    report.write_text("<h1>Drift report of build 8</h1>")
    (settings.var / "secret.txt").write_text("outside the reports folder")
    now = datetime.now(UTC).replace(microsecond=0)
    with store_session(settings) as session:
        for night in range(1, 9):
            day = FIRST_NIGHT + timedelta(days=night)
            at = now - timedelta(days=8 - night)
            session.add_all([
                Batch(as_of=day, started_at=at, finished_at=at),
                Build(as_of=day, since_batch_id=night - 1, through_batch_id=night, state="published",
                      clinical_snapshot=10 * night, analytics_snapshot=4 * night, started_at=at, finished_at=at),
            ])
            session.flush()
            session.add_all([
                Publication(build_id=night, clinical_snapshot=10 * night, analytics_snapshot=4 * night, as_of=day,
                            action="publish", actor="airflow", published_at=at),
                ScoringRun(build_id=night, clinical_snapshot=10 * night, as_of=day, model_version=1 + night // 4,
                           patients=1400, mean_risk=0.041 + 0.0006 * night + (0.014 if night == 8 else 0), scored_at=at),
                DriftVerdict(build_id=night, as_of=day, model_version=1 + night // 4,
                             verdict="drift" if night == 8 else "data_fault" if night == 4 else "fine", judged_at=at,
                             reasons=["systolic_last_mmhg: people read 7.6 mmHg above their own level"]
                             if night == 8 else [], report_path=REPORT, emitted=night == 8),
                SkewCheck(through_prediction_number=900 * night, compared=900, mismatched=18 if night == 5 else 0,
                          unreadable=0, checked_at=at,
                          by_feature={"glucose_last_mg_dl": 18, "bmi_last_kg_m2": 7} if night == 5 else {}),
            ])
        for version, (action, auc) in enumerate((("promoted", 0.781), ("held", 0.768), ("promoted", 0.793)), start=1):
            metrics = {"test_auroc": auc, "test_auroc_low": auc - 0.021, "test_auroc_high": auc + 0.02,
                       "test_calibration_slope": 0.9 + version / 20, "test_calibration_slope_low": 0.8,
                       "test_calibration_slope_high": 1.16}
            session.add(ModelEvent(action=action, model_version=version, previous_version=1 if version > 1 else None,
                                   actor="pipeline", why="all 7 gates passed" if action == "promoted" else
                                   "better_than_champion: not better, 0.768 against 0.781",
                                   evidence={"build_id": 2 * version, "metrics": metrics},
                                   happened_at=now - timedelta(days=6 - 2 * version)))
        for unit, counts in (("file", (48, 46, 2, 0, 0)), ("message", (12904, 12790, 61, 40, 13)),
                             ("resource", (88210, 79415, 1180, 7602, 13))):
            session.add(LedgerEntry(payload_id="0" * 64, source_id="simulated", unit=unit, type="all", **dict(
                zip(("received", "accepted", "duplicate", "ignored", "quarantined"), counts, strict=True))))
        for suite, evaluated, warned in (("landed", 53, 0), ("marts", 37, 1), ("training_set", 15, 0),
                                         ("prediction_log", 12, 0)):
            session.add(GateResult(suite=suite, build_id=8, passed=True, evaluated=evaluated, failed=0, warned=warned,
                                   findings=[]))
        session.add_all([
            Alert(severity="warning", kind="data_fault", detail={}, delivered_to=["log"],
                  summary="data fault: hba1c stopped coming", raised_at=now - timedelta(days=4)),
            Alert(severity="critical", kind="drift", detail={}, delivered_to=["log"],
                  summary="drift: people read 7.6 mmHg above their own level", raised_at=now),
        ])
    remember(settings, now, source_id="simulated", rhythm=lambda hour_at: 300 + 40 * hour_at.hour, refused=2)
    remember(settings, now - timedelta(hours=3), source_id="charity", feed="http", rhythm=lambda _hour_at: 600)
    (payload_id, *_) = put_into_inbox(settings, [now - timedelta(minutes=21), now - timedelta(minutes=1)],
                                      source_id="simulated")
    with store_session(settings) as session:
        for number in range(7):
            session.add(Quarantine(quarantine_id=str(number), payload_id=payload_id, source_id="simulated", unit="message",
                                   type="ADT^A04", locator=str(number), reason_code="no_patient_identifier"))
    return settings


@pytest.fixture(scope="session")
def stack(house: Settings) -> Iterator[Stack]:
    with Stack(house) as running:
        yield running


@pytest.fixture
def page(tmp_path: Path):
    """A page of headless Chromium that talks to nobody but the test's own server."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine; `apt-get install chromium`, or name one in CUFF_TEST_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_QUIET))
        context = browser.new_context(viewport={"width": 1440, "height": 1150})
        yield context.new_page()
        browser.close()
