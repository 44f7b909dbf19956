"""Four plots of one evaluation, as PNG. Drawn from aggregates: bins, curves, means."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.evaluation.bootstrap import Estimate, Floats
from ml.evaluation.rules import Bands
from ml.evaluation.statistics import net_benefit
from ml.model.risk_model import RiskModel, model_matrix, prior_log_odds

if TYPE_CHECKING:
    import pandas as pd

_BINS = 10
_SHAP_ROWS = 2000


def calibration_plot(path: Path, label: Floats, risk: Floats, weight: Floats) -> None:
    """Observed against predicted by tenths of predicted risk."""
    tenths = np.array_split(np.argsort(risk, kind="stable"), _BINS)
    points = np.array([
        (np.average(risk[rows], weights=weight[rows]), np.average(label[rows], weights=weight[rows]))
        for rows in tenths if rows.size
    ])
    axes = _axes("Calibration, tenths of risk", "predicted one-year risk", "observed")
    top = float(points.max()) * 1.1
    axes.plot([0, top], [0, top], color="grey", linewidth=1)
    axes.plot(points[:, 0], points[:, 1], marker="o")
    _save(axes, path)


def roc_plot(path: Path, label: Floats, risk: Floats, weight: Floats, area: Estimate) -> None:
    """The ROC curve at hundredths of the false positive rate."""
    order = np.argsort(-risk, kind="stable")
    found = np.cumsum((weight * label)[order]) / (weight @ label)
    false = np.cumsum((weight * (1 - label))[order]) / (weight @ (1 - label))
    grid = np.linspace(0, 1, 101)
    axes = _axes(f"ROC, area {area}", "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    axes.plot(grid, np.interp(grid, false, found))
    _save(axes, path)


def net_benefit_plot(path: Path, label: Floats, risk: Floats, weight: Floats, bands: Bands) -> None:
    """Net benefit by threshold, beside treating everybody and treating nobody."""
    thresholds = np.linspace(0.005, min(0.3, 2 * bands.high + 0.04), 60)
    axes = _axes("Net benefit", "threshold risk", "net benefit per patient")
    for name, score in (("model", risk), ("everybody", np.ones_like(risk))):
        axes.plot(thresholds, [float(net_benefit(label, score, t)(weight[None, :])[0]) for t in thresholds], label=name)
    axes.axhline(0, color="grey", linewidth=1, label="nobody")
    for threshold in (bands.moderate, bands.high):
        axes.axvline(threshold, color="lightgrey", linewidth=1)
    axes.set_ylim(bottom=-0.02)
    axes.legend()
    _save(axes, path)


def shap_plot(path: Path, model: RiskModel, rows: "pd.DataFrame") -> None:
    """Mean absolute contribution to the log odds: CatBoost's own SHAP values, and the prior beside them."""
    contributions = shap_summary(model, rows)
    names = sorted(contributions, key=lambda name: contributions[name])[-20:]
    axes = _axes("Mean |SHAP|, log odds", "", "")
    axes.barh(names, [contributions[name] for name in names])
    axes.figure.set_size_inches(8, 6)
    _save(axes, path)


def shap_summary(model: RiskModel, rows: "pd.DataFrame") -> dict[str, float]:
    """Feature (or ``framingham_prior``) → mean absolute contribution over up to 2,000 rows."""
    from catboost import Pool

    from ml.features.catalog import CATEGORICAL

    some = rows.iloc[:: max(1, len(rows) // _SHAP_ROWS)]
    categories = [name for name in model.features if name in CATEGORICAL]
    values = model.trees.get_feature_importance(
        Pool(model_matrix(some, model.features), cat_features=categories), type="ShapValues", thread_count=1)[:, :-1]
    prior = prior_log_odds(some, model.prior)
    means = np.abs(values).mean(axis=0)
    return dict(zip(model.features, map(float, means), strict=True)) | {
        "framingham_prior": float(np.abs(prior - prior.mean()).mean())}


def _axes(title: str, x: str, y: str) -> Any:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6, 5)).subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    return axes


def _save(axes: Any, path: Path) -> None:
    axes.figure.tight_layout()
    axes.figure.savefig(path, dpi=110)
