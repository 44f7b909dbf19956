"""Logistic (Platt) recalibration of log odds: two numbers, kept as JSON, so nothing has to be unpickled."""

from dataclasses import dataclass

import numpy as np

from ml.evaluation.bootstrap import Floats

# Standard deviation of the prior on the slope around 1: with few events the slope stays near 1, with many data speak.
SLOPE_PRIOR_SD = 0.15
SMALLEST_SLOPE = 0.05  # never turn the ranking round
_NEWTON_STEPS = 100


@dataclass(frozen=True)
class Recalibration:
    """``log_odds → intercept + slope * log_odds``."""

    intercept: float
    slope: float

    def apply(self, log_odds: Floats) -> Floats:
        return self.intercept + self.slope * log_odds


def fit_recalibration(log_odds: Floats, label: Floats, row_weights: Floats | None = None) -> Recalibration:
    """Penalised maximum likelihood; ``log_odds``, ``label`` (0/1), ``row_weights`` of shape (n,). The slope stays positive."""
    counted = np.ones_like(log_odds) if row_weights is None else row_weights
    design = np.column_stack([np.ones_like(log_odds), log_odds])
    weights, ridge = np.array([0.0, 1.0]), np.diag([1e-6, 1 / SLOPE_PRIOR_SD**2])

    def loss(at: Floats) -> float:
        odds, away = design @ at, at - np.array([0.0, 1.0])
        return float(np.sum(counted * (np.logaddexp(0.0, odds) - label * odds)) + 0.5 * away @ ridge @ away)

    for _ in range(_NEWTON_STEPS):
        fitted = 0.5 * (1 + np.tanh(0.5 * (design @ weights)))  # the logistic function, without overflow
        gradient = design.T @ (counted * (label - fitted)) - ridge @ (weights - np.array([0.0, 1.0]))
        information = (design.T * (counted * fitted * (1 - fitted))) @ design + ridge
        step = np.linalg.solve(information, gradient)
        while loss(weights + step) > loss(weights) + 1e-12 and np.abs(step).max() > 1e-12:
            step = step / 2  # a full step may overshoot where almost all fitted values are 0 or 1
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    return Recalibration(float(weights[0]), max(float(weights[1]), SMALLEST_SLOPE))
