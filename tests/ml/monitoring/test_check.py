"""The monitor on a fabricated lake: each rule fires, faults come before drift, a build is judged once.

The real pipeline and its ten quiet nights: `test_scenarios.py`.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import select

from core.lake import SnapshotNumbers, read_lake
from core.maintenance import maintain
from core.settings import Settings
from core.store import Alert, store_session
from ml.monitoring import check, mark_emitted
from ml.monitoring.check import judge
from ml.monitoring.pages import without_rows
from tests.conftest import make_settings
from tests.ml.monitoring.hospital import Hospital
from tests.pipeline.house import copy_house


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """A hospital with 600 days behind it, for all tests of this file."""
    built = Hospital(make_settings(tmp_path_factory.mktemp("monitored") / "var"))
    built.deliver(600)
    return built


@pytest.fixture
def hospital(history: Hospital, settings: Settings) -> Hospital:
    """A copy of it with a future of its own."""
    return history.moved_to(copy_house(history.settings, settings.var))


def alerts(settings: Settings) -> list[tuple[str, str]]:
    with store_session(settings) as session:
        return [(a.kind, a.severity) for a in session.scalars(select(Alert).order_by(Alert.alert_id))]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "verdict", "severity", "sentence"), [
    ({"shift_mmhg": 8.0}, "drift", "warning", "pressure reads higher"),
    ({"young": True}, "drift", "warning", "age_years: lower"),
    ({"riskier": 1.0}, "drift", "warning", "risk of people seen is higher"),
    ({"unmapped": True}, "data_fault", "critical", "blood_pressure comes at 0%"),
    ({"unitless": 0.5}, "data_fault", "critical", "the share with no unit rose by"),
    ({"emptied": "heart_rate_last_bpm"}, "data_fault", "critical", "heart_rate_last_bpm is missing for +100%"),
])
def test_a_change_is_found_within_two_nights(hospital: Hospital, change: dict[str, Any], verdict: str, severity: str,
                                             sentence: str) -> None:
    champion = hospital.champion()
    hospital.deliver(3)
    hospital.new_build()
    assert judge(hospital.settings, champion, with_report=False).verdict == "fine"
    outcomes = []
    for night in range(2):
        hospital.deliver(3, **change)
        hospital.new_build()
        outcomes.append(judge(hospital.settings, champion, with_report=night == 1))
        if outcomes[-1].should_retrain:
            mark_emitted(hospital.settings, outcomes[-1].drift_verdict_id)
    assert outcomes[1].verdict == verdict
    assert any(sentence in reason for reason in outcomes[1].reasons)
    assert alerts(hospital.settings)[0] == (verdict, severity)
    assert Path(hospital.settings.reports_dir / (outcomes[1].report_path or "")).with_name("evidently.html").exists()
    assert [o.should_retrain for o in outcomes].count(True) == (verdict == "drift")  # the cool-down holds the second


def test_a_build_is_judged_once_and_kept(hospital: Hospital) -> None:
    champion = hospital.champion()
    hospital.deliver(5, shift_mmhg=15.0)
    hospital.new_build()
    first, second = judge(hospital.settings, champion), judge(hospital.settings, champion)
    assert (second.drift_verdict_id, second.reasons) == (first.drift_verdict_id, first.reasons)
    assert len(alerts(hospital.settings)) == 1
    with read_lake(hospital.settings, ("clinical",)) as lake:
        kept = lake.execute("select count(*), count(distinct drift_verdict_id), bool_or(is_breached), "
                            "count(*) filter (where statistic like 'evidently%' and threshold is null) "
                            "from clinical.monitoring.drift_metrics").fetchone()
    assert kept is not None
    assert kept[:3] == (len(first.metrics), 1, True)
    assert kept[3] > 10
    page = Path(hospital.settings.reports_dir / (first.report_path or ""))
    assert "systolic pressure reads higher" in page.read_text()
    assert page.with_name("evidently.html").exists()


def test_what_a_run_that_died_left_unsaid_the_next_one_says(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = hospital.champion()
    hospital.deliver(5, shift_mmhg=15.0)
    hospital.new_build()
    with monkeypatch.context() as dying:
        dying.setattr(check, "raise_alert", lambda *_args: sys.exit(137))
        with pytest.raises(SystemExit):
            judge(hospital.settings, champion)
    again = [judge(hospital.settings, champion) for _ in range(2)]
    assert [outcome.should_retrain for outcome in again] == [True, True]  # nobody has passed it on yet
    assert alerts(hospital.settings) == [("drift", "warning")]
    with store_session(hospital.settings) as session:
        assert session.scalars(select(Alert)).one().detail["condition"]
    mark_emitted(hospital.settings, again[0].drift_verdict_id)
    hospital.settings.retrain_cooldown_days = 0  # not the cool-down, the mark is what counts
    assert not judge(hospital.settings, champion).should_retrain


def test_an_expired_training_snapshot_is_stood_in_for_by_its_days(hospital: Hospital) -> None:
    champion = hospital.champion()
    hospital.deliver(5, shift_mmhg=15.0)
    hospital.new_build()
    assert maintain(hospital.settings, keep_days=0).expired_snapshots > 0  # no model event speaks for this champion
    with pytest.raises(duckdb.Error), read_lake(hospital.settings, ("clinical",),
                                                SnapshotNumbers(champion.clinical_snapshot)):
        pass
    outcome = judge(hospital.settings, champion)
    assert outcome.verdict == "drift"
    assert "pressure reads higher" in outcome.reasons[0]
    assert "is gone" in outcome.reasons[-1]


def test_a_silent_feed_is_not_taken_for_drift(hospital: Hospital) -> None:
    champion = hospital.champion()
    hospital.deliver(5, silent=True)
    hospital.new_build()
    outcome = judge(hospital.settings, champion)
    assert (outcome.verdict, outcome.should_retrain) == ("data_fault", False)


def test_without_a_champion_only_the_feed_is_watched(hospital: Hospital) -> None:
    hospital.deliver(5, shift_mmhg=15.0)
    hospital.new_build()
    assert judge(hospital.settings, None).verdict == "insufficient_data"
    shutil.rmtree(hospital.settings.reports_dir)


def test_what_a_page_sees_holds_no_row_and_no_value(hospital: Hospital) -> None:
    frame = hospital._features()
    shown = without_rows(frame[["age_years", "systolic_mean_12m_mmhg"]], frame, 40, 1)
    assert not set(shown["age_years"]) & set(frame["age_years"])
    assert shown["age_years"].nunique() <= 41
    assert abs(frame["age_years"].corr(frame["systolic_mean_12m_mmhg"])) > 0.5
    assert abs(shown["age_years"].corr(shown["systolic_mean_12m_mmhg"])) < 0.15
