"""Cards: short, true, calm."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.features.catalog import FEATURE_NAMES, FEATURES
from ml.serving.cards import CORE_INPUTS, DOES_NOT_APPLY, MISSING, no_risk_cards, risk_card
from ml.serving.plain_words import LABELS, SHOWN_UNITS
from ml.serving.reasons import Reason
from ml.serving.risk import Input
from tests.ml.serving.answers import an_assessment

PAGE = "http://127.0.0.1:8000/"


def fresh_inputs(**changed):
    """All present, save those named with another status."""
    statuses = {feature.name: changed.get(feature.name, "present") for feature in FEATURES}
    return tuple(Input(f.name, None if statuses[f.name] == "absent" else f.example, f.unit, statuses[f.name], 3)
                 for f in FEATURES)  # fmt: skip


def is_a_card(card):
    """CDS Hooks 2.0, "CDS Service Response"."""
    assert set(card) == {"summary", "detail", "indicator", "source", "links"}
    assert 0 < len(card["summary"]) < 140
    assert card["indicator"] in ("info", "warning")
    assert card["source"]["label"]
    assert all(set(link) == {"label", "url", "type"} and link["type"] == "absolute" for link in card["links"])
    return True


def test_a_card_says_the_risk_its_reasons_and_how_old_each_input_is():
    card = risk_card(an_assessment(), PAGE)
    assert is_a_card(card)
    assert card["summary"] == "Risk of hypertension within 12 months: 4.1 % (moderate), on incomplete data"
    assert "**4.1 %** risk of hypertension within 12 months (moderate)." in card["detail"]
    assert "- ▲ Systolic pressure, mean of 12 months: 131 mmHg raises the risk (odds times 1.52)" in card["detail"]
    assert "- ▼ Age: 38 years lowers the risk" in card["detail"]
    assert "| Body mass index | 27.4 kg/m² | 30 months | stale |" in card["detail"]
    assert "| Diabetes | no | 12 d | present |" in card["detail"]
    assert "Not known: Glycated haemoglobin." in card["detail"]
    assert "Model version 3" in card["detail"]
    assert card["links"][0]["url"] == PAGE


@pytest.mark.parametrize(("band", "inputs", "not_sent", "indicator"), [
    ("low", fresh_inputs(), (), "info"), ("moderate", fresh_inputs(), (), "info"), ("high", fresh_inputs(), (), "warning"),
    ("high", fresh_inputs(hba1c_last_pct="absent"), ("encounters",), "warning"),
    ("high", fresh_inputs(), ("conditions",), "info"), ("high", fresh_inputs(), ("observations",), "info"),
    *(("high", fresh_inputs(**{name: status}), (), "info") for name in CORE_INPUTS for status in ("absent", "stale")),
])  # fmt: skip
def test_a_high_risk_warns_only_on_complete_and_fresh_data(band, inputs, not_sent, indicator):
    card = risk_card(replace(an_assessment(), band=band, risk=0.2, inputs=inputs), PAGE, not_sent)
    assert card["indicator"] == indicator
    is_thin = any(each.status != "present" for each in inputs if each.name in CORE_INPUTS) or "conditions" in not_sent
    assert ("on incomplete data" in card["summary"]) == (is_thin or "observations" in not_sent)


def test_what_was_not_sent_or_not_usable_is_said():
    card = risk_card(an_assessment(), PAGE, ("medications", "encounters"), 2)
    assert "Not sent with the request: prescriptions, visits. 2 entries of the request could not be used." in card["detail"]


@pytest.mark.parametrize("reason", sorted(MISSING))
def test_missing_data_are_no_alarm_but_are_named(reason):
    (card,) = no_risk_cards(reason, PAGE, ("observations",), 1)
    assert is_a_card(card)
    assert card["indicator"] == "info"
    assert MISSING[reason] in card["summary"]
    assert "Not sent with the request: observations. 1 entry of the request could not be used." in card["detail"]
    assert "%" not in card["detail"]


@pytest.mark.parametrize("reason", sorted(DOES_NOT_APPLY))
def test_to_whom_it_does_not_apply_it_says_so_without_a_risk(reason):
    (card,) = no_risk_cards(reason, PAGE)
    assert is_a_card(card)
    assert card["summary"].startswith("Risk of new hypertension does not apply")
    assert card["indicator"] == "info"
    assert "%" not in card["detail"]


def test_nothing_is_said_beside_the_chart_of_the_dead():
    assert no_risk_cards("deceased", PAGE) == []


@given(st.text(max_size=300), st.floats(0, 1), st.sampled_from(["low", "moderate", "high"]))
def test_every_card_keeps_to_the_specification(text, risk, band):
    card = risk_card(replace(an_assessment(), risk=risk, band=band, reasons=(Reason("sex", text, "raises", 0.1),)), PAGE)
    assert is_a_card(card)
    assert "<" not in card["detail"]


def test_every_feature_has_words():
    assert set(LABELS) == set(SHOWN_UNITS) == set(FEATURE_NAMES)
