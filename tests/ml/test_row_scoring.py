"""Rows by themselves are scored as a frame is, to the last bit, and what explains a risk adds up to it."""

import math
import shutil
from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catboost import Pool
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ModelError
from ml.baselines.framingham import framingham_risk
from ml.evaluation.statistics import logit
from ml.features.catalog import CATEGORICAL, FEATURE_NAMES, FEATURES
from ml.features.training_set import typed
from ml.features.words import WORDS
from ml.model.golden import GOLDEN_FILE, GOLDEN_TAG, check_golden, golden_people, write_golden
from ml.model.prior_shares import REFERENCE, SOURCES, PriorShares
from ml.model.risk_model import RiskModel, load_risk_model, model_matrix, prior_log_odds
from ml.model.row_scoring import RowScorer
from ml.model.tree_shares import _structure
from ml.training.fit import TreeParameters, fit_model
from ml.training.split import split_by_time
from tests.ml.hospital import draw

EAGER = TreeParameters(iterations=60, learning_rate=0.2, depth=5, l2_leaf_reg=1.0, rsm=1.0)  # many leaves that nobody is in


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    drawn = draw(1200)
    return typed(drawn.examples.dropna(subset=["label"]).merge(
        drawn.features, left_on=["patient_key", "landmark_date"], right_on=["patient_key", "feature_date"]
    ).astype({"label": int}).assign(weight=1.0))


@pytest.fixture(scope="module")
def model(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> RiskModel:
    split = split_by_time(rows)
    fitted = fit_model(split.train, split.calibration, EAGER, seed=1, threads=2)
    folder = tmp_path_factory.mktemp("model")
    return load_risk_model(folder, fitted.save(folder))  # as it is served: out of its files


@pytest.fixture(scope="module")
def scorer(model: RiskModel) -> RowScorer:
    return RowScorer(model)


def value_of(feature: Any) -> st.SearchStrategy[Any]:
    if feature.dtype == "category":
        return st.none() | st.sampled_from([*WORDS[feature.name], "a word nobody knows", "missing"])
    if feature.dtype == "boolean":
        return st.none() | st.booleans()
    return st.none() | st.floats(0.2 * feature.example, 3 * feature.example) | st.sampled_from([0.0, math.nan, 1e6])


PERSON = st.fixed_dictionaries({feature.name: value_of(feature) for feature in FEATURES})


@given(people=st.lists(PERSON, min_size=1, max_size=12))
def test_rows_are_scored_as_a_frame_is_and_explained_in_full(
        model: RiskModel, scorer: RowScorer, people: list[dict[str, Any]]) -> None:
    scored = scorer.score(people)
    frame = pd.DataFrame(people, columns=list(FEATURE_NAMES))
    assert scored.risk.tolist() == model.predict(frame).tolist()
    assert scored.log_odds.tolist() == model.raw_log_odds(frame).tolist()
    assert scorer.base + scored.shares.sum(axis=1) == pytest.approx(scored.log_odds, abs=1e-9)
    shown = scorer.shown(scored)
    calibrated = model.calibration.apply(scorer.base) + shown.sum(axis=1)
    assert 1 / (1 + np.exp(-calibrated)) == pytest.approx(scored.risk, abs=1e-9)


def test_thousands_of_rows_alone_and_together(model: RiskModel, scorer: RowScorer, rows: pd.DataFrame) -> None:
    some = rows.sample(3000, random_state=1)[list(FEATURE_NAMES)]
    people = some.to_dict("records")
    expected = model.predict(some).tolist()
    assert scorer.score(people).risk.tolist() == expected
    assert [scorer.score([person]).risk[0] for person in people[:150]] == expected[:150]
    assert model.predict(some, threads=2).tolist() == expected


def test_columns_as_the_lake_gives_them_are_read_as_typed_ones(model: RiskModel) -> None:
    people = golden_people()
    raw = pd.DataFrame(people)
    assert model.predict(raw).tolist() == model.predict(typed(pd.DataFrame(people))).tolist()
    assert model_matrix(raw)["sex"].tolist() == [person["sex"] or "missing" for person in people]


def test_the_shares_of_the_trees_are_catboosts_own(rows: pd.DataFrame) -> None:
    split = split_by_time(rows)
    # So shallow that somebody is in every leaf with a value: else CatBoost's own depend on who else is asked about.
    model = fit_model(split.train, split.calibration, replace(EAGER, depth=2), seed=1, threads=2)
    is_empty = model.trees.get_leaf_weights() == 0
    assert not model.trees.get_leaf_values()[is_empty].any()
    shares = RowScorer(model)._trees
    people = [*rows[list(FEATURE_NAMES)].head(1000).to_dict("records"), *golden_people()]
    pool = Pool(model_matrix(pd.DataFrame(people, columns=list(FEATURE_NAMES))), cat_features=list(CATEGORICAL))
    own = model.trees.get_feature_importance(pool, type="ShapValues")
    assert shares.of(pool) == pytest.approx(own[:, :-1], abs=1e-12)
    assert shares.base == pytest.approx(own[0, -1], abs=1e-12)


def test_the_shares_of_a_tree_are_shapley_values_also_where_nobody_is(model: RiskModel, scorer: RowScorer) -> None:
    trees = model.trees
    first = np.cumsum([0, *trees.get_tree_leaf_counts()])
    number = int(np.argmax([((trees.get_leaf_weights()[a:b] == 0) & scorer._trees._is_known[at, :b - a]).sum()
                            for at, (a, b) in enumerate(pairwise(first))]))
    weights, values = (every[first[number]:first[number + 1]] for every in (trees.get_leaf_weights(), trees.get_leaf_values()))
    places = [split.place for split in _structure(trees, FEATURE_NAMES, scorer._categorical, "missing")[number]]
    known = np.flatnonzero(scorer._trees._is_known[number])
    weights = weights.copy()
    weights[known] += 1e-9
    assert (weights[known] < 1).sum() > 3
    assert len(places) == 5

    def value(leaf: int, told: frozenset[int], nodes: range | None = None, depth: int = 4) -> float:
        """What a tree says of a leaf of which only the features ``told`` are known: the others by the training's weights."""
        nodes = range(32) if nodes is None else nodes
        if depth < 0:
            return float(values[nodes[0]])
        halves = nodes[:len(nodes) // 2], nodes[len(nodes) // 2:]
        if places[depth] in told:
            return value(leaf, told, halves[leaf >> depth & 1], depth - 1)
        masses = [weights[half].sum() for half in halves]
        return sum(mass / sum(masses) * value(leaf, told, half, depth - 1)
                   for mass, half in zip(masses, halves, strict=True) if mass)

    features = sorted(set(places))
    orders = list(permutations(features))
    for leaf in known:
        expected = np.zeros(len(FEATURE_NAMES))
        for order in orders:
            for at, feature in enumerate(order):
                before, after = (frozenset(order[:end]) for end in (at, at + 1))
                expected[feature] += (value(leaf, after) - value(leaf, before)) / len(orders)
        assert scorer._trees._tables[number, leaf] == pytest.approx(expected, abs=1e-9)


def test_why_one_is_at_risk_does_not_depend_on_who_else_is_asked_about(scorer: RowScorer) -> None:
    people = golden_people()
    together = scorer.score(people).shares
    for number, person in enumerate(people):
        assert scorer.score([person]).shares[0] == pytest.approx(together[number], abs=1e-14)


def test_a_word_that_only_the_training_knew_is_explained_too(rows: pd.DataFrame) -> None:
    told = rows.assign(smoking_status=rows["smoking_status"].replace("current", "vapes"), label=(
        rows["smoking_status"] == "current").astype(int))
    split = split_by_time(told)
    model = fit_model(split.train, split.calibration, EAGER, seed=1, threads=2)
    person = told[told["smoking_status"] == "vapes"].iloc[0][list(FEATURE_NAMES)].to_dict()
    scorer = RowScorer(model)
    scored = scorer.score([person])
    assert abs(scored.shares[0][FEATURE_NAMES.index("smoking_status")]) > 1
    assert scorer.base + scored.shares.sum() == pytest.approx(scored.log_odds[0], abs=1e-9)


def test_the_priors_shares_are_averages_over_all_orders(model: RiskModel) -> None:
    shares = PriorShares(model.prior, FEATURE_NAMES)
    person = {"age_years": 71.0, "sex": "female", "bmi_last_kg_m2": 33.0, "systolic_mean_12m_mmhg": 138.0,
              "diastolic_mean_12m_mmhg": 71.0, "smoking_status": "current"}
    values = [71.0, 1.0, 33.0, 138.0, 71.0, 1.0]

    def log_odds(inputs: list[float]) -> float:
        return float(model.prior.apply(logit(framingham_risk(*np.array(inputs).reshape(-1, 1))))[0])

    brought, orders = np.zeros(6), list(permutations(range(6)))
    for order in orders:
        inputs = REFERENCE.tolist()
        for place in order:
            before = log_odds(inputs)
            inputs[place] = values[place]
            brought[place] += log_odds(inputs) - before
    whole, found, held_by = shares.of([[person.get(name, math.nan) for name in FEATURE_NAMES]])
    assert found[0] == pytest.approx(brought / len(orders), abs=1e-12)
    assert shares.base + found[0].sum() == pytest.approx(whole[0], abs=1e-12)
    assert [FEATURE_NAMES[place] for place in held_by[0]] == [names[0] for names in SOURCES]


def test_what_is_absent_explains_nothing_of_the_prior_and_a_last_reading_stands_for_the_mean(model: RiskModel) -> None:
    shares = PriorShares(model.prior, FEATURE_NAMES)
    nothing = [("missing" if name in CATEGORICAL else math.nan) for name in FEATURE_NAMES]
    whole, found, _ = shares.of([nothing])
    assert found[0] == pytest.approx([0.0] * 6, abs=1e-12)
    assert whole[0] == pytest.approx(shares.base, abs=1e-12)
    only_last = list(nothing)
    only_last[FEATURE_NAMES.index("systolic_last_mmhg")] = 150.0
    _, found, held_by = shares.of([only_last])
    assert FEATURE_NAMES[held_by[0][3]] == "systolic_last_mmhg"
    assert found[0][3] > 0.5
    frame = pd.DataFrame([only_last], columns=list(FEATURE_NAMES))
    assert shares.of([only_last])[0][0] == prior_log_odds(frame, model.prior)[0]


def test_a_feature_without_an_entry_is_an_error(scorer: RowScorer) -> None:
    person = golden_people()[0]
    del person["ldl_last_mg_dl"]
    with pytest.raises(ModelError, match="ldl_last_mg_dl"):
        scorer.score([person])
    assert scorer.score([]).risk.tolist() == []


def test_golden_predictions_hold_for_the_model_that_made_them(model: RiskModel, scorer: RowScorer, tmp_path: Path) -> None:
    tags = {GOLDEN_TAG: write_golden(model, tmp_path)}
    check_golden(model, scorer, tmp_path, tags)
    with pytest.raises(ModelError, match="registered without golden"):
        check_golden(model, scorer, tmp_path, {})
    other = RiskModel(model.trees, model.prior, type(model.calibration)(0.001, model.calibration.slope))
    with pytest.raises(ModelError, match="no longer says"):
        check_golden(other, RowScorer(other), tmp_path, tags)
    with pytest.raises(ModelError, match="of a row by itself"):
        check_golden(model, RowScorer(other), tmp_path, tags)
    shutil.copy(tmp_path / GOLDEN_FILE, tmp_path / "kept")
    (tmp_path / GOLDEN_FILE).write_text((tmp_path / GOLDEN_FILE).read_text().replace("52.0", "53.0"))
    with pytest.raises(ModelError, match="not those registered"):
        check_golden(model, scorer, tmp_path, tags)
    (tmp_path / GOLDEN_FILE).unlink()
    with pytest.raises(ModelError, match="absent"):
        check_golden(model, scorer, tmp_path, tags)
