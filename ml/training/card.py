"""The model card: what the model is for, what it was trained on, how good it is, and where not to trust it."""

from typing import TYPE_CHECKING

from ml.evaluation.evaluate import Evaluation
from ml.evaluation.gates import Gate
from ml.evaluation.rules import GateRules
from ml.features.catalog import ELIGIBLE_AGE_YEARS, FEATURES
from ml.training.split import Split

if TYPE_CHECKING:
    import pandas as pd

_METRICS = ("auroc", "auprc", "brier", "observed_to_expected", "calibration_slope", "calibration_intercept")


def model_card(split: Split, evaluation: Evaluation, gates: list[Gate], tags: dict[str, str], rules: GateRules) -> str:
    """Markdown. Aggregates only."""
    metrics = (*_METRICS, *(name for name in evaluation.model if name.startswith("net_benefit")))
    models = list(evaluation.scores)
    lines = [
        "# hypertension-risk", "",
        f"The risk that an adult ({ELIGIBLE_AGE_YEARS[0]} to {ELIGIBLE_AGE_YEARS[1]}) without hypertension is found to have "
        "it within a year: a diagnosis, a first antihypertensive drug, or a second reading of 140/90 or more.", "",
        "**For** ranking patients for a check of their blood pressure. **Not for** diagnosis, for people already treated, "
        "for pregnancy, or for children.", "",
        "## How", "",
        "The Framingham score (Parikh 2008) of 12-month mean pressures, recalibrated, is the prior; CatBoost with monotone "
        "constraints corrects it; a logistic recalibration on later landmarks makes the risks honest.", "",
        "## Data", "", "| slice | landmarks | rows | events |", "| --- | --- | --- | --- |",
        *(_slice(name, rows) for name, rows in
          (("train", split.train), ("calibration", split.calibration), ("test", split.test))), "",
        "## On the test landmarks (95% bootstrap intervals, by patient)", "",
        f"| | {' | '.join(models)} |", f"| --- |{' --- |' * len(models)}",
        *(f"| {metric} | {' | '.join(str(evaluation.scores[model][metric]) for model in models)} |" for metric in metrics),
        "", "## Subgroups", "", "| group | rows | events | AUROC | observed / expected |", "| --- | --- | --- | --- | --- |",
        *(f"| {group.name} | {group.rows} | {group.events} | {group.auroc} | {group.observed_to_expected} |"
          for group in evaluation.subgroups),
        "", "## Gates", "", *(f"- {'passed' if gate.passed else '**FAILED**'} {gate.name}: {gate.reason}" for gate in gates),
        "", "## Bands", "",
        f"low below {rules.bands.moderate:.0%}, moderate below {rules.bands.high:.0%}, high from there.", "",
        "## Features", "", "| feature | unit | risk never falls as it rises | |", "| --- | --- | --- | --- |",
        *(f"| {f.name} | {f.unit} | {'yes' if f.direction else ''} | {f.description} |" for f in FEATURES), "",
        "## Limits", "",
        "- Labels are what the hospital recorded: who does not come is not found to have hypertension.",
        "- Who was not seen again after a window counts through those who were (weights by landmark): this assumes that "
        "leaving has nothing to do with the risk.",
        "- Parental history is not among the features yet.",
        "- Subgroups with few events have wide intervals; absence of evidence is not evidence of fairness.", "",
        "## Provenance", "", *(f"- {name}: `{value}`" for name, value in sorted(tags.items())), "",
    ]
    return "\n".join(lines)


def _slice(name: str, rows: "pd.DataFrame") -> str:
    first, last = rows["landmark_date"].min(), rows["landmark_date"].max()
    return f"| {name} | {first:%Y-%m-%d} to {last:%Y-%m-%d} | {len(rows)} | {int(rows['label'].sum())} |"
