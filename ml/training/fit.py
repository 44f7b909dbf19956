"""Fitting: prior, trees, calibration. Same rows, parameters, seed and threads give the same model."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.baselines.framingham import framingham_from_features
from ml.evaluation.bootstrap import Floats
from ml.evaluation.statistics import logit
from ml.features.catalog import CATEGORICAL, monotone_constraints
from ml.model.calibration import Recalibration, fit_recalibration
from ml.model.risk_model import RiskModel, model_matrix, prior_log_odds

if TYPE_CHECKING:
    import pandas as pd

_UNCALIBRATED = Recalibration(0.0, 1.0)


@dataclass(frozen=True)
class TreeParameters:
    """What the search may vary. The defaults are careful: few, shallow, strongly regularised trees."""

    iterations: int = 120
    learning_rate: float = 0.03
    depth: int = 3
    l2_leaf_reg: float = 30.0
    rsm: float = 0.6


def fit_model(train: "pd.DataFrame", calibration: "pd.DataFrame", parameters: TreeParameters, seed: int,
              threads: int) -> RiskModel:
    """Fit prior and trees on ``train``, then recalibrate on ``calibration``: features, ``label``, ``weight``."""
    raw = fit_uncalibrated(train, parameters, seed, threads)
    fitted = fit_recalibration(raw.raw_log_odds(calibration), labels(calibration), weights(calibration))
    return RiskModel(raw.trees, raw.prior, fitted)


def fit_uncalibrated(train: "pd.DataFrame", parameters: TreeParameters, seed: int, threads: int) -> RiskModel:
    """Prior and trees alone."""
    from catboost import CatBoostClassifier, Pool

    prior = fit_recalibration(logit(framingham_from_features(train, "mean_12m")), labels(train), weights(train))
    pool = Pool(model_matrix(train), labels(train), cat_features=list(CATEGORICAL),
                weight=weights(train), baseline=prior_log_odds(train, prior).reshape(-1, 1))
    trees = CatBoostClassifier(**catboost_arguments(parameters, seed, threads))
    trees.fit(pool)
    return RiskModel(trees, prior, _UNCALIBRATED)


def catboost_arguments(parameters: TreeParameters, seed: int, threads: int) -> dict[str, Any]:
    """Everything CatBoost is told; class weights stay untouched, so that risks stay risks."""
    return {
        "iterations": parameters.iterations, "learning_rate": parameters.learning_rate, "depth": parameters.depth,
        "l2_leaf_reg": parameters.l2_leaf_reg, "rsm": parameters.rsm, "loss_function": "Logloss",
        "bootstrap_type": "Bernoulli", "subsample": 0.8, "boosting_type": "Plain", "one_hot_max_size": 16,
        "monotone_constraints": monotone_constraints(), "random_seed": seed, "thread_count": threads,
        "allow_writing_files": False, "verbose": False, "model_shrink_rate": 0,
    }


def labels(rows: "pd.DataFrame") -> Floats:
    return np.asarray(rows["label"], dtype=np.float64)


def weights(rows: "pd.DataFrame") -> Floats:
    return np.asarray(rows["weight"], dtype=np.float64)
