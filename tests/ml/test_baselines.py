"""The Framingham score against the published examples of its own arithmetic, and what it does without data."""

import numpy as np
import pandas as pd
import pytest

from ml.baselines.framingham import framingham_from_features, framingham_risk
from ml.training.report import synthetic_example


def test_arithmetic_by_hand() -> None:
    lp = (22.949536 - 0.156412 * 50 - 0.202933 - 0.033881 * 30 - 0.05933 * 130 - 0.128468 * 80 - 0.190731
          - 0.166121 * 2 + 0.001624 * 50 * 80)
    expected = 1 - np.exp(-np.exp((np.log(4) - lp) / 0.876925))
    one = np.ones(1)
    assert framingham_risk(50 * one, one, 30 * one, 130 * one, 80 * one, one, 2 * one, within_years=4)[0] == (
        pytest.approx(expected))


def test_features_give_the_same_score_and_missing_ones_a_score_all_the_same() -> None:
    rows = synthetic_example()
    last, mean = framingham_from_features(rows, "last"), framingham_from_features(rows, "mean_12m")
    direct = framingham_risk(*(np.array([value]) for value in (52.0, 1.0, 27.4, 126.0, 81.0, 0.0)))
    assert last[0] == pytest.approx(direct[0])
    assert mean[0] < last[0]  # the mean of the year is lower than the newest reading
    assert np.isfinite(mean[1])
    assert mean[1] == pytest.approx(last[1])  # without a mean, the newest reading stands in


def test_nothing_known_at_all_is_still_a_risk() -> None:
    rows = pd.DataFrame({name: [None] for name in synthetic_example().columns})
    assert 0 < framingham_from_features(rows, "last")[0] < 1
