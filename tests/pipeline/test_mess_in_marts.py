"""What the synthetic hospital does to its extracts, and what of it stands in the marts."""

import pytest

from tests.pipeline.conftest import Hospital
from tests.pipeline.house import query

pytestmark = pytest.mark.slow


def test_pressures_typed_the_wrong_way_round_are_kept_and_flagged(hospital: Hospital) -> None:
    swapped = query(hospital.house, """
        select is_plausible, systolic_mmhg < diastolic_mmhg, count(*) from clinical.core.fct_blood_pressure
        where implausible_reason = 'systolic_not_above_diastolic' group by all""")  # fmt: skip
    assert [row[:2] for row in swapped] == [(False, True)]
    assert swapped[0][2] > 0


def test_filtration_rates_become_a_feature_of_most_whose_creatinine_is_known(hospital: Hospital) -> None:
    known = query(hospital.house, """
        select count(egfr_last_ml_min) / count(creatinine_last_mg_dl), avg(egfr_last_ml_min)
        from clinical.ml.patient_features where feature_date >= date '2025-01-01'""")  # fmt: skip
    assert known[0][0] > 0.7
    assert 60 < known[0][1] < 110


def test_drugs_inside_beside_and_in_place_are_all_understood(hospital: Hospital) -> None:
    lost = query(hospital.house, """
        select told.locator from clinical.raw.fhir_medications as told
        semi join clinical.raw.fhir_patients as known
            on told.person_key = known.person_key and known.source_id = 'simulated'
        anti join (
            from clinical.core.fct_medications inner join clinical.intermediate.int_persons__resolved using (patient_key)
        ) as drug on told.person_key = drug.person_key and told.event_at = drug.event_at and drug.concept <> 'other'
        where told.status = 'active'""")  # fmt: skip
    assert lost == []
    referenced = "select count(*) from clinical.raw.fhir_medications where medication_key is not null and status = 'active'"
    assert query(hospital.house, referenced)[0][0] > 5


def test_every_stay_that_was_discharged_has_an_end(hospital: Hospital) -> None:
    stays = query(hospital.house, """
        select count(*), count(ended_at) from clinical.core.fct_encounters
        where encounter_class in ('inpatient', 'emergency') and status = 'finished'""")  # fmt: skip
    assert stays[0][0] == stays[0][1] > 10
