"""What the door sees of a FHIR body: the reader's own faults, and whose it is."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.fhir.exact import walk
from ehr.live.check import Checker
from ehr.live.resource_check import judge_resource
from ehr.sources import Source
from tests.ehr.live.faulty_resources import FAULTY


def patient(number: str) -> bytes:
    return json.dumps({"resourceType": "Patient", "id": number}).encode()


@pytest.mark.parametrize(("body", "reason_code"), FAULTY)
def test_the_door_and_the_reader_of_files_refuse_for_the_same_reason(body, reason_code):
    rejects = []
    records = [record for group in walk(io.BytesIO(body), False, rejects) for record in group]
    of_files = {reject.reason_code for reject in rejects} or {"no_resource_type", "unknown_resource_type"}
    judged = judge_resource(body, Source(source_id="default")).reject
    assert judged is not None
    assert judged.reason_code == reason_code
    assert reason_code in of_files
    assert bool(records) == (not rejects)  # the two reasons that SQL finds


def test_what_the_reader_takes_the_door_takes():
    for body in (b"\xef\xbb\xbf" + patient("bom"), b'{"resourceType": "Bundle"}', b'{"resourceType": "Bundle", "entry": null}',
                 b'{"resourceType": "Procedure", "id": 7}', b' {"resourceType":"Patient","id":"x"}\n'):  # fmt: skip
        assert judge_resource(body, Source(source_id="default")).reject is None


def test_those_of_one_person_have_one_partition(settings):
    key = Checker(settings).pseudonym_key
    source = Source(source_id="default")

    def partition(**resource: object) -> str | None:
        return judge_resource(json.dumps(resource).encode(), source, pseudonym_key=key).partition_key

    mine = partition(resourceType="Patient", id="p")
    assert mine is not None
    for reference in ("Patient/p", "https://ehr.example/fhir/Patient/p", "Patient/p/_history/3"):
        assert partition(resourceType="Observation", subject={"reference": reference}) == mine
        assert partition(resourceType="AllergyIntolerance", patient={"reference": reference}) == mine
    assert partition(resourceType="Bundle", entry=[{}, {"resource": {"resourceType": "Patient", "id": "p"}}]) == mine
    assert partition(resourceType="Patient", id="q") not in (mine, None)
    assert partition(resourceType="Medication", id="p") is None
    assert partition(resourceType="Observation", subject={"reference": "Group/p"}) is None


_NAMES = st.sampled_from(["resourceType", "id", "subject", "patient", "reference", "entry", "resource", "valueQuantity",
                          "value", "component", "code", "coding", "meta", "name"])  # fmt: skip
_TEXTS = st.sampled_from(["Patient", "Bundle", "Observation", "Patient/p", "/", "", "p"]) | st.text(max_size=4)
_ANY = st.recursive(
    _TEXTS | st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5), max_leaves=25)  # fmt: skip


@given(st.dictionaries(_NAMES, _ANY, max_size=6))
def test_whatever_the_json_says_the_check_has_an_answer(document):
    judged = judge_resource(json.dumps(document).encode(), Source(source_id="default"), pseudonym_key=bytes(32))
    assert judged.reject is None or judged.reject.reason_code != "reader_failed"


@given(st.binary(max_size=40))
def test_whatever_the_bytes_are_the_check_has_an_answer(body):
    judged = judge_resource(body, Source(source_id="default"), pseudonym_key=bytes(32))
    assert judged.reject is None or judged.reject.reason_code != "reader_failed"
