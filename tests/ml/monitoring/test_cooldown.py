"""What keeps retraining and alerts from running in circles, and which model is the reference."""

from datetime import date

import pytest

from core.alerts import raise_alert
from core.settings import Settings
from core.store import DriftVerdict, store_session
from ml.monitoring.champion import champion_reference
from ml.monitoring.cooldown import alert_is_due, may_retrain


def keep(settings: Settings, day: int, verdict: str, emitted: bool) -> None:
    with store_session(settings) as session:
        session.add(DriftVerdict(build_id=day, as_of=date(2026, 1, day), model_version=1, verdict=verdict, reasons=[],
                                 emitted=emitted))


def test_retraining_waits_for_the_cool_down_in_days_of_data(settings: Settings) -> None:
    assert may_retrain(settings, date(2026, 1, 1))
    keep(settings, 1, "drift", emitted=True)
    keep(settings, 3, "drift", emitted=False)
    assert not may_retrain(settings, date(2026, 1, 7))
    assert may_retrain(settings, date(2026, 1, 8))


@pytest.mark.parametrize(("condition", "day", "fine_on", "due"), [
    (["feature:a", "feature:b"], 3, None, False),  # the same
    (["feature:a"], 3, None, False),               # part of it faded
    (["feature:c"], 3, None, True),                # another one
    (["feature:a", "feature:b"], 8, None, True),   # a week later
    (["feature:a", "feature:b"], 3, 2, True),      # it had ended in between
])
def test_an_ongoing_condition_is_alerted_once(settings: Settings, condition: list[str], day: int, fine_on: int | None,
                                              due: bool) -> None:
    raise_alert(settings, "warning", "drift", "s", {"as_of": "2026-01-01", "condition": ["feature:a", "feature:b"]})
    if fine_on:
        keep(settings, fine_on, "fine", emitted=False)
    assert alert_is_due(settings, "drift", condition, date(2026, 1, day), 7) is due


def test_an_old_night_judged_again_alerts_nobody(settings: Settings) -> None:
    raise_alert(settings, "warning", "drift", "s", {"as_of": "2026-01-05", "condition": ["feature:a"]})
    assert not alert_is_due(settings, "drift", ["feature:b"], date(2026, 1, 4), 7)


def test_without_a_registry_there_is_no_champion(settings: Settings) -> None:
    assert champion_reference(settings) is None
