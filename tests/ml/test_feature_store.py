"""The feature store: what is served online is what the published snapshot says, and nobody stays behind."""

import stat
from datetime import UTC, datetime

import pandas as pd
import pytest

from core.settings import Settings
from ml.features import materialize
from ml.features.catalog import CATEGORICAL, FEATURE_NAMES
from ml.features.definitions import (
    DESCRIBING,
    FEATURE_SERVICE,
    FEATURE_VIEW,
    OWNER,
    STAMP,
    TIME_TO_LIVE,
    export_path,
    features_dir,
    open_feature_store,
)
from tests.ml.hospital import Drawn, draw, publish_hospital

pytestmark = pytest.mark.slow


@pytest.fixture
def drawn() -> Drawn:
    return draw(30, seed=5)


def online(settings: Settings, keys: list[str]) -> pd.DataFrame:
    store = open_feature_store(settings)
    return store.get_online_features(store.get_feature_service(FEATURE_SERVICE),
                                     [{"patient_key": key} for key in keys]).to_df()


def test_online_equals_the_newest_published_row(settings: Settings, drawn: Drawn) -> None:
    publish_hospital(settings, drawn)
    outcome = materialize(settings)
    assert (outcome.rows, outcome.patients, outcome.as_of) == (len(drawn.features), 30, drawn.as_of)
    newest = drawn.features[drawn.features["feature_date"] == drawn.as_of].reset_index(drop=True)
    served = online(settings, newest["patient_key"].tolist())
    for name in FEATURE_NAMES:
        if name in CATEGORICAL:
            assert served[name].where(served[name].notna(), None).tolist() == newest[name].tolist()
        else:
            assert served[name].astype(float).tolist() == pytest.approx(newest[name].astype(float).tolist(), nan_ok=True)


def test_offline_join_of_feast_agrees_with_ours(settings: Settings, drawn: Drawn) -> None:
    publish_hospital(settings, drawn)
    materialize(settings)
    store = open_feature_store(settings)
    key = drawn.features["patient_key"][0]
    asked = pd.DataFrame({"patient_key": [key], "event_timestamp": [datetime(2024, 2, 10, tzinfo=UTC)]})
    found = store.get_historical_features(asked, [f"{FEATURE_VIEW}:systolic_last_mmhg"]).to_df()
    rows = drawn.features[drawn.features["patient_key"] == key]
    at_landmark = rows[pd.to_datetime(rows["feature_date"]) == "2024-01-01"]
    assert found["systolic_last_mmhg"].tolist() == pytest.approx(at_landmark["systolic_last_mmhg"].tolist())


def test_a_later_build_replaces_everything_and_the_erased_are_gone(settings: Settings, drawn: Drawn) -> None:
    publish_hospital(settings, drawn)
    materialize(settings)
    gone, stays = drawn.features["patient_key"].unique()[:2]
    kept = drawn.features[drawn.features["patient_key"] != gone]
    publish_hospital(settings, Drawn(drawn.examples, kept, drawn.true_risk, drawn.as_of))
    assert materialize(settings).patients == 29
    served = online(settings, [gone, stays])
    assert served["age_years"].isna().tolist() == [True, False]
    assert gone.encode() not in export_path(settings).read_bytes()
    assert gone.encode() not in (features_dir(settings) / "online.db").read_bytes()
    assert not list(features_dir(settings).glob("*.new*"))


def test_files_are_for_the_owner_alone_and_definitions_say_who_and_what(settings: Settings, drawn: Drawn) -> None:
    publish_hospital(settings, drawn)
    materialize(settings)
    for name in ("patient_features.parquet", "online.db"):
        assert stat.S_IMODE((features_dir(settings) / name).stat().st_mode) == 0o600
    view = open_feature_store(settings).get_feature_view(FEATURE_VIEW)
    assert view.owner == OWNER
    assert view.ttl == TIME_TO_LIVE
    assert tuple(field.name for field in view.features) == (*FEATURE_NAMES, *DESCRIBING, *STAMP)
    service = open_feature_store(settings).get_feature_service(FEATURE_SERVICE)
    assert tuple(field.name for field in service.feature_view_projections[0].features) == FEATURE_NAMES
    assert all(field.description for field in view.features)
