"""How the model behaves: directions, invariances, missing values, determinism, and the digest of its files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import ModelError
from ml.features.catalog import FEATURE_NAMES
from ml.features.training_set import typed
from ml.model.calibration import Recalibration, fit_recalibration
from ml.model.risk_model import PARTS_FILE, TREES_FILE, RiskModel, load_risk_model
from ml.training.fit import TreeParameters, fit_model
from ml.training.plots import shap_summary
from ml.training.report import synthetic_example
from ml.training.search import search_parameters
from ml.training.split import Split, split_by_time
from tests.ml.hospital import draw

PARAMETERS = TreeParameters(iterations=60, learning_rate=0.08, depth=4, l2_leaf_reg=3.0, rsm=1.0)  # eager to overfit


@pytest.fixture(scope="module")
def split() -> Split:
    drawn = draw(1500)
    rows = drawn.examples.dropna(subset=["label"]).merge(
        drawn.features, left_on=["patient_key", "landmark_date"], right_on=["patient_key", "feature_date"])
    return split_by_time(typed(rows.astype({"label": int}).assign(weight=1.0)))


@pytest.fixture(scope="module")
def model(split: Split) -> RiskModel:
    return fit_model(split.train, split.calibration, PARAMETERS, seed=1, threads=2)


@pytest.mark.parametrize("kind", ["systolic", "diastolic"])
def test_raising_the_systolic_pressure_never_lowers_the_risk(model: RiskModel, split: Split, kind: str) -> None:
    # The score's own age term turns the diastolic direction round above 79 years.
    rows = split.test[split.test["age_years"] < 75].head(400)
    before = model.predict(rows)
    for rise_mmhg in (1.0, 7.0, 25.0):
        higher = rows.copy()
        for which in ("last", "mean_12m"):
            higher[f"{kind}_{which}_mmhg"] += rise_mmhg
        assert (model.predict(higher) >= before - 1e-12).all()


@pytest.mark.parametrize("name", ["systolic_last_mmhg", "systolic_mean_12m_mmhg", "bmi_last_kg_m2"])
def test_raising_one_measurement_never_lowers_the_risk(model: RiskModel, split: Split, name: str) -> None:
    rows = split.test.dropna(subset=[name]).head(400)
    assert (model.predict(rows.assign(**{name: rows[name] * 1.2})) >= model.predict(rows) - 1e-12).all()


def test_any_value_may_be_missing(model: RiskModel, split: Split) -> None:
    rows = split.test.head(50)
    for name in FEATURE_NAMES:
        risk = model.predict(rows.assign(**{name: None}))
        assert np.isfinite(risk).all()
        assert ((risk > 0) & (risk < 1)).all()
    nothing = pd.DataFrame({name: [None] for name in FEATURE_NAMES})
    assert 0 < model.predict(nothing)[0] < 1


def test_words_never_seen_are_taken_as_no_information_beyond_a_margin(model: RiskModel, split: Split) -> None:
    rows = split.test[split.test["sex"] == "male"].head(100)
    other = model.predict(rows.assign(sex="other"))
    assert np.abs(np.log(other / (1 - other)) - np.log(model.predict(rows) / (1 - model.predict(rows)))).max() < 1.0


def test_the_order_and_the_company_of_rows_do_not_matter(model: RiskModel, split: Split) -> None:
    rows = split.test.head(80)
    risk = model.predict(rows)
    assert model.predict(rows.iloc[::-1])[::-1].tolist() == risk.tolist()
    assert model.predict(rows.iloc[[7]])[0] == risk[7]
    shuffled = rows[list(reversed(rows.columns))].assign(patient_key="somebody else", landmark_date=None)
    assert model.predict(shuffled).tolist() == risk.tolist()


def test_sick_and_healthy_are_told_apart(model: RiskModel) -> None:
    healthy = synthetic_example().head(1).assign(
        age_years=25.0, systolic_last_mmhg=105.0, systolic_mean_12m_mmhg=105.0, diastolic_last_mmhg=65.0,
        diastolic_mean_12m_mmhg=65.0, bmi_last_kg_m2=21.0)
    sick = healthy.assign(age_years=65.0, systolic_last_mmhg=138.0, systolic_mean_12m_mmhg=137.0,
                          diastolic_last_mmhg=88.0, diastolic_mean_12m_mmhg=88.0, bmi_last_kg_m2=34.0)
    assert model.predict(healthy)[0] < 0.02 < 0.08 < model.predict(sick)[0]


def test_same_seed_rows_and_threads_give_identical_predictions(model: RiskModel, split: Split) -> None:
    again = fit_model(split.train, split.calibration, PARAMETERS, seed=1, threads=2)
    assert again.predict(split.test).tolist() == model.predict(split.test).tolist()
    other = fit_model(split.train, split.calibration, PARAMETERS, seed=2, threads=2)
    assert other.predict(split.test).tolist() != model.predict(split.test).tolist()


def test_saved_and_loaded_it_predicts_the_same(model: RiskModel, split: Split, tmp_path: Path) -> None:
    loaded = load_risk_model(tmp_path, model.save(tmp_path))
    assert loaded.predict(split.test).tolist() == model.predict(split.test).tolist()


@pytest.mark.parametrize("name", [TREES_FILE, PARTS_FILE])
def test_a_changed_file_is_refused(model: RiskModel, tmp_path: Path, name: str) -> None:
    digest = model.save(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
    with pytest.raises(ModelError, match="digest"):
        load_risk_model(tmp_path, digest)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match="absent"):
        load_risk_model(tmp_path, digest)


def test_absent_features_are_named(model: RiskModel, split: Split) -> None:
    with pytest.raises(ModelError, match="heart_rate_last_bpm"):
        model.predict(split.test.drop(columns="heart_rate_last_bpm"))


def test_nobody_to_predict_is_no_error(model: RiskModel, split: Split) -> None:
    assert model.predict(split.test.head(0)).shape == (0,)


def test_recalibration_finds_what_was_distorted_when_data_are_many() -> None:
    random = np.random.default_rng(1)
    odds = random.normal(-2, 1, 60_000)
    label = (random.random(odds.size) < 1 / (1 + np.exp(-odds))).astype(float)
    found = fit_recalibration((odds - 0.5) / 0.8, label)
    assert (found.intercept, found.slope) == (pytest.approx(0.5, abs=0.05), pytest.approx(0.8, abs=0.03))
    few = fit_recalibration((odds[:60] - 0.5) / 0.3, label[:60])
    assert abs(few.slope - 1) < abs(0.3 - 1)  # a handful of events does not overrule the slope
    assert Recalibration(1.0, 2.0).apply(np.array([3.0]))[0] == 7.0


def test_what_drives_the_risk_is_pressure(model: RiskModel, split: Split) -> None:
    summary = shap_summary(model, split.test)
    assert max(summary, key=lambda name: summary[name]) == "framingham_prior"
    assert set(summary) == {*FEATURE_NAMES, "framingham_prior"}


def test_the_search_is_bounded_and_never_worse_than_the_defaults_on_its_own_folds(split: Split) -> None:
    assert search_parameters(split.train, 0, 1, 2).parameters == TreeParameters()
    found = search_parameters(split.train.iloc[::4], 2, 1, 2)
    assert found.trials >= 1
    assert found.log_loss is not None
    assert 0 < found.log_loss < 0.7
