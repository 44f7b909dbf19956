"""A small Optuna search, judged by log loss in folds that keep each patient's rows together.

Bounded by time and by trials. A time budget makes the number of trials depend on the machine: what was chosen, and from
how many trials, is logged with the run, and training again with ``training_search_seconds=0`` uses the defaults.
"""

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml.training.fit import TreeParameters, fit_uncalibrated, labels, weights

if TYPE_CHECKING:
    import optuna
    import pandas as pd

MAXIMUM_TRIALS = 25
FOLDS = 3
logger = logging.getLogger("cuff.training")


@dataclass(frozen=True)
class Search:
    """What was chosen, from how many trials."""

    parameters: TreeParameters
    trials: int
    log_loss: float | None


def search_parameters(train: "pd.DataFrame", seconds: int, seed: int, threads: int) -> Search:
    """The best parameters found within ``seconds``; the defaults when that is 0. The defaults are the first trial."""
    if seconds <= 0:
        return Search(TreeParameters(), 0, None)
    import optuna
    from sklearn.model_selection import StratifiedGroupKFold

    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(
        train, train["label"], train["patient_key"]))

    def log_loss(trial: "optuna.Trial") -> float:
        parameters = _suggest(trial)
        losses = []
        for fitted_on, judged_on in folds:
            judged = train.iloc[judged_on]
            odds = fit_uncalibrated(train.iloc[fitted_on], parameters, seed, threads).raw_log_odds(judged)
            losses.append(float(np.average(np.logaddexp(0.0, odds) - labels(judged) * odds, weights=weights(judged))))
        return float(np.mean(losses))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(asdict(TreeParameters()))
    study.optimize(log_loss, n_trials=MAXIMUM_TRIALS, timeout=seconds)
    logger.info("search: %s trials, log loss %.5f", len(study.trials), study.best_value)
    return Search(_suggest(optuna.trial.FixedTrial(study.best_params)), len(study.trials), study.best_value)


def _suggest(trial: "optuna.trial.BaseTrial") -> TreeParameters:
    return TreeParameters(
        iterations=trial.suggest_int("iterations", 20, 400, log=True),
        learning_rate=trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        depth=trial.suggest_int("depth", 2, 6),
        l2_leaf_reg=trial.suggest_float("l2_leaf_reg", 3.0, 100.0, log=True),
        rsm=trial.suggest_float("rsm", 0.4, 1.0),
    )
