"""dbt's features against plain Python, and the join by time against Feast's: the same rows, to the last bit.

`CUFF_TEST_ORACLE_ROWS` makes the comparison as large as one likes; `python -m bench features` makes it over 100,000 rows.
"""

import math
import os
from datetime import timedelta
from fractions import Fraction

import pytest

from bench.feature_oracle import answer, differences, is_same, read_patients
from bench.features import run
from bench.oracle_lake import AS_OF, build_made_up, compare
from core.lake import read_lake
from core.settings import Settings
from ml.features.catalog import FEATURE_NAMES
from tests.conftest import make_settings

pytestmark = pytest.mark.slow
ROWS = int(os.environ.get("CUFF_TEST_ORACLE_ROWS", "3000"))


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = make_settings(tmp_path_factory.mktemp("oracle") / "var")
    build_made_up(settings, ROWS)
    return settings


def test_no_feature_differs_and_nothing_leaks_from_the_future(made_up: Settings) -> None:
    found = compare(made_up, ROWS)
    assert found.rows == ROWS
    assert (found.different, found.leaks, found.columns) == (0, 0, {})
    # Each kind of leak would have been seen in some of the rows that were tried with it.
    assert min(found.would_differ.values()) > found.rows / 20 * 0.05


def test_every_feature_takes_part(made_up: Settings) -> None:
    with read_lake(made_up, ("clinical",)) as lake:
        patients = read_patients(lake)
        answers = [answer(patient, AS_OF) for patient in patients.values()]
    for name in FEATURE_NAMES:
        assert len({str(each[name]) for each in answers}) > 1, name


def test_one_bit_is_noticed(made_up: Settings) -> None:
    with read_lake(made_up, ("clinical",)) as lake:
        patients = read_patients(lake)
        row = lake.execute("select * from clinical.ml.patient_features where systolic_last_mmhg is not null "
                           "order by patient_key, feature_date limit 1").to_arrow_table().to_pylist()[0]
    expected = answer(patients[row["patient_key"]], row["feature_date"])
    assert differences(row, expected) == []
    row["systolic_last_mmhg"] = math.nextafter(row["systolic_last_mmhg"], 999)
    assert differences(row, expected) == ["systolic_last_mmhg"]


def test_rounding_is_all_that_a_fraction_forgives() -> None:
    third = Fraction(1, 3)
    assert is_same(0.333333, third)
    assert not is_same(0.333334, third)
    assert not is_same(None, third)
    assert is_same(1.414214, ("root", Fraction(2)))
    assert not is_same(1.414213, ("root", Fraction(2)))
    assert not is_same(0.0, None)
    assert not is_same(1, 1.0)


def test_the_join_by_time_gives_what_feast_gives() -> None:
    join, oracle = run(20_000, 4_000, 300)
    assert "equal to the last bit" in join.note
    assert join.ratio > 1
    assert (oracle.ours, oracle.peer) == (0, 300)


def test_a_day_later_is_another_day(made_up: Settings) -> None:
    """The oracle itself moves with time: a fact of tomorrow counts from tomorrow on."""
    with read_lake(made_up, ("clinical",)) as lake:
        patients = read_patients(lake)
    moved = sum(answer(patient, AS_OF - timedelta(1)) != answer(patient, AS_OF - timedelta(400))
                for patient in patients.values())
    assert moved > len(patients) / 2
