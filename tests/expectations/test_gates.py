"""The gates on a real lake, through Great Expectations: outcome, record, pages, and what a failure leaves alone."""

from datetime import date

import pytest

from core.errors import GateError
from core.lake import read_lake, write_lake
from core.publication import finish_build, publish, published, start_build
from core.settings import Settings
from core.store import Batch, Build, GateResult, store_session, utc_now
from expectations.gates import GateOutcome, require, run_gate
from tests.expectations.good_data import AS_OF, fill_marts, fill_raw

CANARY = "Quillfeather"
pytestmark = pytest.mark.slow


@pytest.fixture
def built(settings: Settings) -> Build:
    """A build of good marts over one landed batch, not published yet."""
    with write_lake(settings, ("clinical", "analytics")) as lake:
        fill_raw(lake)
        fill_marts(lake, patients=400)
    with store_session(settings) as session:
        session.add(Batch(as_of=AS_OF, finished_at=utc_now()))
    return finish_build(settings, start_build(settings).build_id)


def _readings(settings: Settings) -> int:
    with read_lake(settings, ("clinical",), published(settings).snapshots) as lake:
        row = lake.execute("select count(*) from clinical.core.fct_blood_pressure").fetchone()
        return int(row[0]) if row else 0


def test_a_failing_marts_gate_leaves_the_published_snapshot_readable(settings: Settings, built: Build) -> None:
    assert require(run_gate(settings, "marts", built.build_id)).passed
    publish(settings, built.build_id, "test")
    before = _readings(settings)

    with write_lake(settings) as lake:
        lake.execute("delete from clinical.core.fct_blood_pressure where hash(blood_pressure_key) % 2 = 0")
    second = finish_build(settings, start_build(settings).build_id)
    outcome = run_gate(settings, "marts", second.build_id)

    assert not outcome.passed
    assert [finding["expectation"] for finding in outcome.findings] == ["fct_blood_pressure_has_not_shrunk"]
    with pytest.raises(GateError, match="fct_blood_pressure_has_not_shrunk"):
        require(outcome)
    assert published(settings).build_id == built.build_id
    assert _readings(settings) == before


def test_the_marts_gate_reads_the_snapshot_of_its_build(settings: Settings, built: Build) -> None:
    with write_lake(settings) as lake:
        lake.execute("delete from clinical.core.dim_patients")
    assert run_gate(settings, "marts", built.build_id).passed


def test_findings_records_and_pages_hold_counts_and_no_value(settings: Settings) -> None:
    with write_lake(settings) as lake:
        fill_raw(lake)
        lake.execute("update clinical.raw.fhir_observations set person_key = $1, value_text = $2 where locator = 'entry[1]'",
                     [CANARY, f"{CANARY}@example.org"])
    outcome = run_gate(settings, "landed")

    assert not outcome.passed
    assert {finding["expectation"]: finding["violations"] for finding in outcome.findings} == {
        "fhir_observations_keys_are_pseudonyms": 4, "fhir_observations_names_nobody": 1}
    pages = list((settings.reports_dir / "gx").rglob("*.html"))
    assert settings.reports_dir / "gx" / "index.html" in pages
    assert len([page for page in pages if "validations" in page.parts]) == 1
    assert not [page for page in pages if CANARY in page.read_text()]
    with store_session(settings) as session:
        kept = session.query(GateResult).one()
        assert (kept.suite, kept.passed, kept.evaluated, kept.failed) == ("landed", False, outcome.evaluated, 2)
        assert CANARY not in str(kept.findings)


def test_a_warning_does_not_close_the_gate(settings: Settings) -> None:
    with write_lake(settings) as lake:
        fill_raw(lake)
        lake.execute("update clinical.raw.fhir_observations set known_at = landed_at + interval 3 days")
    outcome = run_gate(settings, "landed")
    assert outcome.passed
    assert outcome.warned == 1


def test_training_set_from_the_lake_and_from_a_frame(settings: Settings, built: Build) -> None:
    publish(settings, built.build_id, "test")
    assert run_gate(settings, "training_set").passed
    with read_lake(settings, ("clinical",)) as lake:
        frame = lake.execute("""
            select landmark_date, null::integer as label, features.* from clinical.ml.hypertension_examples as examples
            inner join clinical.ml.patient_features as features
                on examples.patient_key = features.patient_key and landmark_date = feature_date""").df()
    outcome = run_gate(settings, "training_set", frame=frame)
    assert "labels_are_zero_or_one" in {finding["expectation"] for finding in outcome.findings}


def test_prediction_log_from_the_lake_and_from_a_frame(settings: Settings, built: Build) -> None:
    publish(settings, built.build_id, "test")
    with write_lake(settings) as lake:  # scored after the publication, as it is every night
        lake.execute("insert into clinical.scores.predictions select * replace (2 as scoring_run_id) "
                     "from clinical.scores.predictions")
    assert run_gate(settings, "prediction_log").passed
    with read_lake(settings, ("clinical",)) as lake:
        frame = lake.execute("select * from clinical.scores.predictions where scoring_run_id = 1 limit 5").df()
    outcome = run_gate(settings, "prediction_log", frame=frame)
    assert "everybody_eligible_is_scored" in {finding["expectation"] for finding in outcome.findings}


def test_a_check_that_cannot_be_evaluated_closes_the_gate(settings: Settings, built: Build) -> None:
    with write_lake(settings) as lake:
        lake.execute("drop table clinical.ml.hypertension_examples")
    broken = finish_build(settings, start_build(settings).build_id)
    outcome = run_gate(settings, "marts", broken.build_id)
    assert not outcome.passed
    assert None in {finding["violations"] for finding in outcome.findings}


@pytest.mark.parametrize(("suite", "says"), [("landed", "no extract has landed"), ("weather", "there is no suite")])
def test_nothing_to_check_is_a_clear_error(settings: Settings, suite: str, says: str) -> None:
    with write_lake(settings), pytest.raises(GateError, match=says):
        run_gate(settings, suite)


def test_a_build_without_a_snapshot_cannot_be_checked(settings: Settings) -> None:
    with store_session(settings) as session:
        session.add(Batch(as_of=date(2024, 1, 1), finished_at=utc_now()))
    with pytest.raises(GateError, match="wrote no snapshot yet"):
        run_gate(settings, "marts", start_build(settings).build_id)


def test_scoring_that_never_ran_is_a_clear_error(settings: Settings, built: Build) -> None:
    with write_lake(settings) as lake:
        lake.execute("drop table clinical.scores.predictions")
    publish(settings, built.build_id, "test")
    with pytest.raises(GateError, match="nobody has been scored yet"):
        run_gate(settings, "prediction_log")


def test_require_lets_a_good_outcome_through() -> None:
    outcome = GateOutcome("marts", 1, True, 3, 0, 0)
    assert require(outcome) is outcome
