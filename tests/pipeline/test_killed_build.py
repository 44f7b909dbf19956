"""kill -9 in the middle of a build, then a build to the end: the marts are those of an undisturbed one."""

import random
import signal
from pathlib import Path

import pytest

from core.publication import published
from core.settings import Settings
from ehr.ledger import ledger_totals
from tests.pipeline.conftest import ANALYST_SQL, Hospital
from tests.pipeline.house import copy_house, cuff, different_rows, mart_counts, query, start

pytestmark = pytest.mark.slow

KILLED = f"import runpy, sys; runpy.run_path({str(Path(__file__).parent / 'killed_build.py')!r}, run_name='__main__')"
DBT_NODES = 110  # of about 115, tests among them
RANDOM_KILLS = 3


def build_and_die(house: Settings, *moment: str) -> None:
    printed = house.var.parent / "printed.txt"
    process = start(house, KILLED, *moment, printed=printed)
    assert process.wait(timeout=300) == -signal.SIGKILL, printed.read_text()[-3000:]


def assert_readers_notice_nothing(house: Settings, hospital: Hospital) -> None:
    assert query(house, ANALYST_SQL) == hospital.first_answer
    assert mart_counts(house) == hospital.first_counts


def assert_as_undisturbed(house: Settings, hospital: Hospital) -> None:
    assert published(house).as_of == published(hospital.house).as_of
    assert different_rows(house, hospital.house) == {}
    assert all(line.balances for line in ledger_totals(house))


def test_the_comparison_sees_one_changed_row(hospital: Hospital) -> None:
    """Otherwise the tests below would prove nothing: the night before differs from this one."""
    assert {"clinical.core.fct_blood_pressure", "clinical.ml.patient_features"} <= set(
        different_rows(hospital.landed_twice, hospital.house))  # fmt: skip


def test_killed_around_publication(hospital: Hospital, tmp_path: Path) -> None:
    house = copy_house(hospital.landed_twice, tmp_path / "var")
    for moment in ("before core.publication:finish_build", "after core.publication:record_audit"):
        build_and_die(house, *moment.split(" "))
        assert_readers_notice_nothing(house, hospital)
    build_and_die(house, "after", "core.publication:publish")
    assert_as_undisturbed(house, hospital)


def test_killed_again_and_again_while_dbt_works(hospital: Hospital, tmp_path: Path) -> None:
    house, chance = copy_house(hospital.landed_twice, tmp_path / "var"), random.Random(9124)
    for _ in range(RANDOM_KILLS):
        build_and_die(house, "dbt", str(chance.randint(1, DBT_NODES)), f"{chance.uniform(0, 0.2):.3f}")
        assert_readers_notice_nothing(house, hospital)
    cuff(house, "build")
    assert_as_undisturbed(house, hospital)
