"""The core marts over a hospital of a few people in four nights, each told with its mess; dbt runs for real."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from duckdb import DuckDBPyConnection

from core.lake import read_lake
from core.settings import Settings
from tests.conftest import make_settings
from tests.dbt.landed import LOINC, RXNORM, SNOMED, at, build, coding, fact, land, link, obx, panel, patient

pytestmark = pytest.mark.slow
CORE = ("dim_patients", "fct_encounters", "fct_blood_pressure", "fct_measurements", "fct_conditions", "fct_medications")


def halves(person: str, known: str, systolic: float, diastolic: float, event: str | None) -> list[dict]:
    """One reading as two FHIR Observations outside any panel, with or without the time it was taken."""
    return [
        fact(person, f"{known}|{code}", known) | {
            "event_at": at(event) if event else None, "status": "final", "codings": coding(LOINC, code),
            "value_number": value, "value_unit": "mm[Hg]"}
        for code, value in (("8480-6", systolic), ("8462-4", diastolic))
    ]


def night_one() -> dict:
    return {
        "fhir_patients": [patient("ann"), patient("bob", gender="male"), patient("dora")],
        "hl7v2_patients": [
            patient("mrn-ann", "2020-02-01", gender="F"), patient("eve", gender="F"), patient("eve-2", "2020-03-01")],
        "person_links": [link("ann", "mrn-ann", "identifier", "2020-01-01")],
        "fhir_observations": [
            panel("ann", "2024-01-10 10:00", 150, 95, record="r1"),
            panel("bob", "2024-01-10 10:00", 16.0, 10.0, record="r2", unit="kPa", code="55284-4"),
            panel("bob", "2024-01-11 10:00", 1300, 85, record="r3", unit=None),
            fact("bob", "r4", "2024-01-12") | {
                "event_at": at("2024-01-12 09:00"), "codings": coding("urn:simhosp:local", "BP"), "value_text": "140/90"},
            fact("bob", "r5", "2024-01-12") | {"event_at": at("2024-01-12 09:00"), "codings": coding(LOINC, "29463-7"),
                                               "value_number": 200.0, "value_unit": "[lb_av]"},
            fact("dora", "r6", "2024-01-12") | {"event_at": at("2024-01-12 09:00"), "codings": coding(LOINC, "72166-2"),
                                                "value_codings": coding(SNOMED, "8517006")},
            *halves("dora", "2024-01-12", 131, 83, event="2024-01-12 09:00"),
            *halves("dora", "2024-01-14", 133, 84, event=None),
        ],
        "hl7v2_observations": [
            obx("mrn-ann", "2024-01-10 10:00", "8480-6", 150, group="g1", known="2024-01-10 10:05"),
            obx("mrn-ann", "2024-01-10 10:00", "8462-4", 95, group="g1", known="2024-01-10 10:05"),
            obx("eve", "2024-01-15 08:00", "8480-6", 140, group="g2", encounter="v1"),
            obx("eve", "2024-01-15 08:00", "8462-4", 90, group="g2", encounter="v1"),
            obx("eve-2", "2024-01-16 08:00", "8480-6", 128, group="g3", number=1),
            obx("eve-2", "2024-01-16 08:00", "8462-4", 82, group="g3", number=2),
            obx("eve-2", "2024-01-16 08:00", "2345-7", 5.5, group="g3", number=3, unit="mmol/L"),
        ],
        "hl7v2_encounters": [
            fact("eve", "v1", "2024-01-15") | {
                "encounter_key": "v1", "message_type": "ADT^A01", "class_code": "I", "status": "in-progress",
                "started_at": at("2024-01-15 07:00")},
            fact("dora", "v2", "2024-01-15") | {
                "encounter_key": "v2", "message_type": "ADT^A03", "class_code": "O", "status": "finished",
                "started_at": at("2024-01-15 07:00"), "ended_at": at("2024-01-15 09:00")},
        ],
        "fhir_conditions": [
            fact("ann", "c1", "2024-01-20") | {"codings": coding("http://hl7.org/fhir/sid/icd-10-cm", "I11.9"),
                                               "onset_at": at("2024-01-20"), "clinical_status": "active"}],
        "fhir_medications": [
            fact("ann", "m1", "2024-01-20") | {"medication_key": "drug-1", "event_at": at("2024-01-20"), "status": "active"}],
    }


def night_two() -> dict:
    """Corrections, a retraction, a late drug, a merge, a cancelled discharge, a moved visit."""
    return {
        "fhir_observations": [
            panel("ann", "2024-01-10 10:00", 145, 95, record="r1", known="2024-02-01", status="corrected"),
            panel("bob", "2024-01-10 10:00", 16.0, 10.0, record="r2", known="2024-02-01", unit="kPa",
                  status="entered-in-error", code="55284-4"),
        ],
        "hl7v2_observations": [
            obx("eve-2", "2024-01-16 08:00", "8480-6", 138, group="g3", number=1, known="2024-02-01", status="C")],
        "hl7v2_encounters": [
            fact("dora", "v2", "2024-02-01") | {"encounter_key": "v2", "message_type": "ADT^A13", "status": "in-progress"},
            fact("bob", "v1", "2024-02-01") | {"encounter_key": "v1", "message_type": "ADT^A45", "status": "in-progress"},
        ],
        "person_links": [link("eve-2", "eve", "merge", "2024-02-01")],
        "fhir_medication_codes": [
            fact("", "drug-1", "2024-02-01") | {"medication_key": "drug-1", "codings": coding(RXNORM, "314076")}],
    }


def night_three() -> dict:
    """The merge was wrong; a reading of long ago comes late."""
    return {
        "person_links": [link("eve-2", "eve", "unmerge", "2024-03-01")],
        "fhir_observations": [panel("dora", "2021-06-01 10:00", 118, 76, record="late", known="2024-03-01")],
    }


def contents(settings: Settings) -> dict[str, list[tuple]]:
    with read_lake(settings, ("clinical",)) as lake:
        return {table: sorted(lake.execute(f"from clinical.core.{table}").fetchall(), key=repr) for table in CORE}


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, list[dict]]:
    """The house after three nights, and what the core marts held after each."""
    settings = make_settings(tmp_path_factory.mktemp("nights") / "var")
    seen = []
    for day, rows in ((1, night_one()), (2, night_two()), (3, night_three())):
        land(settings, date(2024, day, 28), rows)
        if day == 3:  # a build that dies after identities were resolved, before the facts were made
            build(settings, select="+int_patients__changed fct_conditions", published=False)
        build(settings)
        seen.append(contents(settings))
    return settings, seen


@pytest.fixture
def lake(nights: tuple[Settings, list[dict]]) -> Iterator[DuckDBPyConnection]:
    with read_lake(nights[0], ("clinical",)) as connection:
        connection.execute("use clinical.core")
        yield connection


def readings(lake: DuckDBPyConnection, patient_key: str) -> list[tuple]:
    return lake.execute(
        "select systolic_mmhg, diastolic_mmhg, is_current, implausible_reason from fct_blood_pressure "
        "where patient_key = $1 order by event_at, known_at", [patient_key]).fetchall()


def test_nights_one_by_one_equal_one_full_refresh(nights: tuple[Settings, list[dict]], tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "var")
    for day, rows in ((1, night_one()), (2, night_two()), (3, night_three())):
        land(settings, date(2024, day, 28), rows)
    build(settings)
    assert contents(settings) == nights[1][-1]
    assert all(nights[1][-1].values()), "an empty mart would make this comparison worthless"


def test_a_reading_told_by_two_routes_is_one_and_its_correction_by_one_of_them_a_version(lake: DuckDBPyConnection) -> None:
    assert readings(lake, "ann") == [(150, 95, False, None), (145, 95, True, None)]


def test_corrected_half_makes_a_version_of_the_pair(lake: DuckDBPyConnection) -> None:
    assert readings(lake, "eve-2") == [(128, 82, False, None), (138, 82, True, None)]


def test_numbers_outside_a_panel_make_a_reading(lake: DuckDBPyConnection) -> None:
    assert readings(lake, "dora") == [(118, 76, True, None), (131, 83, True, None), (133, 84, True, None)]


def test_units_texts_and_retractions(lake: DuckDBPyConnection) -> None:
    assert readings(lake, "bob") == [
        (120, 75, False, None),
        (1300, 85, True, "systolic_out_of_range"),
        (140, 90, True, None),
        (140, 90, True, None),  # eve's reading, moved with her visit by A45
    ]
    assert lake.execute("select value, unit from fct_measurements where measure = 'body_weight'").fetchall() == [(90.718, "kg")]
    assert lake.execute("select value, unit from fct_measurements where measure = 'glucose'").fetchall() == [(99.088, "mg/dL")]
    assert lake.execute("select value_code from fct_measurements where measure = 'smoking_status'").fetchall() == [("former",)]


def test_merged_for_one_night_and_then_apart(nights: tuple[Settings, list[dict]]) -> None:
    def keys(night: int) -> set[str]:
        return {row[0] for row in nights[1][night]["dim_patients"]}

    assert keys(0) == keys(2) == {"ann", "bob", "dora", "eve", "eve-2"}
    assert keys(1) == {"ann", "bob", "dora", "eve"}
    assert {row[1] for row in nights[1][1]["fct_blood_pressure"]} <= keys(1)


def test_visits_end_move_and_reopen(lake: DuckDBPyConnection) -> None:
    rows = lake.execute("select encounter_key, patient_key, encounter_class, status, ended_at from fct_encounters order by 1")
    assert rows.fetchall() == [
        ("v1", "bob", "inpatient", "in-progress", None),
        ("v2", "dora", "ambulatory", "in-progress", None),
    ]


def test_concepts_and_a_drug_named_later(nights: tuple[Settings, list[dict]], lake: DuckDBPyConnection) -> None:
    assert lake.execute("select concept, code from fct_conditions").fetchall() == [("hypertension", "I11.9")]
    assert lake.execute("select concept, code from fct_medications").fetchall() == [("antihypertensive", "314076")]
    assert [row[4] for row in nights[1][0]["fct_medications"]] == ["other"]


def test_only_patients_with_news_are_made_anew(nights: tuple[Settings, list[dict]], lake: DuckDBPyConnection) -> None:
    changed = lake.execute("select patient_key from clinical.intermediate.int_patients__changed").fetchall()
    assert {key for (key,) in changed} == {"dora", "eve", "eve-2", "bob"}  # bob shares a moved visit with eve
