"""What an extract promises: the same bytes for the same options, windows that tile, a manifest that adds up, mess."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import date
from itertools import pairwise

import orjson
import pytest

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT
from ehr.simulate import SimulationOptions, simulate_windows
from ehr.simulate.options import MessRates
from tests.ehr.simulate.extract_reading import bundle_entries, messages, ndjson_lines, units


def digest(out):
    whole = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        whole.update(str(path.relative_to(out)).encode() + path.read_bytes())
    return whole.hexdigest()


@pytest.mark.slow
def test_the_same_options_give_the_same_bytes_whatever_the_hash_seed(simulate, tmp_path):
    here = digest(simulate(patients=40).out)
    program = (
        "import sys; from pathlib import Path; from ehr.simulate import *; "
        "simulate_hospital(Path(sys.argv[1]), SimulationOptions(patients=40, years=3, seed=3))"
    )
    for hash_seed in ("1", "2"):
        out = tmp_path / f"hash{hash_seed}" / "extract"
        subprocess.run(
            [sys.executable, "-c", program, str(out)],
            check=True,
            cwd=PROJECT_ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
        )
        assert digest(out) == here
    assert digest(simulate(patients=40, seed=4).out) != here


def is_patient(unit):
    return unit.startswith(b'{"fullUrl"') and b'"resourceType":"Patient"' in unit


def test_windows_of_one_world_hold_each_message_once(simulate):
    """But for patients in bundles: where references point into the bundle, each one repeats its patient."""
    cuts = [None, date(2025, 3, 1), date(2026, 1, 1), date(2026, 1, 2), date(2026, 3, 1)]
    parts = Counter()
    for since, until in pairwise(cuts):
        parts += units(simulate(since=since, until=until).out)
    whole = units(simulate(until=cuts[-1]).out)
    assert {unit for unit in parts if is_patient(unit)} == {unit for unit in whole if is_patient(unit)}
    assert {unit: n for unit, n in parts.items() if not is_patient(unit)} == {
        unit: n for unit, n in whole.items() if not is_patient(unit)}  # fmt: skip


def test_windows_written_together_are_those_written_alone(simulate, tmp_path):
    """Files, manifests and truth, of a world with people who join it."""
    day = date(2025, 3, 1)
    world = {"drift": "younger_population", "drift_from": day}
    cuts = [None, day, date(2025, 3, 2), date(2025, 4, 1)]
    alone = [simulate(patients=60, since=since, until=until, **world) for since, until in pairwise(cuts)]
    options = [SimulationOptions(patients=60, years=3, seed=3, since=since, until=until, **world)
               for since, until in pairwise(cuts)]
    together = simulate_windows([(tmp_path / "together" / f"{number}", each) for number, each in enumerate(options)])
    assert [digest(summary.out) for summary in together] == [digest(summary.out) for summary in alone]
    assert [summary.counts for summary in together] == [summary.counts for summary in alone]
    assert together[0].truth_path.read_bytes() == alone[0].truth_path.read_bytes()
    with pytest.raises(ConfigurationError, match="of one world"):
        simulate_windows([(tmp_path / "a", options[0]), (tmp_path / "b", replace(options[1], seed=4))])


@pytest.mark.parametrize("drift", ["cuff_high", "younger_population", "coding_change"])
def test_a_drift_changes_nothing_before_its_day_and_something_after(simulate, drift):
    day = date(2025, 3, 1)
    # Many second registrations: their merges are the one thing that reaches across years.
    rates = MessRates(second_registration=0.4)
    drifted = simulate(until=day, drift=drift, drift_from=day, rates=rates)
    assert units(drifted.out) == units(simulate(until=day, rates=rates).out)
    after = {"since": day, "until": date(2025, 4, 1)}
    assert units(simulate(drift=drift, drift_from=day, **after).out) != units(simulate(**after).out)


def test_the_manifest_counts_what_was_written(simulate):
    summary = simulate()
    counts = orjson.loads((summary.out / ".manifest.json").read_bytes())
    written = len(ndjson_lines(summary.out)) + len(bundle_entries(summary.out))
    assert sum(counts["fhir_resources"].values()) == written == summary.resources
    assert sum(counts["hl7v2_messages"].values()) == len(messages(summary.out)) == summary.messages
    repeated = sum(number - 1 for number in units(summary.out).values())
    assert sum(counts["duplicates"].values()) == repeated > 0


def test_all_but_the_broken_lines_are_json_and_carry_a_version_time(simulate):
    summary = simulate(patients=400, rates=MessRates(broken=0.02))
    broken = 0
    for line in ndjson_lines(summary.out):
        try:
            resource = orjson.loads(line)
        except orjson.JSONDecodeError:
            broken += 1
            continue
        assert resource["meta"]["lastUpdated"][-6] in "+-"
    assert broken == summary.counts["broken"]["fhir_resources cut"] > 0


@pytest.mark.parametrize(
    ("mess", "sign"),
    [
        ("first panel code", b'"85354-9"'),
        ("second panel code", b'"55284-4"'),
        ("local code", b'"urn:simhosp:local"'),
        ("pair as one string", b'"valueString":"'),
        ("kilopascal", b'"kPa"'),
        ("pounds", b'"[lb_av]"'),
        ("inches", b'"[in_i]"'),
        ("correction", b'"corrected"'),
        ("entered in error", b'"entered-in-error"'),
        ("merge", b'"replaced-by"'),
        ("HL7 local code", b"BP^Blood pressure^L"),
        ("HL7 merge", b"ADT^A40"),
        ("HL7 cancellation", b"ADT^A11"),
        ("HL7 correction", b"|||||C|||"),
        ("HL7 withdrawal", b"|||||W|||"),
        ("ignored type", b'"Immunization"'),
        ("deceased", b"deceasedDateTime"),
    ],
)
def test_each_kind_of_mess_is_there(big_extract, mess, sign):
    assert any(sign in unit for unit in big_extract), mess


def test_missing_units_partial_dates_and_wrong_charsets_are_there(big_extract):
    resources = [
        orjson.loads(unit) for unit in big_extract if unit.startswith(b'{"resourceType"') and unit[-1:] == b"}"
    ]
    observations = [r for r in resources if r["resourceType"] == "Observation"]
    assert any("unit" not in r["valueQuantity"] for r in observations if "valueQuantity" in r)
    assert any(len(r["effectiveDateTime"]) == 19 for r in observations)
    assert any(len(r.get("onsetDateTime", "")) == 7 for r in resources)

    def lies(message):
        try:
            message.decode()
        except UnicodeDecodeError:
            return b"|UNICODE UTF-8" in message
        return False

    assert any(lies(unit) for unit in big_extract if unit.startswith(b"MSH|"))


@pytest.fixture(scope="module")
def big_extract(tmp_path_factory):
    from ehr.simulate import simulate_hospital

    out = tmp_path_factory.mktemp("mess") / "extract"
    simulate_hospital(out, SimulationOptions(patients=900, years=3, seed=3))
    return list(units(out)) + [orjson.dumps(entry["resource"]) for entry in bundle_entries(out)]


@pytest.mark.parametrize(
    "options",
    [
        {"patients": 0},
        {"years": 0},
        {"drift": "cuff_high"},
        {"drift_from": date(2026, 1, 1)},
        {"drift": "other", "drift_from": date(2026, 1, 1)},
        {"since": date(2026, 1, 2), "until": date(2026, 1, 2)},
    ],
)
def test_options_that_contradict_each_other_are_refused(options):
    with pytest.raises(ConfigurationError, match=r"^simulation: "):
        SimulationOptions(**options)
