"""What the demo must have done, seen from outside: in its summary, in Airflow's database, on the disk."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, select

from core.airflow_environment import airflow_home, airflow_password, log_folder
from core.champion import champion_version
from core.feed_tables import InboxEntry
from core.publication import published
from core.serving_tables import ServedPrediction
from core.store import Payload, store_session
from ehr.live.feeds import list_feeds

pytestmark = [pytest.mark.slow, pytest.mark.airflow]


def test_every_dag_of_both_nights_ran_and_succeeded(demo):
    runs = Counter((run["night"], run["dag_id"]) for run in demo.summary["dag_runs"])
    for night in (1, 2):
        for dag_id in ("ingest_ehr_extracts", "build_warehouse", "materialize_features"):
            assert runs[night, dag_id] == 1
        assert runs[night, "score_patients"] >= 1
    assert runs[1, "retrain_model"] == 1
    assert {run["state"] for run in demo.summary["dag_runs"]} == {"success"}


def test_the_messages_of_night_2_came_live_and_landed_before_its_files(demo):
    live = demo.summary["live"]
    assert live["sent"] == live["accepted"] + live["errors"] + live["rejected"] > 10
    assert sum(number for why, number in live["reasons"].items() if why.startswith("AR no_msh")) == 1  # the odd frame
    assert live["messages_per_second"] > 0
    with store_session(demo.house) as session:
        payloads = session.execute(select(Payload.state, Payload.as_of, Payload.source_id, InboxEntry.inbox_sequence).join(
            InboxEntry, InboxEntry.payload_id == Payload.payload_id).where(InboxEntry.feed == "mllp")).all()
        newest_file = session.scalar(select(func.max(InboxEntry.inbox_sequence)).where(InboxEntry.feed == "file"))
    assert {str(as_of) for _, as_of, _, _ in payloads} == {"2026-01-31"}
    assert Counter(state for state, *_ in payloads)["landed"] == live["landed"]
    assert live["landed"] + live["repeated"] == live["accepted"]
    assert {source_id for _, _, source_id, _ in payloads} == {"simulated", "default"}
    assert max(sequence for *_, sequence in payloads) < newest_file
    assert "live over MLLP:" in demo.output
    feeds = {(feed.source_id, feed.feed): feed for feed in list_feeds(demo.house)}
    assert feeds["simulated", "mllp"].waiting == 0
    assert feeds["simulated", "file"].accepted > 10
    assert not list(demo.house.extracts_dir.rglob("night-2/hl7v2/*"))


def test_each_dbt_model_shows_as_a_task_that_followed_dbt(demo):
    with closing(sqlite3.connect(airflow_home(demo.house) / "airflow.db")) as database:
        nodes = database.execute(
            "select task_id, state, count(*) from task_instance where task_id like 'warehouse.%' group by 1, 2").fetchall()
    assert len(nodes) > 15
    assert {(state, runs) for _, state, runs in nodes} == {("success", 2)}


def test_the_summary_tells_what_came_of_it(demo):
    assert demo.summary["ledger_balances"]
    assert {line["unit"] for line in demo.summary["ledger"]} == {"file", "message", "resource"}
    assert demo.summary["published"]["as_of"] == "2026-01-31"
    assert published(demo.house).build_id == demo.summary["published"]["build_id"] == 2
    for mart in ("core.dim_patients", "core.fct_blood_pressure", "ml.patient_features", "ml.hypertension_examples"):
        assert demo.summary["marts"][mart] > 0
    assert all(gate["passed"] for gate in demo.summary["gates"])
    assert {"landed", "marts", "training_set"} <= {gate["suite"] for gate in demo.summary["gates"]}
    decisions = [event["action"] for event in demo.summary["model_events"]]
    assert decisions[0] == "registered"
    assert decisions[1] in ("promoted", "held")
    assert 0 <= demo.summary["model_events"][1]["evidence"]["metrics"]["test_auroc"] <= 1
    assert 0 < demo.summary["peak_memory_mb"] < 4000
    for shown in ("Ledger", "Published marts", "Models, on test rows", "Drift", "decision: version 1"):
        assert shown in demo.output


def test_a_champion_scores_and_is_watched_and_without_one_nobody_is_scored(demo):
    ran = {run["dag_id"] for run in demo.summary["dag_runs"]}
    if champion_version(demo.house) is None:
        assert "monitor_drift" not in ran
        assert demo.summary["drift"] == []
    else:
        assert "monitor_drift" in ran
        assert demo.summary["drift"][0]["as_of"] == "2026-01-01"
        assert demo.summary["drift"][0]["verdict"] in ("fine", "insufficient_data")
        assert demo.summary["drift"][-1]["as_of"] == "2026-01-31"


def test_the_api_answered_about_three_patients_what_the_night_had_scored(demo):
    if champion_version(demo.house) is None:
        assert demo.summary["served"] == {}
        return
    asked = demo.summary["served"]["patients"]
    assert len(asked) == 3
    assert asked[0]["risk"] <= asked[1]["risk"] <= asked[2]["risk"]
    with store_session(demo.house) as session:
        logged = {row.prediction_id: row for row in session.scalars(select(ServedPrediction))}
    assert {each["prediction_id"] for each in asked} == set(logged)
    for each in asked:
        row = logged[each["prediction_id"]]
        assert (row.risk, row.patient_key, row.client, row.source) == (each["risk"], each["patient_key"], "demo", "store")
        assert each["model_version"] == champion_version(demo.house)
        assert f"{100 * each['risk']:.1f} %" in demo.output
    assert "Asked of the running API" in demo.output


def test_nothing_of_the_demo_keeps_running(demo):
    left = []
    for process in psutil.process_iter():
        try:
            of_it = process.environ()
            if str(demo.house.var) in (of_it.get("CUFF_VAR"), str(Path(of_it.get("AIRFLOW_HOME", "/")).parent)):
                left.append(process.name())
        except psutil.Error:
            continue  # another user's process, or one that ended meanwhile
    assert left == []


def test_planted_values_appear_nowhere_outside_what_the_hospital_sent(demo, planted):
    assert len(planted) > 50
    needles = [value.encode() for value in planted]
    searched, found = 0, []
    for path in readable_files(demo.house.var, without=demo.house.extracts_dir):
        searched += 1
        content = path.read_bytes()
        if any(needle in content for needle in needles):
            found.append(str(path.relative_to(demo.house.var)))
    assert searched > 100
    assert found == []


def test_xcom_holds_numbers_and_states_alone(demo):
    with closing(sqlite3.connect(airflow_home(demo.house) / "airflow.db")) as database:
        kept = database.execute("select key, value from xcom").fetchall()
    assert kept
    keys = Counter(key for key, _ in kept)
    assert set(keys) <= {"return_value", "node_states", "skipmixin_key"}
    for key, value in kept:
        if key == "return_value":
            assert str(value) in ("true", "false", "null") or str(value).isdigit()


def test_secrets_of_airflow_are_for_their_owner_alone_and_never_logged(demo):
    home = airflow_home(demo.house)
    for name in ("passwords.json", "secrets.json"):
        assert (home / name).stat().st_mode & 0o777 == 0o600
    password = airflow_password(demo.house).encode()
    assert [path for path in readable_files(log_folder(demo.house)) if password in path.read_bytes()] == []


def readable_files(folder: Path, without: Path | None = None) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("truth-")
            and (without is None or not path.is_relative_to(without))]
