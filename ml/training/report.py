"""What a person reads of one training: metrics, plots, the model card. Aggregates only; no row of any patient."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.evaluation.evaluate import Evaluation
from ml.evaluation.gates import Gate
from ml.evaluation.rules import GateRules
from ml.features.catalog import FEATURES
from ml.model.risk_model import RiskModel
from ml.training.card import model_card
from ml.training.fit import weights
from ml.training.plots import calibration_plot, net_benefit_plot, roc_plot, shap_plot
from ml.training.split import Split

if TYPE_CHECKING:
    import pandas as pd


def metric_values(evaluation: Evaluation) -> dict[str, float]:
    """``test_auroc``, ``test_auroc_low``, ``framingham_auroc``, … as MLflow keeps them; NaN is left out."""
    values: dict[str, float] = {"test_rows": evaluation.rows, "test_events": evaluation.events}
    for model, metrics in evaluation.scores.items():
        prefix = "test" if model == "model" else model
        for name, estimate in metrics.items():
            values |= {f"{prefix}_{name}": estimate.value, f"{prefix}_{name}_low": estimate.low,
                       f"{prefix}_{name}_high": estimate.high}
    for model, metrics in evaluation.differences.items():
        values |= {f"difference_{name}_to_{model}": estimate.value for name, estimate in metrics.items()}
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}


def synthetic_example() -> "pd.DataFrame":
    """Two made-up rows of features: one complete, one with all that may be missing missing."""
    import pandas as pd

    full = {feature.name: float(feature.example) if feature.dtype != "category" else feature.example
            for feature in FEATURES}
    bare = {name: value if name in ("age_years", "sex", "systolic_last_mmhg", "diastolic_last_mmhg")
            else (None if isinstance(value, str) else np.nan) for name, value in full.items()}
    return pd.DataFrame([full, bare])


def write_report(folder: Path, model: RiskModel, split: Split, evaluation: Evaluation, gates: list[Gate],
                 tags: dict[str, str], rules: GateRules) -> None:
    """Write ``evaluation.json``, ``model_card.md`` and four plots into ``folder``."""
    label = split.test["label"].to_numpy(dtype="float64")
    risk, weight = model.predict(split.test), weights(split.test)
    calibration_plot(folder / "calibration.png", label, risk, weight)
    roc_plot(folder / "roc.png", label, risk, weight, evaluation.model["auroc"])
    net_benefit_plot(folder / "net_benefit.png", label, risk, weight, rules.bands)
    shap_plot(folder / "shap_summary.png", model, split.test)
    document = asdict(evaluation) | {"gates": [asdict(gate) for gate in gates]}
    (folder / "evaluation.json").write_text(json.dumps(_without_nan(document), indent=1))
    (folder / "model_card.md").write_text(model_card(split, evaluation, gates, tags, rules))


def _without_nan(value: Any) -> Any:
    """The same with null for what could not be estimated: NaN is not JSON."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
