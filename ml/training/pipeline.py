"""Train, evaluate, judge, then promote or hold: one run of the training, from snapshot to decision."""

import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ModelError
from core.publication import Published, published
from core.settings import Settings
from ml import registry
from ml.baselines.framingham import framingham_from_features
from ml.baselines.logistic import fit_logistic
from ml.evaluation.bootstrap import Floats
from ml.evaluation.evaluate import Evaluation, evaluate
from ml.evaluation.gates import Gate, apply_gates
from ml.evaluation.rules import GateRules, load_gate_rules
from ml.evaluation.statistics import logit
from ml.features.catalog import FEATURE_NAMES, feature_hash, label_hash
from ml.features.training_set import training_set
from ml.model.calibration import fit_recalibration
from ml.model.golden import GOLDEN_TAG, write_golden
from ml.model.risk_model import RiskModel
from ml.tracking import git_commit, log_model, mlflow_client, training_run
from ml.training.fit import catboost_arguments, fit_model, labels, weights
from ml.training.outcome import TrainingOutcome
from ml.training.report import metric_values, synthetic_example, write_report
from ml.training.search import Search, search_parameters
from ml.training.split import Split, split_by_time

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("cuff.training")


@dataclass(frozen=True)
class Judged:
    """A fitted challenger and what the gates say of it."""

    model: RiskModel
    search: Search
    split: Split
    evaluation: Evaluation
    gates: list[Gate]

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    @property
    def why(self) -> str:
        failed = [f"{gate.name}: {gate.reason}" for gate in self.gates if not gate.passed]
        return "; ".join(failed) or f"all {len(self.gates)} gates passed"


def train(settings: Settings, trigger: str, actor: str = "pipeline") -> TrainingOutcome:
    """Train a challenger on the published snapshot; promote it when it passes its gates, else hold it.

    ``trigger`` says why (``nightly``, ``drift``, ``manual``). Errors: `NotPublishedError`; `ModelError` when the examples
    are too few to be split in time.
    """
    now_published = published(settings)
    examples = training_set(settings, now_published)
    tags = _tags(now_published, trigger)
    reigning = _comparable_champion(settings)
    rules = load_gate_rules()
    with training_run(settings, tags) as run_id, tempfile.TemporaryDirectory() as scratch:
        judged = _challenge(settings, examples, reigning, rules)
        version = _log(settings, run_id, judged, tags, Path(scratch), rules)
        evidence: dict[str, Any] = {"run_id": run_id, "trigger": trigger, "build_id": now_published.build_id,
                                    "gates": [asdict(gate) for gate in judged.gates],
                                    "metrics": metric_values(judged.evaluation)}
        previous = registry.champion_version(settings)
        registry.note(settings, "registered", version, actor, f"trained ({trigger})", evidence)
        mlflow_client(settings).set_registered_model_alias(registry.MODEL_NAME, "challenger", str(version))
        if judged.passed:
            registry.promote(settings, version, actor, judged.why, evidence)
        else:
            registry.note(settings, "held", version, actor, judged.why, evidence)
    logger.info("version %s %s: %s", version, "promoted" if judged.passed else "held", judged.why)
    scores = judged.evaluation.scores
    return TrainingOutcome(
        version, run_id, "promoted" if judged.passed else "held", judged.why, now_published.build_id, previous,
        judged.gates, scores["model"],
        {name: score for name, score in scores.items() if name not in ("model", "champion")}, scores.get("champion"),
        judged.split.rows())


def _challenge(settings: Settings, examples: "pd.DataFrame", reigning: registry.LoadedModel | None,
               rules: GateRules) -> Judged:
    split = split_by_time(examples)
    search = search_parameters(split.train, settings.training_search_seconds, settings.seed, settings.training_threads)
    model = fit_model(split.train, split.calibration, search.parameters, settings.seed, settings.training_threads)
    risks = {"model": model.predict(split.test)} | _baselines(split)
    if reigning is not None:
        risks["champion"] = reigning.predict(split.test)
    evaluation = evaluate(split.test, risks, rules, settings.bootstrap_samples, settings.seed)
    return Judged(model, search, split, evaluation, apply_gates(evaluation, int(split.train["label"].sum()), rules))


def _baselines(split: Split) -> dict[str, Floats]:
    """Framingham as published and recalibrated to this hospital, both from the newest reading; logistic regression."""
    import numpy as np

    local = fit_recalibration(logit(framingham_from_features(split.calibration, "last")),
                              labels(split.calibration), weights(split.calibration))
    published_score = framingham_from_features(split.test, "last")
    logistic = fit_logistic(split.train)
    return {
        "framingham": published_score,
        "framingham_recalibrated": np.asarray(1 / (1 + np.exp(-local.apply(logit(published_score))))),
        "logistic_regression": logistic.predict_proba(split.test[list(FEATURE_NAMES)])[:, 1],
    }


def _comparable_champion(settings: Settings) -> registry.LoadedModel | None:
    """The champion, unless it knows other features: then it cannot score these rows, and cannot stand in the way."""
    try:
        reigning = registry.champion(settings)
    except ModelError as error:  # a champion whose files are damaged must not keep a sound one from replacing it
        logger.error("the champion cannot be compared with: %s", error)
        return None
    return reigning if reigning is not None and reigning.tags.get("feature_hash") == feature_hash() else None


def _log(settings: Settings, run_id: str, judged: Judged, tags: dict[str, str], scratch: Path,
         rules: GateRules) -> int:
    import mlflow

    parameters = catboost_arguments(judged.search.parameters, settings.seed, settings.training_threads)
    mlflow.log_params({name: value for name, value in parameters.items() if name != "monotone_constraints"} | {
        "search_trials": judged.search.trials, "search_seconds": settings.training_search_seconds,
        "bootstrap_samples": settings.bootstrap_samples} | {f"rows_{k}": v for k, v in judged.split.rows().items()}
        | {f"landmarks_{k}": v for k, v in judged.split.landmarks().items()})
    mlflow.log_metrics(metric_values(judged.evaluation))
    files, report = scratch / "model", scratch / "report"
    files.mkdir()
    report.mkdir()
    tags = tags | {"model_digest": judged.model.save(files), GOLDEN_TAG: write_golden(judged.model, files)}
    write_report(report, judged.model, judged.split, judged.evaluation, judged.gates, tags, rules)
    mlflow.log_artifacts(str(report), "report")
    return log_model(settings, run_id, files, synthetic_example(), tags)


def _tags(now_published: Published, trigger: str) -> dict[str, str]:
    return {
        "build_id": str(now_published.build_id), "clinical_snapshot": str(now_published.clinical_snapshot),
        "label_hash": label_hash(), "feature_hash": feature_hash(), "git_commit": git_commit(),
        "manifest_hash": now_published.manifest_hash or "unknown", "trigger": trigger,
    }
