"""The model itself: the Framingham score of 12-month means as prior log odds, corrected by CatBoost, then calibrated.

The prior carries what cohort studies know, so that a hospital with few events need not learn it anew; averaging a year's
readings is what already beats the score of the newest reading alone (regression dilution). The trees learn the rest.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import ModelError
from ml.baselines.framingham import framingham_from_features
from ml.evaluation.bootstrap import Floats
from ml.evaluation.statistics import logit
from ml.features.catalog import CATEGORICAL, FEATURE_NAMES
from ml.model.calibration import Recalibration

if TYPE_CHECKING:
    import pandas as pd

TREES_FILE, PARTS_FILE = "model.cbm", "model.json"
MISSING_CATEGORY = "missing"


@dataclass(frozen=True)
class RiskModel:
    """Predicts the one-year risk. ``trees`` is a CatBoost model over ``features``, in that order."""

    trees: Any
    prior: Recalibration
    calibration: Recalibration
    features: tuple[str, ...] = FEATURE_NAMES

    def predict(self, frame: "pd.DataFrame", threads: int = 1) -> Floats:
        """Risk in (0, 1) of each row of ``patient_features``, shape (n,), the same for any number of ``threads``.

        Errors: `ModelError` naming absent columns.
        """
        if absent := [name for name in self.features if name not in frame.columns]:
            raise ModelError(f"the model needs features that are absent: {', '.join(absent)}; retrain with `cuff train`")
        return self.risk_of(self.raw_log_odds(frame, threads))

    def risk_of(self, log_odds: Floats) -> Floats:
        """Risks from log odds before calibration, shape (n,)."""
        return np.asarray(1 / (1 + np.exp(-self.calibration.apply(log_odds))))

    def raw_log_odds(self, frame: "pd.DataFrame", threads: int = 1) -> Floats:
        """Log odds before calibration, shape (n,)."""
        if not len(frame):
            return np.zeros(0)
        from catboost import Pool

        categories = [name for name in self.features if name in CATEGORICAL]
        pool = Pool(model_matrix(frame, self.features), cat_features=categories, thread_count=threads)
        trees = self.trees.predict(pool, prediction_type="RawFormulaVal", thread_count=threads)
        return prior_log_odds(frame, self.prior) + np.asarray(trees, dtype=np.float64)

    def save(self, folder: Path) -> str:
        """Write the trees and the rest as JSON into ``folder``; returns the digest that `load` verifies."""
        self.trees.save_model(str(folder / TREES_FILE), format="cbm")
        parts = {"prior": asdict(self.prior), "calibration": asdict(self.calibration), "features": self.features}
        (folder / PARTS_FILE).write_text(json.dumps(parts, indent=1))
        return model_digest(folder)


def load_risk_model(folder: Path, digest: str) -> RiskModel:
    """Load without unpickling anything. Errors: `ModelError` when the files are absent or not those registered."""
    from catboost import CatBoostClassifier

    try:
        read = [(folder / name).read_bytes() for name in (TREES_FILE, PARTS_FILE)]
    except OSError:
        raise ModelError("the model's files are absent from the artifact store; restore it, or `cuff rollback`") from None
    if _digest_of(read) != digest:
        raise ModelError("the digest of the model's files is not the one registered; do not use it, and `cuff rollback`")
    trees = CatBoostClassifier()
    trees.load_model(blob=read[0], format="cbm")  # the very bytes that were verified
    parts = json.loads(read[1])
    return RiskModel(trees, Recalibration(**parts["prior"]), Recalibration(**parts["calibration"]),
                     tuple(parts["features"]))


def model_digest(folder: Path) -> str:
    """SHA-256 over the digests of both files, so that neither the trees nor the calibration can be exchanged."""
    return _digest_of([(folder / name).read_bytes() for name in (TREES_FILE, PARTS_FILE)])


def _digest_of(contents: list[bytes]) -> str:
    return hashlib.sha256("".join(hashlib.sha256(each).hexdigest() for each in contents).encode()).hexdigest()


def prior_log_odds(frame: "pd.DataFrame", prior: Recalibration) -> Floats:
    """The recalibrated Framingham score from 12-month means, as log odds, shape (n,)."""
    return prior.apply(logit(framingham_from_features(frame, "mean_12m")))


def model_matrix(frame: "pd.DataFrame", features: tuple[str, ...] = FEATURE_NAMES) -> "pd.DataFrame":
    """The features as CatBoost takes them: categories as text, the rest as float64, missing numbers as NaN.

    A category is a column of numbers that stand for words, so a million rows hold no million strings.
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in features:
        if name in CATEGORICAL:
            codes, found = pd.factorize(frame[name])
            words = [*(str(word) for word in found), MISSING_CATEGORY]
            told_apart = pd.Index(list(dict.fromkeys(words)))  # a record may say "missing" itself
            places = told_apart.get_indexer(pd.Index(words))
            columns[name] = pd.Categorical.from_codes(places[codes], told_apart)  # code -1 is the last word
        else:
            columns[name] = frame[name].to_numpy(dtype="float64", na_value=np.nan)
    return pd.DataFrame(columns)
