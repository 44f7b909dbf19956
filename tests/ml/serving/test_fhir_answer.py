"""The FHIR face of an answer: valid R4, saying what the assessment says and nothing that names a person."""

import json
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.riskassessment import RiskAssessment
from hypothesis import given
from hypothesis import strategies as st

from ml.serving.fhir_answer import FhirAnswerError, bundle, operation_outcome, risk_assessment
from ml.serving.risk import Input
from tests.ml.serving.answers import an_assessment


def test_it_says_what_the_assessment_says():
    said = RiskAssessment.model_validate_json(json.dumps(risk_assessment(an_assessment(), "ab" * 16)))
    assert (said.status, said.occurrenceDateTime) == ("final", an_assessment().served_at)
    assert said.subject.identifier.value == "ab" * 16
    assert said.subject.reference is None
    assert said.identifier[0].value == an_assessment().prediction_id
    assert [coding.code for coding in said.method.coding] == ["hypertension-risk", "f" * 64, "e" * 64]
    assert said.method.coding[0].version == "3"
    assert said.method.text == "hypertension-risk, version 3, from build 8 (snapshot 21)"
    (prediction,) = said.prediction
    outcome = prediction.outcome.coding[0]
    assert (outcome.system, outcome.code) == ("http://snomed.info/sct", "38341003")
    assert float(prediction.probabilityDecimal) == pytest.approx(4.12)  # percent, as R4 has it
    assert prediction.qualitativeRisk.coding[0].code == "moderate"
    assert prediction.whenPeriod.end - prediction.whenPeriod.start == timedelta(days=365)
    assert prediction.rationale == "; ".join(reason.text for reason in an_assessment().reasons)
    note = said.note[0].text
    assert "- bmi_last_kg_m2: 27.4 kg/m2 (stale, 900 days old)" in note
    assert "- hba1c_last_pct: absent" in note
    assert "- has_diabetes: false (present, 12 days old)" in note
    assert len(note.splitlines()) == 1 + len(an_assessment().inputs)


def test_without_a_person_the_subject_is_the_clients_own_reference_or_unnamed():
    own = risk_assessment(replace(an_assessment(), build_id=None, clinical_snapshot=None, reasons=()), None, "row-7")
    assert own["subject"]["identifier"]["value"] == "row-7"
    assert "rationale" not in own["prediction"][0]
    assert own["method"]["text"] == "hypertension-risk, version 3"
    assert "identifier" not in risk_assessment(an_assessment())["subject"]


def test_several_people_are_a_collection_in_their_order():
    people = [(replace(an_assessment(), prediction_id=f"{number:032x}"), None, f"row-{number}") for number in range(3)]
    said = Bundle.model_validate_json(json.dumps(bundle(people)))
    assert said.type == "collection"
    assert [entry.resource.subject.identifier.value for entry in said.entry] == ["row-0", "row-1", "row-2"]
    assert said.entry[2].fullUrl == "urn:uuid:00000000-0000-0000-0000-000000000002"
    assert "entry" not in bundle([])


def test_a_person_who_is_not_assessed_gets_an_outcome_without_a_risk():
    said = operation_outcome("The risk does not apply: hypertension is known.")
    assert said["issue"][0]["severity"] == "information"
    assert "RiskAssessment" not in json.dumps(said)


@pytest.mark.parametrize("wrong", [
    {"risk": 1.5}, {"risk": float("nan")}, {"risk": -0.1}, {"band": "alarming"}, {"prediction_id": ""},
    {"feature_hash": " with a space"}, {"served_at": "2026-02-01T10:30:00"},
])  # fmt: skip
def test_what_is_no_valid_fhir_is_not_sent_and_its_error_holds_no_value(wrong):
    with pytest.raises(FhirAnswerError) as refused:
        risk_assessment(replace(an_assessment(), **wrong), "ab" * 16)
    assert "131 mmHg" not in str(refused.value)
    assert "alarming" not in str(refused.value)
    assert "ab" * 16 not in str(refused.value)


numbers = st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.just("never"))


@given(risk=st.floats(0, 1), band=st.sampled_from(["low", "moderate", "high"]), values=st.lists(numbers, max_size=27))
def test_every_assessment_is_valid_fhir(risk, band, values):
    inputs = tuple(Input(f"feature_{n}", value, "mm[Hg]", "present", 3) for n, value in enumerate(values))
    said = risk_assessment(replace(an_assessment(), risk=risk, band=band, inputs=inputs), "cd" * 16)
    again = RiskAssessment.model_validate_json(json.dumps(said))
    assert float(again.prediction[0].probabilityDecimal) == pytest.approx(100 * risk, abs=1e-6)


def test_validating_costs_little():
    risk_assessment(an_assessment(), "ab" * 16)  # the classes are made on first use
    began = time.process_time()
    for _ in range(200):
        risk_assessment(an_assessment(), "ab" * 16)
    assert (time.process_time() - began) / 200 < 0.005
