"""Weighted statistics of predictions, vectorised over bootstrap resamples.

Each maker takes labels (0/1) and risks, both (rows,), does the sorting once, and returns a function from weights
(resamples, rows) to one value per resample; NaN where a resample has only one class.
"""

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.bootstrap import Floats, Statistic

_NEWTON_STEPS = 20
_CLIP = 1e-6


def auroc(label: Floats, risk: Floats) -> Statistic:
    """Chance that a random event is ranked above a random non-event, ties counted half (Mann-Whitney)."""
    order = np.argsort(risk, kind="stable")
    starts = _group_starts(risk[order])
    positive = label[order]

    def of(weights: Floats) -> Floats:
        sorted_weights = weights[:, order]
        events = np.add.reduceat(sorted_weights * positive, starts, axis=1)
        others = np.add.reduceat(sorted_weights * (1 - positive), starts, axis=1)
        below = np.cumsum(others, axis=1) - others
        with np.errstate(invalid="ignore", divide="ignore"):
            return (events * (below + 0.5 * others)).sum(axis=1) / (events.sum(axis=1) * others.sum(axis=1))

    return of


def auprc(label: Floats, risk: Floats) -> Statistic:
    """Average precision: precision at each risk, weighted by the recall gained there."""
    order = np.argsort(-risk, kind="stable")
    starts = _group_starts(risk[order])
    positive = label[order]

    def of(weights: Floats) -> Floats:
        sorted_weights = weights[:, order]
        events = np.add.reduceat(sorted_weights * positive, starts, axis=1)
        flagged = np.cumsum(np.add.reduceat(sorted_weights, starts, axis=1), axis=1)
        found = np.cumsum(events, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(flagged > 0, found / flagged, 0.0)
            return (events * precision).sum(axis=1) / found[:, -1]

    return of


def brier(label: Floats, risk: Floats) -> Statistic:
    """Mean squared error of the risk."""
    return _weighted_mean((risk - label) ** 2)


def observed_to_expected(label: Floats, risk: Floats) -> Statistic:
    """Calibration in the large: events seen over events expected; 1 is right, above 1 the risk is understated."""
    def of(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights @ label) / (weights @ risk))

    return of


def calibration_slope(label: Floats, risk: Floats) -> Statistic:
    """Slope of the label on the logit of the risk: 1 is right, below 1 the risks are too extreme (Cox 1958)."""
    return _recalibration(label, risk, 1)


def calibration_intercept(label: Floats, risk: Floats) -> Statistic:
    """Intercept of the label on the logit of the risk, slope held at 1: 0 is right."""
    return _recalibration(label, risk, 0)


def net_benefit(label: Floats, risk: Floats, threshold: float) -> Statistic:
    """True positives minus false positives at the odds of ``threshold``, per patient (Vickers & Elkin 2006)."""
    flagged = (risk >= threshold).astype(np.float64)
    odds = threshold / (1 - threshold)
    return _weighted_mean(flagged * (label - (1 - label) * odds))


def difference(first: Statistic, second: Statistic) -> Statistic:
    """First minus second on the same resamples: a paired comparison."""
    return lambda weights: first(weights) - second(weights)


def logit(risk: Floats) -> Floats:
    """Log odds, with risks held within [1e-6, 1 - 1e-6]."""
    held = np.clip(risk, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(held / (1 - held)))


def _weighted_mean(values: Floats) -> Statistic:
    def of(weights: Floats) -> Floats:
        return np.asarray((weights @ values) / weights.sum(axis=1))

    return of


def _group_starts(ordered: Floats) -> NDArray[np.intp]:
    return np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])


def _recalibration(label: Floats, risk: Floats, wanted: int) -> Statistic:
    """Weighted logistic regression by Newton's method, all resamples at once. ``wanted`` 1: slope; 0: intercept alone."""
    score = logit(risk)

    def of(weights: Floats) -> Floats:
        resamples = weights.shape[0]
        intercept, slope = np.zeros(resamples), np.ones(resamples)
        for _ in range(_NEWTON_STEPS):
            fitted = 0.5 * (1 + np.tanh(0.5 * (intercept[:, None] + slope[:, None] * score)))
            residual = weights * (label - fitted)
            curvature = weights * fitted * (1 - fitted)
            gradient, information = residual.sum(axis=1), curvature.sum(axis=1)
            with np.errstate(all="ignore"):
                if wanted == 0:
                    step_intercept, step_slope = gradient / information, np.zeros(resamples)
                else:
                    cross, square = curvature @ score, curvature @ score**2
                    determinant = information * square - cross**2
                    gradient_slope = residual @ score
                    step_intercept = (square * gradient - cross * gradient_slope) / determinant
                    step_slope = (information * gradient_slope - cross * gradient) / determinant
                # Shortened steps: a full one may overshoot in a resample with few events.
                shorten = np.minimum(1.0, 1.0 / np.maximum(np.abs(step_intercept), np.abs(step_slope)))
            intercept, slope = intercept + shorten * step_intercept, slope + shorten * step_slope
            if np.nanmax(np.abs(np.r_[step_intercept, step_slope, 0.0])) < 1e-6:
                break
        both = (weights @ label > 0) & (weights @ (1 - label) > 0)
        return np.where(both, slope if wanted else intercept, np.nan)

    return of
