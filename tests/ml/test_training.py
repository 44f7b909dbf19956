"""From the published snapshot to a champion, everybody's risk, and back again: one house, trained a few times."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import func, select

from core.errors import ModelError, NotPublishedError
from core.lake import read_lake
from core.publication import published
from core.settings import Settings
from core.store import AuditEvent, ModelEvent, ScoringRun, store_session
from ml import registry
from ml.features.catalog import FEATURE_NAMES, feature_hash, label_hash
from ml.features.training_set import training_set
from ml.scoring import score
from ml.tracking import mlflow_client
from ml.training import TrainingOutcome, train
from ml.training.split import split_by_time
from tests.conftest import make_settings
from tests.ml.hospital import Drawn, draw, publish_hospital

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw(1500, seed=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, drawn: Drawn) -> tuple[Settings, TrainingOutcome]:
    settings = make_settings(tmp_path_factory.mktemp("trained") / "var")
    publish_hospital(settings, drawn)
    return settings, train(settings, "manual", actor="tester")


@pytest.fixture
def house(trained: tuple[Settings, TrainingOutcome], drawn: Drawn, tmp_path: Path) -> Settings:
    """The trained house's registry and books with a lake of its own, published again: a test may change all of it."""
    settings = trained[0].model_copy(update={"var": tmp_path / "var"})
    shutil.copytree(trained[0].var / "mlflow", settings.var / "mlflow")
    for book in trained[0].var.glob("ops.db*"):
        shutil.copy(book, settings.var)
    publish_hospital(settings, drawn)
    return settings


def events(settings: Settings) -> list[tuple[str, int, int | None]]:
    with store_session(settings) as session:
        return [(row.action, row.model_version, row.previous_version)
                for row in session.scalars(select(ModelEvent).order_by(ModelEvent.model_event_id))]


def test_the_first_model_that_passes_is_champion(trained: tuple[Settings, TrainingOutcome]) -> None:
    settings, outcome = trained
    assert (outcome.decision, outcome.model_version, outcome.previous_champion) == ("promoted", 1, None), outcome.why
    assert outcome.promoted
    assert outcome.champion_metrics is None
    assert outcome.metrics["auroc"].value > 0.7
    assert set(outcome.baselines) == {"framingham", "framingham_recalibrated", "logistic_regression"}
    assert registry.champion_version(settings) == 1
    assert events(settings) == [("registered", 1, None), ("promoted", 1, None)]
    json.dumps(outcome.to_dict())


def test_the_version_says_where_it_comes_from(trained: tuple[Settings, TrainingOutcome]) -> None:
    settings, outcome = trained
    (summary,) = registry.list_models(settings)
    now = published(settings)
    assert summary.aliases == ["champion"]
    assert summary.tags["build_id"] == str(now.build_id)
    assert summary.tags["clinical_snapshot"] == str(now.clinical_snapshot)
    assert (summary.tags["label_hash"], summary.tags["feature_hash"]) == (label_hash(), feature_hash())
    assert {"git_commit", "manifest_hash", "model_digest"} <= set(summary.tags)
    assert summary.metrics["test_auroc"] == pytest.approx(outcome.metrics["auroc"].value)
    assert summary.metrics["test_calibration_slope_low"] == pytest.approx(outcome.metrics["calibration_slope"].low)
    with store_session(settings) as session:
        evidence = session.scalars(select(ModelEvent).where(ModelEvent.action == "promoted")).one().evidence
    assert evidence["run_id"] == outcome.run_id
    assert evidence["metrics"]["framingham_auroc"] > 0.6


def test_the_run_holds_what_a_person_reads_and_no_patient(trained: tuple[Settings, TrainingOutcome], drawn: Drawn) -> None:
    settings, outcome = trained
    client = mlflow_client(settings)
    report = {Path(item.path).name for item in client.list_artifacts(outcome.run_id, "report")}
    assert report == {"calibration.png", "roc.png", "net_benefit.png", "shap_summary.png", "evaluation.json", "model_card.md"}
    files = [file for file in Path(settings.mlflow_artifact_root()).rglob("*") if file.is_file()]
    card = next(file for file in files if file.name == "model_card.md").read_text()
    assert all(f"| {name} |" in card for name in FEATURE_NAMES)
    assert not [file for file in files if file.suffix in {".pkl", ".pickle"}]
    keys = [key.encode() for key in drawn.examples["patient_key"].unique()]
    for file in files:
        content = file.read_bytes()
        assert not any(key in content for key in keys), file.name
    example = next(file for file in files if file.name == "input_example.json").read_text()
    assert json.loads(example)["columns"] == list(FEATURE_NAMES)


def test_mlflow_itself_can_serve_it(trained: tuple[Settings, TrainingOutcome], drawn: Drawn) -> None:
    import mlflow

    from ml.training.report import synthetic_example

    settings, _ = trained
    mlflow_client(settings)
    rows = synthetic_example()
    served = mlflow.pyfunc.load_model("models:/hypertension-risk@champion").predict(rows)
    ours = registry.champion(settings)
    assert ours is not None
    assert np.asarray(served) == pytest.approx(ours.predict(rows))


def test_trained_again_it_is_the_same_model_and_takes_over(house: Settings) -> None:
    outcome = train(house, "nightly")
    assert (outcome.decision, outcome.previous_champion) == ("promoted", 1), outcome.why
    assert "not_worse_than_champion" in {gate.name for gate in outcome.gates}
    assert outcome.champion_metrics is not None
    assert outcome.champion_metrics["auroc"] == outcome.metrics["auroc"]
    rows = training_set(house, published(house))
    first, second = (registry.load_version(house, version).predict(rows) for version in (1, 2))
    assert first.tolist() == second.tolist()
    back = registry.rollback(house, "tester", "to see it return")
    assert (back.action, back.model_version, back.previous_version) == ("rolled_back", 1, 2)
    assert registry.champion_version(house) == 1
    with pytest.raises(ModelError, match="first champion"):
        registry.rollback(house, "tester", "once more")
    again = registry.promote(house, 2, "tester", "it was fine after all")
    assert (again.action, again.previous_version) == ("promoted", 1)
    with pytest.raises(ModelError, match="champion already"):
        registry.promote(house, 2, "tester", "twice")
    with store_session(house) as session:
        audited = session.scalar(select(func.count()).select_from(AuditEvent).where(AuditEvent.action.like("model %")))
    assert audited == len(events(house)) == 6


def test_a_model_that_fails_a_gate_is_held_and_the_champion_stays(
        house: Settings, drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    noise = drawn.examples.assign(label=drawn.examples["label"].where(
        drawn.examples["label"].isna(), (random.random(len(drawn.examples)) < 0.04).astype(float)))
    publish_hospital(house, replace(drawn, examples=noise))
    outcome = train(house, "drift")
    assert outcome.decision == "held"
    assert "better_than_framingham" in outcome.why or "calibration_slope" in outcome.why
    assert registry.champion_version(house) == 1
    assert events(house)[-2:] == [("registered", 2, 1), ("held", 2, 1)]
    assert next(row for row in registry.list_models(house) if row.version == 2).aliases == ["challenger"]
    with pytest.raises(ModelError, match="reason"):
        registry.promote(house, 2, "tester", " ")


def test_versions_that_cannot_be_champion(house: Settings) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        registry.promote(house, 99, "tester", "no such")
    outcome = train(house, "nightly")
    mlflow_client(house).set_model_version_tag(registry.MODEL_NAME, "1", "feature_hash", "other")
    assert registry.champion_version(house) == outcome.model_version
    with pytest.raises(ModelError, match="other feature definitions"):
        registry.promote(house, 1, "tester", "an old one")
    mlflow_client(house).set_model_version_tag(registry.MODEL_NAME, "1", "model_digest", "0" * 64)
    with pytest.raises(ModelError, match="digest"):
        registry.rollback(house, "tester", "back to a changed file")
    assert registry.champion_version(house) == outcome.model_version


def test_a_damaged_champion_stops_scoring_but_not_its_successor(house: Settings) -> None:
    mlflow_client(house).set_model_version_tag(registry.MODEL_NAME, "1", "model_digest", "0" * 64)
    with pytest.raises(ModelError, match="digest"):
        score(house)
    outcome = train(house, "nightly")
    assert outcome.promoted
    assert outcome.champion_metrics is None


def test_everybody_eligible_is_scored_once(house: Settings, drawn: Drawn) -> None:
    outcome = score(house)
    today = drawn.features[(drawn.features["feature_date"] == drawn.as_of) & drawn.features["is_eligible"]]
    assert (outcome.patients, outcome.model_version, outcome.skipped) == (len(today), 1, False)
    again = score(house)
    assert again == replace(outcome, skipped=True)
    with read_lake(house, ("clinical",)) as lake:
        rows = lake.execute("select * from clinical.scores.predictions order by patient_key").df()
    assert len(rows) == len(today)
    assert rows["risk"].between(0, 1).all()
    assert rows["risk"].mean() == pytest.approx(outcome.mean_risk)
    assert set(rows["band"]) <= {"low", "moderate", "high"}
    served = today.sort_values("patient_key").reset_index(drop=True)
    for name in FEATURE_NAMES:
        pd.testing.assert_series_equal(rows[name], served[name], check_dtype=False, check_names=False)


def test_a_scoring_that_died_half_way_is_replaced(house: Settings) -> None:
    first = score(house)
    with store_session(house) as session:
        session.delete(session.get(ScoringRun, first.scoring_run_id))
    second = score(house)
    assert not second.skipped
    with read_lake(house, ("clinical",)) as lake:
        assert lake.execute("select count(*), count(distinct patient_key) from clinical.scores.predictions").fetchone() == (
            first.patients, first.patients)


def test_the_true_risk_is_nearly_reached(trained: tuple[Settings, TrainingOutcome], drawn: Drawn) -> None:
    from sklearn.metrics import roc_auc_score

    settings, outcome = trained
    test = split_by_time(training_set(settings, published(settings))).test
    truth = drawn.examples.assign(true_risk=drawn.true_risk).astype({"landmark_date": "datetime64[us]"})
    both = test.astype({"landmark_date": "datetime64[us]"}).merge(
        truth[["patient_key", "landmark_date", "true_risk"]], on=["patient_key", "landmark_date"])
    assert len(both) == len(test)
    assert outcome.metrics["auroc"].value > roc_auc_score(both["label"], both["true_risk"]) - 0.06


def test_without_a_model_or_a_publication_the_error_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(NotPublishedError, match="cuff build"):
        train(settings, "manual")
    assert registry.champion(settings) is None
    assert not registry.has_champion(settings)
    assert registry.list_models(settings) == []
    with pytest.raises(ModelError, match="no champion"):
        registry.rollback(settings, "tester", "nothing there")
    publish_hospital(settings, draw(40))
    with pytest.raises(ModelError, match="cuff train"):
        score(settings)
