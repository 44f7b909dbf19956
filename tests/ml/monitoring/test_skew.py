"""What the API served against what was published: one bit is found, once, and told without a value."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from core.dbt import run_dbt
from core.keys import key_bytes
from core.lake import read_lake
from core.maintenance import maintain
from core.serving_tables import ServedPrediction, SkewCheck
from core.settings import Settings
from core.store import Alert, Build, store_session
from ml.features import materialize
from ml.features.catalog import FEATURE_NAMES
from ml.features.online import OnlineFeatures, OnlineRow
from ml.monitoring import check_skew, skew
from ml.serving.risk import Assessment, Person, prediction_row
from tests.ml.hospital import Drawn, draw, publish_hospital

pytestmark = pytest.mark.slow
NOW = datetime.now(UTC) - timedelta(hours=1)
PATIENTS = 12


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw(PATIENTS, seed=5, years=3)


@pytest.fixture
def served_rows(settings: Settings, drawn: Drawn) -> list[OnlineRow]:
    """A night, as the store serves it."""
    publish_hospital(settings, drawn)
    materialize(settings)
    return rows_of(settings)


def rows_of(settings: Settings) -> list[OnlineRow]:
    online = OnlineFeatures(settings)
    return [row for row in online.read(sorted(online.sample(100))) if row is not None]


def log(settings: Settings, persons: list[Person], served_at: datetime = NOW) -> None:
    """As the API keeps what it answered."""
    with store_session(settings) as session:
        start = len(session.scalars(select(ServedPrediction.prediction_number)).all())
    key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    for number, person in enumerate(persons, start):
        said = Assessment(f"{number:032x}", 0.1, "low", (), (), 1, person.build_id, person.clinical_snapshot, "", "", served_at)
        with store_session(settings) as session:
            session.add(ServedPrediction(**prediction_row(key, "clinic", person, said)))


def rates(settings: Settings) -> dict[tuple[int, str], tuple[int, int, float, bool]]:
    with read_lake(settings, ("clinical",)) as lake:
        return {row[:2]: row[2:] for row in lake.execute(
            "select skew_check_id, feature, compared, mismatched, mismatch_rate, is_breached "
            "from clinical.monitoring.feature_skew").fetchall()}


def alerts(settings: Settings) -> list[Alert]:
    with store_session(settings) as session:
        return list(session.scalars(select(Alert).order_by(Alert.alert_id)))


def test_what_was_served_as_published_is_compared_once(settings: Settings, served_rows: list[OnlineRow], drawn: Drawn) -> None:
    log(settings, [Person.of_row(row) for row in served_rows])
    later = drawn.features.copy()
    later.loc[later["feature_date"] == drawn.as_of, "heart_rate_last_bpm"] = 71.5
    publish_hospital(settings, replace(drawn, features=later))
    materialize(settings)
    log(settings, [Person.of_row(row) for row in rows_of(settings)])  # of another snapshot
    log(settings, [Person({"age_years": 50.0}, "given"), Person({"age_years": 50.0}, "cds")])
    outcome = check_skew(settings)
    assert (outcome.compared, outcome.mismatched, outcome.unreadable) == (2 * PATIENTS, 0, 0)
    assert rates(settings) == {(1, name): (2 * PATIENTS, 0, 0.0, False) for name in FEATURE_NAMES}
    assert alerts(settings) == []
    assert check_skew(settings).compared == 0
    log(settings, [Person.of_row(served_rows[0])], datetime.now(UTC))
    assert check_skew(settings).compared == 0  # lower numbers may still be on their way
    assert check_skew(settings, timedelta(0)).compared == 1


def test_one_bit_one_day_and_one_row_never_published_are_found(settings: Settings, served_rows: list[OnlineRow]) -> None:
    good = [Person.of_row(row) for row in served_rows]
    bit = replace(good[0], values={**good[0].values, "age_years": math.nextafter(float(good[0].values["age_years"] or 0), 999)})
    day = replace(good[1], observed_on={**good[1].observed_on, "systolic_last_mmhg": NOW.date()})
    kind = replace(good[2], values={**good[2].values, "has_diabetes": None, "drug_count_12m": True})
    log(settings, [*good[3:], bit, day, kind, replace(good[3], patient_key="f" * 32)])
    outcome = check_skew(settings)
    assert (outcome.compared, outcome.mismatched, outcome.unreadable) == (PATIENTS + 1, 4, 0)
    assert outcome.by_feature["age_years"] == outcome.by_feature["systolic_last_mmhg"] == 2
    assert outcome.by_feature["has_diabetes"] == outcome.by_feature["drug_count_12m"] == 2
    assert outcome.by_feature["hdl_last_mg_dl"] == 1
    assert rates(settings)[1, "age_years"] == (PATIENTS + 1, 2, 2 / (PATIENTS + 1), True)
    (told,) = alerts(settings)
    assert (told.severity, told.kind) == ("critical", "feature_skew")
    assert told.detail["features"]["age_years"] == 2
    assert "f" * 32 not in str(told.detail)
    assert str(good[0].values["age_years"]) not in str(told.detail)


def test_what_cannot_be_compared_is_counted_and_told(settings: Settings, served_rows: list[OnlineRow]) -> None:
    good = [Person.of_row(row) for row in served_rows[:4]]
    log(settings, [*good, replace(good[0], clinical_snapshot=9999)])
    with store_session(settings) as session:
        first = session.scalars(select(ServedPrediction).order_by(ServedPrediction.prediction_number)).first()
        assert first is not None
        first.features_sealed = first.features_sealed[:-1] + bytes([first.features_sealed[-1] ^ 1])
    outcome = check_skew(settings)
    assert (outcome.compared, outcome.mismatched, outcome.unreadable) == (3, 0, 2)
    assert [each.kind for each in alerts(settings)] == ["feature_skew_unknown"]


def test_a_check_that_died_before_its_row_is_made_again(settings: Settings, served_rows: list[OnlineRow],
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(Person.of_row(served_rows[0]), observed_on={})
    log(settings, [wrong])
    with monkeypatch.context() as patch:
        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(skew, "raise_alert", dies)
        with pytest.raises(KeyboardInterrupt):
            check_skew(settings)
    assert len(rates(settings)) == len(FEATURE_NAMES)
    assert check_skew(settings).mismatched == 1
    assert len(rates(settings)) == len(FEATURE_NAMES)
    with store_session(settings) as session:
        (kept,) = session.scalars(select(SkewCheck))
    assert (kept.compared, kept.mismatched, kept.through_prediction_number) == (1, 1, 1)


def test_a_snapshot_waits_for_its_comparison(settings: Settings, served_rows: list[OnlineRow], drawn: Drawn) -> None:
    log(settings, [Person.of_row(served_rows[0])])
    publish_hospital(settings, drawn)
    maintain(settings, keep_days=0)
    assert (check_skew(settings).compared, len(alerts(settings))) == (1, 0)
    publish_hospital(settings, drawn)
    maintain(settings, keep_days=0)
    log(settings, [Person.of_row(served_rows[0])])
    assert check_skew(settings).unreadable == 1


def test_the_ops_mart_shows_the_rates(settings: Settings, served_rows: list[OnlineRow], drawn: Drawn) -> None:
    log(settings, [Person.of_row(row) for row in served_rows])
    check_skew(settings)
    build = Build(build_id=1, as_of=drawn.as_of, since_batch_id=0, through_batch_id=1)
    run_dbt(settings, "build", build, "--select", "feature_skew", "--quiet")
    with read_lake(settings, ("analytics",)) as lake:
        assert lake.execute("select count(*), sum(compared), sum(mismatched) from analytics.ops.feature_skew").fetchone() == (
            len(FEATURE_NAMES), len(FEATURE_NAMES) * PATIENTS, 0)
