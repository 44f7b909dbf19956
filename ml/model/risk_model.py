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

    def predict(self, frame: "pd.DataFrame") -> Floats:
        """Risk in (0, 1) of each row of ``patient_features``, shape (n,). Errors: `ModelError` naming absent columns."""
        if absent := [name for name in self.features if name not in frame.columns]:
            raise ModelError(f"the model needs features that are absent: {', '.join(absent)}; retrain with `cuff train`")
        return np.asarray(1 / (1 + np.exp(-self.calibration.apply(self.raw_log_odds(frame)))))

    def raw_log_odds(self, frame: "pd.DataFrame") -> Floats:
        """Log odds before calibration, shape (n,)."""
        if not len(frame):
            return np.zeros(0)
        trees = self.trees.predict(model_matrix(frame, self.features), prediction_type="RawFormulaVal", thread_count=1)
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

    if not (folder / TREES_FILE).exists() or not (folder / PARTS_FILE).exists():
        raise ModelError("the model's files are absent from the artifact store; restore it, or `cuff rollback`")
    if model_digest(folder) != digest:
        raise ModelError("the digest of the model's files is not the one registered; do not use it, and `cuff rollback`")
    parts = json.loads((folder / PARTS_FILE).read_text())
    trees = CatBoostClassifier()
    trees.load_model(str(folder / TREES_FILE), format="cbm")
    return RiskModel(trees, Recalibration(**parts["prior"]), Recalibration(**parts["calibration"]),
                     tuple(parts["features"]))


def model_digest(folder: Path) -> str:
    """SHA-256 over the digests of both files, so that neither the trees nor the calibration can be exchanged."""
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (TREES_FILE, PARTS_FILE)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def prior_log_odds(frame: "pd.DataFrame", prior: Recalibration) -> Floats:
    """The recalibrated Framingham score from 12-month means, as log odds, shape (n,)."""
    return prior.apply(logit(framingham_from_features(frame, "mean_12m")))


def model_matrix(frame: "pd.DataFrame", features: tuple[str, ...] = FEATURE_NAMES) -> "pd.DataFrame":
    """The features as CatBoost takes them: categories as text, the rest as float64, missing numbers as NaN."""
    import pandas as pd

    columns: dict[str, pd.Series[Any]] = {}
    for name in features:
        if name in CATEGORICAL:
            columns[name] = frame[name].astype(object).where(frame[name].notna(), MISSING_CATEGORY).astype(str)
        else:
            columns[name] = frame[name].astype("float64")
    return pd.DataFrame(columns)
