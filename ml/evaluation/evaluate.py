"""One evaluation: the model and its baselines on the same test rows, overall and by subgroup, with intervals."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml.evaluation import statistics as stat
from ml.evaluation.bootstrap import Estimate, Floats, PatientBootstrap, Statistic
from ml.evaluation.rules import GateRules

if TYPE_CHECKING:
    import pandas as pd

AGE_BANDS = ((18, 40), (40, 55), (55, 70), (70, 120))


@dataclass(frozen=True)
class Subgroup:
    """One slice of the test rows. ``auroc_gap`` is the slice minus everybody else."""

    name: str
    rows: int
    events: int
    auroc: Estimate
    auroc_gap: Estimate
    observed_to_expected: Estimate


@dataclass(frozen=True)
class Evaluation:
    """``scores[model][metric]``, paired ``differences[model][metric]`` (ours minus that model), and subgroups of ours."""

    rows: int
    patients: int
    events: int
    scores: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]
    subgroups: list[Subgroup]

    @property
    def model(self) -> dict[str, Estimate]:
        return self.scores["model"]


def evaluate(test: "pd.DataFrame", risks: dict[str, Floats], rules: GateRules, samples: int, seed: int) -> Evaluation:
    """Judge ``risks`` (name → (rows,) in [0, 1]; ``model`` is ours, the others are compared with it) on ``test``."""
    label = test["label"].to_numpy(dtype="float64")
    bootstrap = PatientBootstrap(test["patient_key"].to_numpy(), samples, seed, test["weight"].to_numpy())
    made = {name: _statistics(label, risk, rules) for name, risk in risks.items()}
    wanted: dict[str, Statistic] = {}
    for name, statistics in made.items():
        wanted |= {f"{name}|{metric}": statistic for metric, statistic in statistics.items()}
        if name != "model":
            wanted |= {f"-{name}|{metric}": stat.difference(made["model"][metric], statistics[metric])
                       for metric in ("auroc", "auprc", "brier")}
    found = bootstrap.estimate(wanted)
    return Evaluation(
        rows=len(test), patients=test["patient_key"].nunique(), events=int(label.sum()),
        scores={name: _under(found, f"{name}|") for name in risks},
        differences={name: _under(found, f"-{name}|") for name in risks if name != "model"},
        subgroups=[_subgroup(name, mask, label, risks["model"], bootstrap) for name, mask in _slices(test).items()],
    )


def _statistics(label: Floats, risk: Floats, rules: GateRules) -> dict[str, Statistic]:
    return {
        "auroc": stat.auroc(label, risk), "auprc": stat.auprc(label, risk), "brier": stat.brier(label, risk),
        "observed_to_expected": stat.observed_to_expected(label, risk),
        "calibration_slope": stat.calibration_slope(label, risk),
        "calibration_intercept": stat.calibration_intercept(label, risk),
        **{f"net_benefit_{threshold:g}": stat.net_benefit(label, risk, threshold)
           for threshold in (rules.bands.moderate, rules.bands.high)},
    }


def _under(found: dict[str, Estimate], prefix: str) -> dict[str, Estimate]:
    return {name.removeprefix(prefix): estimate for name, estimate in found.items() if name.startswith(prefix)}


def _slices(test: "pd.DataFrame") -> "dict[str, np.ndarray]":
    age = test["age_years"].to_numpy(dtype="float64")
    sexes = {f"sex: {sex}": (test["sex"] == sex).to_numpy() for sex in ("female", "male")}
    return sexes | {f"age: {low} to {high - 1}" if high < 120 else f"age: {low}+": (age >= low) & (age < high)
                    for low, high in AGE_BANDS}


def _subgroup(name: str, mask: "np.ndarray", label: Floats, risk: Floats, bootstrap: PatientBootstrap) -> Subgroup:
    inside, outside = np.flatnonzero(mask), np.flatnonzero(~mask)
    nothing = Estimate(np.nan, np.nan, np.nan)
    if not inside.size or not outside.size:
        return Subgroup(name, int(inside.size), int(label[inside].sum()), nothing, nothing, nothing)
    auroc = _within(inside, stat.auroc(label[inside], risk[inside]))
    found = bootstrap.estimate({
        "auroc": auroc,
        "gap": stat.difference(auroc, _within(outside, stat.auroc(label[outside], risk[outside]))),
        "ratio": _within(inside, stat.observed_to_expected(label[inside], risk[inside])),
    })
    return Subgroup(name, int(inside.size), int(label[inside].sum()), found["auroc"], found["gap"], found["ratio"])


def _within(rows: "np.ndarray", statistic: Statistic) -> Statistic:
    return lambda weights: statistic(weights[:, rows])
