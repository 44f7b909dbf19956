"""The world behind the extracts: as much hypertension as the truth says, and drifts of the size they state."""

import re
from collections import defaultdict
from datetime import date, timedelta
from statistics import mean

import duckdb
import pytest

from tests.ehr.simulate.extract_reading import messages, ndjson_lines


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    from ehr.simulate import SimulationOptions, simulate_hospital

    out = tmp_path_factory.mktemp("world") / "extract"
    summary = simulate_hospital(out, SimulationOptions(patients=1500, years=5, seed=3, until=date(2021, 2, 1)))
    assert not summary.truth_path.is_relative_to(out)
    assert not list(out.rglob("*.parquet"))
    with duckdb.connect() as connection:
        rows = connection.execute(
            "select landmark_date, true_risk_12m, onset_date from read_parquet($1) where is_at_risk",
            [str(summary.truth_path)],
        ).fetchall()
    return [row for row in rows if row[0] <= date(2026, 1, 1)]


def test_yearly_incidence_lies_between_two_and_five_percent(truth):
    assert 0.02 < mean(risk for _day, risk, _onset in truth) < 0.05


def test_true_risk_is_the_probability_of_an_onset_within_a_year(truth):
    happened = [onset is not None and onset - day <= timedelta(days=365) for day, _risk, onset in truth]
    expected = mean(risk for _day, risk, _onset in truth)
    assert mean(happened) == pytest.approx(expected, rel=0.2)
    # The riskiest fifth has several times the onsets of the safest.
    order = sorted(range(len(truth)), key=lambda i: truth[i][1])
    fifth = len(order) // 5
    assert mean(happened[i] for i in order[-fifth:]) > 4 * mean(happened[i] for i in order[:fifth])


def test_true_risk_means_the_same_span_in_every_year(truth):
    by_day = defaultdict(list)
    for day, risk, _onset in truth:
        by_day[day].append(risk)
    means = [mean(risks) for risks in by_day.values()]
    assert max(means) < 1.25 * min(means)


def systolic_of(out):
    """Systolic pressures (mmHg) by resource and version, from the NDJSON route."""
    found = {}
    for line in ndjson_lines(out):
        value = re.search(rb'"8480-6"\}\]\},"valueQuantity":\{"value":([\d.]+),"unit":"mm\[Hg\]"', line)
        if value:
            found[re.search(rb'"id":"([^"]+)","meta":\{"versionId":"(\d)"', line).groups()] = float(value[1])
    return found


def test_the_new_cuff_reads_eight_high(simulate):
    day, window = date(2025, 3, 1), {"since": date(2025, 3, 1), "until": date(2025, 9, 1)}
    before, after = (
        systolic_of(simulate(**window).out),
        systolic_of(simulate(drift="cuff_high", drift_from=day, **window).out),
    )
    shared = before.keys() & after.keys()
    assert len(shared) > 50
    # Somebody found hypertensive earlier is treated earlier, so a few differ by less.
    assert mean(after[key] - before[key] for key in shared) == pytest.approx(8.0, abs=1.5)


def test_the_new_clinic_lowers_the_mean_age_by_ten_years(simulate):
    day = date(2025, 3, 1)
    window = {"since": day, "until": date(2025, 3, 8), "patients": 300}

    def mean_age(out):
        births = dict(
            re.findall(
                rb'"id":"([^"]+)"[^\n]*?"birthDate":"(\d{4})',
                b"\n".join(x for x in ndjson_lines(everybody.out) if b'"Patient","id"' in x),
            )
        )
        named = re.compile(rb'"Encounter","id".*"subject":\{"reference":"(?:https:[^"]*/)?Patient/([^"]+)"')
        seen = {found[1] for line in ndjson_lines(out) if (found := named.search(line))}
        return mean(2025 - int(births[person]) for person in seen if person in births)

    everybody = simulate(until=date(2025, 3, 8), patients=300, drift="younger_population", drift_from=day)
    shifted = simulate(drift="younger_population", drift_from=day, **window)
    assert mean_age(simulate(**window).out) - mean_age(shifted.out) > 10


def test_declared_blood_pressure_codes_vanish_with_the_coding_change(simulate):
    day = date(2025, 3, 1)
    drifted = simulate(since=date(2025, 6, 1), until=date(2025, 12, 1), drift="coding_change", drift_from=day)
    told = [*ndjson_lines(drifted.out), *messages(drifted.out)]
    assert not [unit for unit in told if b"85354-9" in unit or b"8480-6" in unit or b"72166-2" in unit]
    assert len([unit for unit in told if b"NIBP-2" in unit]) > 100
