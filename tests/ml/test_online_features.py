"""What the API reads is what was published, to the last bit, on both online stores and through every kind of night."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from core.errors import ConfigurationError, FeatureStoreError
from core.publication import roll_back
from core.settings import PROJECT_ROOT, Settings
from ml.features import materialize
from ml.features.catalog import FEATURE_NAMES
from ml.features.definitions import FEATURE_SERVICE, TIME_TO_LIVE, open_feature_store
from ml.features.online import OnlineFeatures
from tests.ml.hospital import Drawn, draw, publish_hospital
from tests.ml.same_rows import Snapshots, bits
from tests.postgres.server import wait_until

pytestmark = pytest.mark.slow
PATIENTS = 40


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw(PATIENTS, seed=5)


def night(drawn: Drawn, as_of: date) -> Drawn:
    """The hospital as it was published on an earlier day."""
    return replace(drawn, features=drawn.features[drawn.features["feature_date"] <= as_of], as_of=as_of,
                   examples=drawn.examples[drawn.examples["landmark_date"] <= as_of])


def changed(drawn: Drawn, key: str, **values: object) -> Drawn:
    """The same night after late data came for one patient."""
    features = drawn.features.copy()
    of_the_night = (features["patient_key"] == key) & (features["feature_date"] == drawn.as_of)
    features.loc[of_the_night, list(values)] = list(values.values())
    return replace(drawn, features=features)


def keys_of(drawn: Drawn) -> list[str]:
    return sorted(drawn.features["patient_key"].unique())


def test_every_patient_of_every_night_is_served_as_published_and_as_feast_says(online_settings: Settings, drawn: Drawn) -> None:
    online, snapshots = OnlineFeatures(online_settings), Snapshots(online_settings)
    store = open_feature_store(online_settings)
    for as_of in (date(2024, 7, 1), date(2025, 7, 1), drawn.as_of):
        publish_hospital(online_settings, night(drawn, as_of))
        outcome = materialize(online_settings)
        assert (outcome.written, outcome.unchanged, outcome.removed) == (PATIENTS, 0, 0)
        keys = keys_of(drawn)
        served = online.read(keys)
        store.refresh_registry()
        service = store.get_feature_service(FEATURE_SERVICE)
        asked = pd.DataFrame({"patient_key": keys, "event_timestamp": datetime(as_of.year, as_of.month, as_of.day, tzinfo=UTC)})
        offline = store.get_historical_features(asked, service).to_df().set_index("patient_key")
        feast_online = open_feature_store(online_settings).get_online_features(
            service, [{"patient_key": key} for key in keys]).to_dict()
        for place, row in enumerate(served):
            assert row is not None
            assert row.feature_date == as_of
            snapshots.assert_same(row)
            then = offline.loc[row.patient_key]
            plain = {name: None if pd.isna(then[name]) else then[name] for name in FEATURE_NAMES}
            plain = {name: bool(value) if name.startswith("has_") else value for name, value in plain.items()}
            assert bits(row.values) == bits(plain)
            assert bits(row.values) == bits({name: feast_online[name][place] for name in FEATURE_NAMES})


def test_only_what_changed_is_written_and_late_data_is_served(online_settings: Settings, drawn: Drawn) -> None:
    first = publish_hospital(online_settings, drawn)
    materialize(online_settings)
    online, snapshots, keys = OnlineFeatures(online_settings), Snapshots(online_settings), keys_of(drawn)
    second = publish_hospital(online_settings, changed(drawn, keys[3], systolic_last_mmhg=161.25, smoking_status=None))
    outcome = materialize(online_settings)
    assert (outcome.written, outcome.unchanged, outcome.removed) == (1, PATIENTS - 1, 0)
    assert second.clinical_snapshot > first.clinical_snapshot
    for row in online.read(keys):
        assert row is not None
        assert row.clinical_snapshot == second.clinical_snapshot  # of all rows: they were compared with it
        assert row.build_id == second.build_id
        snapshots.assert_same(row)
    late = online.read([keys[3]])[0]
    assert late is not None
    assert (late.values["systolic_last_mmhg"], late.values["smoking_status"]) == (161.25, None)
    assert late.observed_on["smoking_status"] is None
    again = materialize(online_settings)
    assert (again.written, again.unchanged, again.removed) == (0, PATIENTS, 0)
    roll_back(online_settings, first.build_id, "test", "a bad delivery")
    assert materialize(online_settings).written == 1
    restored = online.read([keys[3]])[0]
    assert restored is not None
    assert restored.clinical_snapshot == first.clinical_snapshot
    snapshots.assert_same(restored)


def test_who_vanished_is_served_no_more_and_the_merged_are_found(online_settings: Settings, drawn: Drawn) -> None:
    keys = keys_of(drawn)
    gone, stays, person = keys[0], keys[1], "f" * 32
    publish_hospital(online_settings, replace(drawn, persons={person: gone}))
    materialize(online_settings)
    online = OnlineFeatures(online_settings)
    assert [online.patient_of(key) for key in (gone, stays, person, "0" * 31 + "x")] == [gone, stays, gone, None]
    kept = drawn.features[drawn.features["patient_key"] != gone]
    publish_hospital(online_settings, replace(drawn, features=kept, persons={gone: stays}))
    outcome = materialize(online_settings)
    assert (outcome.removed, outcome.patients) == (1, PATIENTS - 1)
    assert online.read([gone, stays])[0] is None
    assert [online.patient_of(key) for key in (gone, stays, person)] == [stays, stays, None]
    assert sorted(online.sample(1000)) == keys[1:]
    assert len(online.sample(3)) == 3


def test_beyond_the_time_to_live_nobody_is_served(online_settings: Settings, drawn: Drawn) -> None:
    publish_hospital(online_settings, drawn)
    materialize(online_settings)
    key = keys_of(drawn)[0]
    for days, is_served in ((TIME_TO_LIVE.days - 1, True), (TIME_TO_LIVE.days, False)):
        online = OnlineFeatures(online_settings, today=lambda days=days: drawn.as_of + timedelta(days))
        assert (online.read([key])[0] is not None) is is_served
    # A simulated hospital lives in its own time; a real one in ours.
    assert OnlineFeatures(online_settings).today() == drawn.as_of
    online_settings.environment = "production"
    assert OnlineFeatures(online_settings).today() == datetime.now(UTC).date()


def test_without_a_store_it_says_so(online_settings: Settings, drawn: Drawn) -> None:
    online = OnlineFeatures(online_settings)
    assert not online.is_reachable()
    with pytest.raises(FeatureStoreError, match="cuff features"):
        online.read(["0" * 32])
    publish_hospital(online_settings, drawn)
    materialize(online_settings)
    assert online.is_reachable()
    assert online.read([]) == []
    online_settings.online_store = "redis://127.0.0.1:1"
    assert not OnlineFeatures(online_settings).is_reachable()
    online_settings.online_store = "localhost:6379"
    with pytest.raises(ConfigurationError, match="redis://host:port"):
        OnlineFeatures(online_settings)


_SLOWLY = """
import sys, time
from pathlib import Path
from ml.features import materialization
from ml.features.online_writing import open_for_writing
from tests.conftest import make_settings
settings = make_settings(Path(sys.argv[1]), online_store=sys.argv[2])
materialization._ROWS_AT_A_TIME = 2
open(sys.argv[3], "w").close()
materialization.materialize(settings)
"""


def test_killed_halfway_readers_see_whole_rows_and_the_next_run_mends_it(online_settings: Settings, drawn: Drawn) -> None:
    first = publish_hospital(online_settings, night(drawn, date(2025, 7, 1)))
    materialize(online_settings)
    publish_hospital(online_settings, drawn)
    online, snapshots, keys = OnlineFeatures(online_settings), Snapshots(online_settings), keys_of(drawn)
    started = online_settings.var / "started"
    run = subprocess.Popen(
        [sys.executable, "-c", _SLOWLY, str(online_settings.var), online_settings.online_store, str(started)],
        cwd=PROJECT_ROOT, env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)})
    try:
        wait_until(started.exists, 60, "the run")
        beside = online_settings.var / "features" / "online.db.new"

        def is_under_way() -> bool:
            if online_settings.online_store:
                return len({row.feature_date for row in online.read(keys) if row}) == 2
            return beside.exists() and b"2026-01-01" in beside.read_bytes()

        deadline = time.monotonic() + 60
        while not is_under_way():
            assert time.monotonic() < deadline
            assert run.poll() is None
        run.send_signal(signal.SIGKILL)
    finally:
        run.kill()
        run.wait(20)
    half = [row for row in online.read(keys) if row is not None]
    assert len(half) == PATIENTS
    for row in half:
        snapshots.assert_same(row)
    assert first.clinical_snapshot in {row.clinical_snapshot for row in half}
    last = publish_hospital(online_settings, changed(drawn, keys[0], heart_rate_last_bpm=61.5))
    outcome = materialize(online_settings)
    assert outcome.written + outcome.unchanged == PATIENTS
    assert (outcome.unchanged > 0) == bool(online_settings.online_store)  # a file that was not finished is thrown away
    for row in online.read(keys):
        assert row is not None
        assert row.clinical_snapshot == last.clinical_snapshot
        snapshots.assert_same(row)


def test_readers_in_threads_never_see_parts_of_two_nights(online_settings: Settings, drawn: Drawn) -> None:
    nights = [changed(drawn, key, heart_rate_last_bpm=60.0 + place, systolic_last_mmhg=120.0 + place)
              for place, key in enumerate(keys_of(drawn)[:4])]
    publish_hospital(online_settings, drawn)
    materialize(online_settings)
    online, keys, stop = OnlineFeatures(online_settings), keys_of(drawn), threading.Event()
    seen: list[list] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(online.read(keys))
            time.sleep(0.05)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for each in nights:
            publish_hospital(online_settings, each)
            materialize(online_settings)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    snapshots = Snapshots(online_settings)
    assert len({rows[0].clinical_snapshot for rows in seen}) >= 4
    for rows in seen:
        for row in rows:
            snapshots.assert_same(row)
