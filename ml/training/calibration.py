"""Logistic (Platt) recalibration of log odds: two numbers, kept as JSON, so nothing has to be unpickled."""

from dataclasses import dataclass

import numpy as np

from ml.evaluation.bootstrap import Floats

# Standard deviation of the prior on the slope around 1: with few events the slope stays near 1, with many data speak.
SLOPE_PRIOR_SD = 0.25
_NEWTON_STEPS = 50


@dataclass(frozen=True)
class Recalibration:
    """``log_odds → intercept + slope * log_odds``."""

    intercept: float
    slope: float

    def apply(self, log_odds: Floats) -> Floats:
        return self.intercept + self.slope * log_odds


def fit_recalibration(log_odds: Floats, label: Floats) -> Recalibration:
    """Penalised maximum likelihood; ``log_odds`` and ``label`` (0/1) of shape (n,). The slope is kept positive."""
    intercept, slope, penalty = 0.0, 1.0, 1 / SLOPE_PRIOR_SD**2
    for _ in range(_NEWTON_STEPS):
        fitted = 1 / (1 + np.exp(-(intercept + slope * log_odds)))
        residual, curvature = label - fitted, fitted * (1 - fitted)
        gradient = np.array([residual.sum(), residual @ log_odds - penalty * (slope - 1)])
        cross = curvature @ log_odds
        information = np.array([[curvature.sum(), cross], [cross, curvature @ log_odds**2 + penalty]])
        step = np.linalg.solve(information, gradient)
        intercept, slope = intercept + float(step[0]), slope + float(step[1])
        if np.abs(step).max() < 1e-9:
            break
    return Recalibration(intercept, max(slope, 0.05))
