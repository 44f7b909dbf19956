"""The forms that facts travel in, and what the ingest makes of each: usable ones land, unusable ones are refused."""

import re
from collections import Counter
from datetime import date
from statistics import mean

import orjson
import pytest

from core.settings import Settings
from ehr.ingest import ingest
from ehr.ledger import ledger_totals
from ehr.quarantine import count_by_reason
from ehr.simulate import SimulationOptions, SimulationSummary, simulate_hospital
from ehr.simulate.forms import ckd_epi_2021
from ehr.simulate.options import MessRates
from tests.conftest import make_settings
from tests.ehr.landed import query
from tests.ehr.simulate.extract_reading import bundle_entries, messages, ndjson_lines, units

RATES = MessRates(broken=0.06, swapped=0.05, partial_date=0.05)
BROKEN = {
    *("fhir_resources cut", "fhir_resources no_subject", "fhir_resources not_a_number"),
    *(f"hl7v2_messages {form}" for form in ("no_number", "no_type", "no_control_id", "cut", "not_a_number")),
}


@pytest.fixture(scope="module")
def extract(tmp_path_factory: pytest.TempPathFactory) -> SimulationSummary:
    out = tmp_path_factory.mktemp("forms") / "simulated"
    return simulate_hospital(out, SimulationOptions(patients=300, years=4, seed=5, rates=RATES))


@pytest.fixture(scope="module")
def house(extract: SimulationSummary, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = make_settings(tmp_path_factory.mktemp("forms") / "var")
    ingest(settings, [extract.out], as_of=date(2026, 1, 1))
    return settings


@pytest.mark.parametrize(
    ("form", "sign"),
    [
        ("relative reference", rb'"subject":\{"reference":"Patient/'),
        ("reference into the bundle", rb'"subject":\{"reference":"urn:uuid:'),
        ("absolute reference", rb'"subject":\{"reference":"https://[^"]*/Patient/'),
        ("conditional reference", rb'"subject":\{"reference":"Patient\?identifier=urn:oid:2\.999\.1\.1\|'),
        ("contained drug", rb'"contained":\[\{"resourceType":"Medication".*"reference":"#drug"'),
        ("drug of its own", rb'"medicationReference":\{"reference":"(https://[^"]*/)?Medication/'),
        ("discharge", rb"\|ADT\^A03\|"),
        ("filtration rate, FHIR", rb'"code":"98979-8"\}\]\},"valueQuantity"'),
        ("filtration rate, HL7", rb"\|98979-8\^\^LN\|"),
        ("laboratory time as a day, FHIR", rb'"effectiveDateTime":"\d{4}-\d\d-\d\d"'),
        ("laboratory time as a day, HL7", rb"OBX\|[^\r]*\|\|\|\d{8}\r"),
        ("prescription time as a day", rb'"authoredOn":"\d{4}-\d\d-\d\d"'),
    ],
)
def test_each_form_is_there(extract, form, sign):
    assert any(re.search(sign, unit) for unit in units(extract.out)), form


def test_every_reference_into_a_bundle_finds_its_patient_there(simulate):
    for window in ({}, {"since": date(2025, 6, 1), "until": date(2025, 12, 1)}):
        out, pointing = simulate(patients=400, **window).out, 0
        for path in out.glob("bundles/*"):
            entries = orjson.loads(path.read_bytes())["entry"]
            inside = {entry["fullUrl"] for entry in entries}
            for entry in entries:
                reference = entry["resource"].get("subject", {}).get("reference", "")
                if reference.startswith("urn:"):
                    assert reference in inside
                    pointing += 1
        assert pointing > 0


def test_swapped_pressures_are_few_and_the_rest_stand_the_right_way_round(extract):
    panels = [r for r in _resources(extract) if r["resourceType"] == "Observation" and "component" in r]
    values = [{c["code"]["coding"][0]["code"]: c["valueQuantity"]["value"] for c in r["component"]} for r in panels]
    swapped = [value for value in values if value["8462-4"] > value["8480-6"]]
    assert 0 < len(swapped) < 0.1 * len(values)


def test_filtration_rate_follows_the_equation():
    # Worked out by hand from the published equation: 142 * (1.0/0.9)^-1.2 * 0.9938^50; 142 * (0.6/0.7)^-0.241 * ... * 1.012
    assert ckd_epi_2021(1.0, 50, False) == pytest.approx(91.7, abs=0.1)
    assert ckd_epi_2021(0.6, 50, True) == pytest.approx(109.3, abs=0.1)
    assert ckd_epi_2021(2.0, 70, True) == pytest.approx(26.4, abs=0.1)


def test_every_kind_of_broken_copy_is_written_and_refused(extract, house):
    assert set(extract.counts["broken"]) == BROKEN
    assert all(line.balances for line in ledger_totals(house))
    reasons: Counter[str] = Counter()
    for _source, _type, reason, number in count_by_reason(house):
        reasons[reason] += number
    broken = extract.counts["broken"]
    assert reasons["no_message_type"] == broken["hl7v2_messages no_type"]
    assert reasons["no_control_id"] == broken["hl7v2_messages no_control_id"]
    assert reasons["no_patient_identifier"] == broken["hl7v2_messages no_number"] + broken["hl7v2_messages cut"]
    assert sum(reasons.values()) - reasons["charset_mismatch"] == sum(
        number for form, number in broken.items() if form != "hl7v2_messages not_a_number"), reasons  # fmt: skip


def test_words_for_a_number_are_dropped_and_flagged_in_hl7(extract, house):
    flagged = query(house, "select count(*), count(value_number) from clinical.raw.hl7v2_observations "
                           "where list_contains(flags, 'bad_number')")  # fmt: skip
    assert flagged == [(extract.counts["broken"]["hl7v2_messages not_a_number"], 0)]


def test_every_reference_leads_to_a_registered_person_and_every_drug_to_its_code(house):
    for table in ("fhir_observations", "fhir_encounters", "fhir_conditions", "fhir_medications"):
        assert query(house, f"""
            select count(*) from clinical.raw.{table} where person_key not in (
                select person_key from clinical.raw.fhir_patients
                union all select other_person_key from clinical.raw.person_links)""") == [(0,)], table
    assert query(house, """
        select count(*) filter (where len(codings) > 0) > 100, count(*) filter (where medication_key is not null) > 10,
            count(*) filter (where coalesce(len(codings), 0) = 0 and medication_key not in (
                select medication_key from clinical.raw.fhir_medication_codes))
        from clinical.raw.fhir_medications""") == [(True, True, 0)]


def test_discharges_end_the_stays_that_were_begun(extract, house):
    told = [message for message in messages(extract.out) if b"|ADT^A03|" in message]
    admitted = [m for m in messages(extract.out) if b"|ADT^A01|" in m]
    assert told
    assert not any(re.search(rb"PV1\|1\|I[^\r]*\|\d{14}[+-]\d{4}\|\d{14}", m) for m in admitted), "no end at the start"
    ended = query(house, "select count(*), count(ended_at) from clinical.raw.hl7v2_encounters where message_type = 'ADT^A03'")
    assert ended[0][0] == ended[0][1] > 0


def test_filtration_rates_are_those_of_the_living(extract):
    rates = [r["valueQuantity"]["value"] for r in _resources(extract)
             if r["resourceType"] == "Observation" and r["code"]["coding"][0]["code"] == "98979-8"]  # fmt: skip
    assert len(rates) > 50
    assert 60 < mean(rates) < 110


def _resources(extract):
    lines = [line for line in ndjson_lines(extract.out) if line.endswith(b"}")]
    found = []
    for line in lines:
        try:
            found.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            continue
    return [*found, *(entry["resource"] for entry in bundle_entries(extract.out))]
