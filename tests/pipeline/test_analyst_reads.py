"""An analyst asks the same question all through a build: the old numbers until it is published, then the new ones."""

import json

import pytest

from core.publication import published
from tests.pipeline.conftest import ANALYST_SQL, FIRST_DAY, SECOND_DAY, Hospital
from tests.pipeline.house import cuff, mart_counts, query

pytestmark = pytest.mark.slow


def test_the_first_night_left_every_mart_with_rows(hospital: Hospital) -> None:
    assert set(hospital.first_counts) == set(mart_counts(hospital.house))
    assert all(rows > 0 for rows in hospital.first_counts.values()), hospital.first_counts


def test_every_answer_during_a_build_is_the_old_one(hospital: Hospital) -> None:
    assert len(hospital.read_while_building) > 10
    assert all(answer == hospital.first_answer for answer in hospital.read_while_building)
    assert json.loads(hospital.read_by_command) == [{"n": len(hospital.first_answer)}]


def test_after_publication_the_answer_is_the_new_one(hospital: Hospital) -> None:
    now = query(hospital.house, ANALYST_SQL)
    assert now != hospital.first_answer
    assert published(hospital.house).as_of == SECOND_DAY
    shown = cuff(hospital.house, "sql", f"select count(*) as n from ({ANALYST_SQL})", "--json")
    assert json.loads(shown) == [{"n": len(now)}]


def test_rolled_back_analysts_read_the_build_before_again(hospital: Hospital) -> None:
    house, now = hospital.house, query(hospital.house, ANALYST_SQL)
    newest = published(house).build_id
    try:
        said = cuff(house, "rollback", "--build-id", str(newest - 1), "--why", "the second night looks wrong")
        assert f"build {newest - 1} is published again" in said
        assert published(house).as_of == FIRST_DAY
        assert query(house, ANALYST_SQL) == hospital.first_answer
        assert mart_counts(house) == hospital.first_counts
    finally:
        cuff(house, "rollback", "--build-id", str(newest), "--why", "it was right after all")
    assert query(house, ANALYST_SQL) == now
