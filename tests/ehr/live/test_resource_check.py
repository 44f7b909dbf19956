"""What the door sees of a FHIR body: the reader's own faults, and whose it is."""

import io
import json

import pytest

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
