"""The arithmetic of a verdict: power and false alarms, simulated with seeds."""

import numpy as np
import pandas as pd
import pytest

from ml.monitoring.effects import between_window_variance, mix_shift, overdispersion, rate_ratio, share_rise
from ml.monitoring.performance import judge_performance
from ml.monitoring.rules import load_rules
from ml.monitoring.shift import within_person_metrics
from ml.monitoring.windows import Window, windows_of

RULES = load_rules()
WINDOW = Window("night", pd.Timestamp("2026-01-01").date(), pd.Timestamp("2026-01-04").date())


def night(random: np.random.Generator, n: int, shift_mmhg: float) -> pd.DataFrame:
    days = pd.Timestamp("2025-01-01") + pd.to_timedelta(random.integers(0, 360, n), unit="D")
    return pd.DataFrame({"event_date": days, "systolic_mmhg": random.normal(shift_mmhg, 11, n),
                         "diastolic_mmhg": random.normal(shift_mmhg, 7, n)})


@pytest.mark.parametrize(("n", "shift_mmhg", "low", "high"), [
    (20, 0.0, 0.0, 0.004), (60, 0.0, 0.0, 0.004), (200, 0.0, 0.0, 0.004),
    (60, 8.0, 0.95, 1.0), (200, 8.0, 0.99, 1.0),
])
def test_how_often_a_night_breaches(n: int, shift_mmhg: float, low: float, high: float) -> None:
    random = np.random.default_rng(7)
    reference = night(random, 3000, 0.0)
    nights = (within_person_metrics(night(random, n, shift_mmhg), reference, WINDOW, RULES) for _ in range(300))
    breached = [any(metric.is_breached for metric in metrics) for metrics in nights]
    assert low <= np.mean(breached) <= high


def test_windows_that_differ_by_themselves_raise_the_bar() -> None:
    random = np.random.default_rng(1)
    window = np.repeat(np.arange(40), 30)
    assert between_window_variance(random.normal(0, 10, 1200), window) < 2
    assert between_window_variance(random.normal(0, 10, 1200) + random.normal(0, 5, 40)[window], window) > 10


def test_small_counts_are_given_their_doubt() -> None:
    assert rate_ratio(3, 10, 0.9995)[1] > 0.6
    assert rate_ratio(3, 100, 0.9995)[1] < 0.2
    assert overdispersion(np.array([0.0, 0.0, 30.0, 0.0])) > 5
    assert share_rise((3, 10), (30, 100)).value == pytest.approx(0.0)
    assert mix_shift({"a": 90, "b": 10}, {"a": 500, "b": 500})[1].value != 0


def test_windows_pool_the_last_two_looks_and_a_month() -> None:
    day = pd.Timestamp("2026-02-01").date()
    assert [w.days for w in windows_of(day, [], RULES)] == [7]
    before = [pd.Timestamp(d).date() for d in ("2026-01-30", "2026-01-31", "2026-02-01")]
    looks = [(window.name, window.days) for window in windows_of(day, before, RULES)]
    assert looks == [("night", 1), ("two_nights", 2), ("month", 28)]


def test_matured_labels_tell_recalibration_from_refit() -> None:
    random = np.random.default_rng(3)
    risk = random.beta(1.5, 6, 4000)
    label = random.random(4000) < risk
    fine = judge_performance(risk, label, None, RULES)
    assert [m.is_breached for m in fine] == [False, False, False]
    half = judge_performance(risk / 2, label, None, RULES)
    assert [m.reason.split(":")[0] for m in half if m.is_breached] == ["recalibrate"]
    lost = judge_performance(random.permutation(risk), label, None, RULES)
    assert "refit" in {m.reason.split(":")[0] for m in lost if m.is_breached}
    assert judge_performance(risk[:20], label[:20], None, RULES) == []
