"""What people and machines read: tables with an interval at each figure, JSON that any parser takes."""

import dataclasses
import io
import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from rich.console import Console

import cuff_print as show
from cuff import _told_apart
from ehr.live.feeds import Feed
from ml.evaluation.bootstrap import Estimate
from ml.evaluation.gates import Gate
from ml.monitoring import DriftMetric, DriftOutcome
from ml.training import TrainingOutcome

SCORES = {"auroc": Estimate(0.8125, 0.7031, 0.9062), "brier": Estimate(0.0311, 0.022, 0.043),
          "calibration_slope": Estimate(0.97, 0.71, 1.31), "calibration_intercept": Estimate(0.04, -0.31, 0.4),
          "observed_to_expected": Estimate(1.03, 0.8, math.nan)}  # fmt: skip
TRAINED = TrainingOutcome(
    model_version=4, run_id="0a1b", decision="held", why="calibration_slope: too steep", build_id=2, previous_champion=3,
    gates=[Gate("calibration_slope", False, "1.6 [wanted 0.8 to 1.25]"), Gate("enough_events", True, "40 events")],
    metrics=SCORES, baselines={"logistic_regression": SCORES}, champion_metrics=SCORES,
    rows={"train": 1760, "calibration": 812, "test": 579},
)  # fmt: skip


@pytest.fixture
def shown(monkeypatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(show, "out", Console(file=text, width=120, highlight=False))
    return text


def test_a_training_is_a_decision_a_table_of_models_and_the_gates(shown):
    show.print_training(TRAINED)
    lines = shown.getvalue().splitlines()
    assert lines[0] == "version 4 held: calibration_slope: too steep"
    models = ("version 4, challenger", "version 3, champion then", "logistic regression")
    for model in models:
        at = next(number for number, line in enumerate(lines) if line.startswith(model))
        assert "0.812" in lines[at]
        assert "0.703 to 0.906" in lines[at + 1]
    assert any(line.split() == ["calibration_slope", "FAILED", "1.6", "[wanted", "0.8", "to", "1.25]"] for line in lines)
    assert "Estimate" not in shown.getvalue()
    assert "{" not in shown.getvalue()


def test_a_verdict_has_its_reasons_the_metric_and_the_page(shown, tmp_path):
    shift = DriftMetric("feature", "systolic_mmhg", "within_person_d.month", 0.71, 0.35, True, reason="reads higher")
    calm = DriftMetric("feature", "age_years", "d.month", 0.02, 0.45, False)
    show.print_drift(DriftOutcome("drift", ["reads higher"], 5, "drift/page.html", True, [shift, calm]), tmp_path)
    text = shown.getvalue()
    assert text.startswith("verdict 5: drift; retraining is due: `cuff train --trigger drift`\n  - reads higher\n")
    assert "1 of 2 judged" in text
    assert "systolic_mmhg" in text
    assert "age_years" not in text
    assert f"report: {tmp_path / 'drift/page.html'}" in text


def test_brackets_of_a_value_are_no_markup(shown):
    show.print_rows("", [{"a": "[bold]x", "b": None, "c": True}])
    assert shown.getvalue().splitlines()[-1].split() == ["[bold]x", "yes"]


def test_json_is_what_any_parser_takes(capsys):
    show.print_json({"outcome": TRAINED, "at": datetime(2026, 1, 1, tzinfo=UTC), "day": date(2026, 1, 2),
                     "number": Decimal("0.10"), "tuple": (1, None, True)})  # fmt: skip
    read = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read["outcome"]["metrics"]["observed_to_expected"] == {"value": 1.03, "low": 0.8, "high": None}
    assert (read["at"], read["day"]) == ("2026-01-01T00:00:00+00:00", "2026-01-02")
    assert (read["number"], read["tuple"]) == (0.1, [1, None, True])


def test_columns_of_one_name_are_told_apart():
    assert _told_apart(["key", "key", "value", "key"]) == ["key", "key_1", "value", "key_2"]


def test_a_feed_shows_its_state_its_pace_and_what_was_refused(shown):
    show.print_feeds([])
    assert "cuff listen" in shown.getvalue()
    stuck = Feed("charity", "mllp", "silent", True, "nothing for 50 min; 7 wait", 0.0, 2.5, 10.0, None, 3000.0, 500.0, 7,
                 1800.0, 13_981, 13_906, 72, 3, 12, {"no_id": 9, "bad_date": 2})
    show.print_feeds([stuck, dataclasses.replace(stuck, feed="http", is_stuck=False, state="new", expected_per_minute=None,
                                                 waiting=0, quarantined=0, top_reasons={})])
    text = shown.getvalue()
    for said in ("stuck", "new", "50 min ago", "2.5 last hour", "10.0 usual", "usual unknown", "13,906 accepted",
                 "72 repeated", "3 refused", "for 30 min", "charity over mllp: nothing for 50 min; 7 wait",
                 "12 in quarantine: 9 no_id, 2 bad_date, 1 others"):
        assert said in text
    assert "charity over http" not in text
