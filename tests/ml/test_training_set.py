"""The point-in-time join: nothing after the landmark, nothing too old, no landmark whose window is open."""

import hashlib
import io
from datetime import date

import pandas as pd
import pytest

from core.lake import write_lake
from core.maintenance import maintain
from core.publication import finish_build, publish, start_build
from core.settings import Settings
from core.store import ModelEvent, store_session
from ml.features.catalog import CATEGORICAL, FEATURE_NAMES
from ml.features.training_set import training_set
from tests.ml.hospital import Drawn, draw, publish_hospital


@pytest.fixture
def drawn() -> Drawn:
    return draw(60, seed=5)


def test_features_are_those_of_the_landmark(settings: Settings, drawn: Drawn) -> None:
    found = training_set(settings, publish_hospital(settings, drawn))
    labelled = drawn.examples[drawn.examples["label"].notna()]
    assert len(found) == len(labelled)
    expected = labelled.merge(drawn.features, left_on=["patient_key", "landmark_date"],
                              right_on=["patient_key", "feature_date"]).sort_values(["landmark_date", "patient_key"])
    assert found["systolic_last_mmhg"].to_numpy() == pytest.approx(expected["systolic_last_mmhg"].to_numpy())
    assert found["label"].tolist() == expected["label"].tolist()
    assert all(found[name].dtype == "float64" for name in FEATURE_NAMES if name not in CATEGORICAL)


def test_later_and_stale_rows_are_never_joined(settings: Settings, drawn: Drawn) -> None:
    features = drawn.features.copy()
    dates = pd.to_datetime(features["feature_date"])
    features["feature_date"] = dates.where(dates != pd.Timestamp(2023, 1, 1), pd.Timestamp(2023, 1, 2)).dt.date
    published = publish_hospital(settings, Drawn(drawn.examples, features, drawn.true_risk, drawn.as_of))
    found = training_set(settings, published)
    assert pd.Timestamp(2023, 1, 1) not in set(found["landmark_date"])
    assert pd.Timestamp(2023, 7, 1) in set(found["landmark_date"])


def test_a_landmark_whose_window_is_open_is_left_out_even_where_its_events_are_labelled(
        settings: Settings, drawn: Drawn) -> None:
    examples = drawn.examples.copy()
    examples.loc[examples["landmark_date"] == date(2025, 7, 1), "label"] = 1
    published = publish_hospital(settings, Drawn(examples, drawn.features, drawn.true_risk, drawn.as_of))
    assert training_set(settings, published)["landmark_date"].max() == pd.Timestamp(2025, 1, 1)


def test_the_same_snapshot_reads_the_same_after_a_later_build(settings: Settings, drawn: Drawn) -> None:
    first = publish_hospital(settings, drawn)
    before = training_set(settings, first)
    publish_hospital(settings, draw(60, seed=6))
    pd.testing.assert_frame_equal(training_set(settings, first), before)


def test_who_stayed_also_stands_for_who_was_not_seen_again(settings: Settings, drawn: Drawn) -> None:
    found = training_set(settings, publish_hospital(settings, drawn))
    for landmark, rows in found.groupby("landmark_date"):
        everybody = drawn.examples[pd.to_datetime(drawn.examples["landmark_date"]) == landmark]
        assert rows["weight"].sum() == pytest.approx(len(everybody))
        assert (rows.loc[rows["label"] == 1, "weight"] == 1).all()


def test_nobody_stands_for_who_had_it_already(settings: Settings, drawn: Drawn) -> None:
    before = training_set(settings, publish_hospital(settings, drawn))
    with write_lake(settings) as lake:
        lake.execute("update clinical.ml.hypertension_examples set outcome = 'prevalent' "
                     "where outcome = 'censored' and landmark_date = '2023-01-01'")
    build = start_build(settings, drawn.as_of)
    finish_build(settings, build.build_id)
    after = training_set(settings, publish(settings, build.build_id, "test"))
    there = after["landmark_date"] == pd.Timestamp(2023, 1, 1)
    assert (before.loc[there & (before["label"] == 0), "weight"] > 1).all()
    assert (after.loc[there, "weight"] == 1).all()
    pd.testing.assert_frame_equal(after[~there], before[~there])


def test_what_a_model_was_trained_on_outlives_the_expiry_of_snapshots(settings: Settings, drawn: Drawn) -> None:
    trained_on = publish_hospital(settings, drawn)
    with store_session(settings) as session:
        session.add(ModelEvent(model_version=1, action="registered", actor="test", why="test",
                               evidence={"build_id": trained_on.build_id}))
    before = parquet_digest(training_set(settings, trained_on))
    forgotten = publish_hospital(settings, draw(60, seed=6))
    publish_hospital(settings, draw(60, seed=7))
    maintain(settings, keep_days=0)
    assert parquet_digest(training_set(settings, trained_on)) == before
    with pytest.raises(Exception, match="snapshot"):
        training_set(settings, forgotten)


def parquet_digest(frame: pd.DataFrame) -> str:
    parquet = io.BytesIO()
    frame.to_parquet(parquet)
    return hashlib.sha256(parquet.getvalue()).hexdigest()
