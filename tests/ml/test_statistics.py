"""Every statistic against a peer or against arithmetic done by hand."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from ml.evaluation import statistics as stat
from ml.evaluation.bootstrap import PatientBootstrap


def drawn(rows: int = 800, seed: int = 3, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    risk = random.beta(1, 9, rows)
    label = (random.random(rows) < risk).astype(float)
    return label, np.round(risk, 1) + 0.01 if ties else risk


def once(statistic: stat.Statistic, rows: int) -> float:
    return float(statistic(np.ones((1, rows)))[0])


@pytest.mark.parametrize("ties", [False, True])
def test_ranking_and_error_equal_scikit_learn(ties: bool) -> None:
    label, risk = drawn(ties=ties)
    assert once(stat.auroc(label, risk), label.size) == pytest.approx(roc_auc_score(label, risk))
    assert once(stat.auprc(label, risk), label.size) == pytest.approx(average_precision_score(label, risk))
    assert once(stat.brier(label, risk), label.size) == pytest.approx(brier_score_loss(label, risk))


@given(st.lists(st.integers(0, 3), min_size=60, max_size=60), st.booleans())
def test_a_weight_is_a_repetition(weights: list[int], ties: bool) -> None:
    label, risk = drawn(60, ties=ties)
    label[:2] = (0, 1)
    weights[:2] = (1, 1)
    repeated = np.repeat(np.arange(60), weights)
    for maker in (stat.auroc, stat.auprc, stat.brier, stat.observed_to_expected):
        weighted = float(maker(label, risk)(np.array([weights], dtype=float))[0])
        assert weighted == pytest.approx(once(maker(label[repeated], risk[repeated]), repeated.size))


def test_calibration_slope_equals_an_unpenalised_logistic_regression() -> None:
    label, risk = drawn(4000)
    too_extreme = 1 / (1 + np.exp(-(1.6 * stat.logit(risk) + 0.3)))
    peer = LogisticRegression(C=np.inf, tol=1e-10).fit(stat.logit(too_extreme)[:, None], label)
    assert once(stat.calibration_slope(label, too_extreme), label.size) == pytest.approx(peer.coef_[0, 0], rel=1e-4)
    assert once(stat.calibration_slope(label, risk), label.size) == pytest.approx(1.0, abs=0.15)
    assert once(stat.calibration_intercept(label, risk), label.size) == pytest.approx(0.0, abs=0.15)
    assert once(stat.calibration_intercept(label, risk / 2), label.size) > 0.5


def test_net_benefit_by_hand() -> None:
    label, risk = np.array([1.0, 0, 0, 1]), np.array([0.9, 0.3, 0.1, 0.05])
    assert once(stat.net_benefit(label, risk, 0.2), 4) == pytest.approx((1 - 1 * 0.25) / 4)


def test_one_class_has_no_auroc_and_does_not_spoil_the_interval() -> None:
    label, risk = np.array([1.0] + [0.0] * 30), np.linspace(0.9, 0.1, 31)
    assert np.isnan(once(stat.auroc(np.zeros(31), risk), 31))
    found = PatientBootstrap(np.arange(31), 60, 1).estimate({"auroc": stat.auroc(label, risk)})["auroc"]
    assert found.value == found.low == found.high == 1.0


def test_resampling_patients_widens_the_interval_of_repeated_rows() -> None:
    label, risk = drawn(300)
    fourfold = np.repeat(np.arange(300), 4)

    def width(keys: np.ndarray) -> float:
        found = PatientBootstrap(keys, 400, 1).estimate({"auroc": stat.auroc(label[fourfold], risk[fourfold])})["auroc"]
        return found.high - found.low

    assert width(fourfold) > 1.6 * width(np.arange(1200))


def test_comparisons_are_paired() -> None:
    label, risk = drawn()
    bootstrap = PatientBootstrap(np.arange(label.size), 100, 1)
    same = bootstrap.estimate({"d": stat.difference(stat.auroc(label, risk), stat.auroc(label, risk.copy()))})["d"]
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_five_hundred_resamples_of_five_thousand_rows_take_seconds() -> None:
    label, risk = drawn(5000)
    started = time.process_time()
    PatientBootstrap(np.arange(5000), 500, 1).estimate(
        {"auroc": stat.auroc(label, risk), "slope": stat.calibration_slope(label, risk)})
    assert time.process_time() - started < 6


def test_row_weights_stand_for_rows_that_were_not_seen() -> None:
    label, risk = drawn(2000)
    seen = (label == 1) | (np.random.default_rng(5).random(2000) < 0.5)
    weight = np.where(label[seen] == 1, 1.0, (label == 0).sum() / (label[seen] == 0).sum())
    ratio = stat.observed_to_expected(label[seen], risk[seen])
    plain = PatientBootstrap(np.arange(seen.sum()), 20, 1).estimate({"r": ratio})["r"].value
    weighted = PatientBootstrap(np.arange(seen.sum()), 20, 1, weight).estimate({"r": ratio})["r"].value
    whole = once(stat.observed_to_expected(label, risk), 2000)
    assert abs(weighted - whole) < 0.1 < plain - whole
