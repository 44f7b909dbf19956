"""A model's risks and reasons for single rows of values, without a data frame: what the inference API runs.

Equal, bit for bit, to `RiskModel.predict` on the same rows as a frame: the same CatBoost model, the same arithmetic in the
same order. A frame costs milliseconds however short it is; a list of values costs microseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from core.errors import ModelError
from ml.evaluation.bootstrap import Floats
from ml.features.catalog import CATEGORICAL
from ml.model.prior_shares import PriorShares
from ml.model.risk_model import MISSING_CATEGORY, RiskModel
from ml.model.tree_shares import TreeShares

Value = float | bool | str | None
_NAN = float("nan")


@dataclass(frozen=True)
class Scored:
    """Of n rows: ``risk`` (n,), ``log_odds`` before calibration (n,), and each feature's share in them (n, features).

    ``log_odds`` of a row is `RowScorer.base` plus its shares.
    """

    risk: Floats
    log_odds: Floats
    shares: Floats


class RowScorer:
    """Made once for a loaded model; a few tenths of a second. For one thread at a time."""

    def __init__(self, model: RiskModel) -> None:
        from catboost import Pool

        self._pool = Pool
        self._model, self.features = model, model.features
        self._categorical = [place for place, name in enumerate(model.features) if name in CATEGORICAL]
        self._is_category = [name in CATEGORICAL for name in model.features]
        self._values = itemgetter(*model.features)
        self._prior = PriorShares(model.prior, model.features)
        self._trees = TreeShares(model.trees, model.features, self._categorical, MISSING_CATEGORY)
        self.base = self._prior.base + self._trees.base

    def score(self, people: Sequence[Mapping[str, Value]]) -> Scored:
        """Risks and shares of people given as feature name → value, None or NaN where it is missing.

        Errors: `ModelError` when a feature of the model has no entry, not even None.
        """
        if not people:
            return Scored(np.zeros(0), np.zeros(0), np.zeros((0, len(self.features))))
        rows = [self._row(person) for person in people]
        pool = self._pool(rows, cat_features=self._categorical, thread_count=1)
        prior, prior_shares, held_by = self._prior.of(rows)
        trees = self._model.trees.predict(pool, prediction_type="RawFormulaVal", thread_count=1)
        log_odds = prior + np.asarray(trees, dtype=np.float64)
        shares = self._trees.of(pool)
        # The six inputs of the prior come from different features, so no place is meant twice.
        shares[np.arange(len(rows))[:, None], np.array(held_by)] += prior_shares
        return Scored(self._model.risk_of(log_odds), log_odds, shares)

    def shown(self, scored: Scored) -> Floats:
        """The shares on the scale of the answered risk, (n, features): log of the factor on its odds."""
        return self._model.calibration.slope * scored.shares

    def _row(self, person: Mapping[str, Value]) -> list[float | str]:
        try:
            values = self._values(person)
        except KeyError as error:
            raise ModelError(f"the model needs the feature {error.args[0]}, which is absent; run `cuff train`") from None
        return [MISSING_CATEGORY if is_category and (value is None or value != value) else str(value) if is_category
                else _NAN if value is None else float(value)
                for value, is_category in zip(values, self._is_category, strict=True)]
