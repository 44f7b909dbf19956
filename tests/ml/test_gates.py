"""Gates: each holds a model back for its own reason, and none holds back on noise."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from ml.evaluation.bootstrap import Estimate
from ml.evaluation.evaluate import Evaluation, Subgroup
from ml.evaluation.gates import apply_gates
from ml.evaluation.rules import GATES_FILE, load_gate_rules


def estimate(value: float, half: float = 0.0) -> Estimate:
    return Estimate(value, value - half, value + half)


def sound(**changes: object) -> Evaluation:
    scores = {name: {"auroc": estimate(0.78), "brier": estimate(0.03), "calibration_slope": estimate(1.0, 0.2),
                     "observed_to_expected": estimate(1.0, 0.2)} for name in ("model", "champion")}
    differences = {"framingham": {"auroc": estimate(0.02, 0.01), "brier": estimate(-0.001, 0.001)},
                   "champion": {"auroc": estimate(0.0, 0.01)}}
    group = Subgroup("sex: female", 900, 60, estimate(0.77, 0.05), estimate(-0.02, 0.08), estimate(1.1, 0.3))
    return replace(Evaluation(2000, 900, 100, scores, differences, [group]), **changes)


def failed(evaluation: Evaluation, train_events: int = 200) -> set[str]:
    return {gate.name for gate in apply_gates(evaluation, train_events, load_gate_rules()) if not gate.passed}


def with_score(name: str, value: Estimate) -> Evaluation:
    evaluation = sound()
    return replace(evaluation, scores=evaluation.scores | {"model": evaluation.model | {name: value}})


def with_difference(to: str, **values: Estimate) -> Evaluation:
    evaluation = sound()
    return replace(evaluation, differences=evaluation.differences | {to: evaluation.differences[to] | values})


def test_a_sound_model_passes() -> None:
    assert failed(sound()) == set()


def test_without_a_champion_its_gate_is_not_asked() -> None:
    differences = {"framingham": sound().differences["framingham"]}
    assert "not_worse_than_champion" not in {
        gate.name for gate in apply_gates(sound(differences=differences), 200, load_gate_rules())}


def test_too_few_events_to_judge() -> None:
    assert failed(sound(events=10)) == {"enough_events"}
    assert failed(sound(), train_events=10) == {"enough_events"}


@pytest.mark.parametrize(("auroc", "brier", "passes"), [
    (estimate(0.01, 0.02), estimate(0.0001, 0.001), True),
    (estimate(-0.001, 0.015), estimate(-0.001, 0.001), True),
    (estimate(-0.001, 0.015), estimate(0.0001, 0.001), False),  # better in nothing
    (estimate(0.01, 0.08), estimate(-0.001, 0.001), False),  # a large loss cannot be ruled out
    (estimate(0.01, 0.02), estimate(0.002, 0.001), False),  # ranks better, but its risks are surely worse
])
def test_better_than_framingham(auroc: Estimate, brier: Estimate, passes: bool) -> None:
    expected = set() if passes else {"better_than_framingham"}
    assert failed(replace(with_difference("framingham", auroc=auroc, brier=brier), events=400)) == expected


@pytest.mark.parametrize(("auroc", "passes"), [(estimate(-0.01, 0.03), True), (estimate(-0.03, 0.02), False)])
def test_with_few_events_a_small_loss_to_framingham_is_chance(auroc: Estimate, passes: bool) -> None:
    expected = set() if passes else {"better_than_framingham"}
    assert failed(with_difference("framingham", auroc=auroc, brier=estimate(0.0001, 0.001))) == expected


@pytest.mark.parametrize(("slope", "passes"), [
    (estimate(0.75, 0.2), True),  # outside, but the interval reaches in
    (estimate(0.7, 0.05), False),  # surely outside
    (estimate(0.4, 0.5), False),  # bad outright, however wide
    (estimate(1.4, 0.1), False),
])
def test_calibration_slope(slope: Estimate, passes: bool) -> None:
    assert failed(with_score("calibration_slope", slope)) == (set() if passes else {"calibration_slope"})


def test_a_subgroup_far_worse_holds_but_a_small_one_cannot() -> None:
    bad = replace(sound().subgroups[0], auroc_gap=estimate(-0.3, 0.1))
    assert failed(sound(subgroups=[bad])) == {"no_subgroup_far_worse"}
    assert failed(sound(subgroups=[replace(bad, events=5)])) == set()
    understated = replace(sound().subgroups[0], observed_to_expected=estimate(3.0, 0.5))
    assert failed(sound(subgroups=[understated])) == {"no_subgroup_far_worse"}


@pytest.mark.parametrize(("auroc", "passes"), [
    (estimate(-0.01, 0.02), True), (estimate(-0.03, 0.05), False), (estimate(-0.01, 0.005), False)])
def test_challenger_against_champion(auroc: Estimate, passes: bool) -> None:
    assert failed(with_difference("champion", auroc=auroc)) == (set() if passes else {"not_worse_than_champion"})


def test_a_challenger_with_a_worse_brier_score_is_held() -> None:
    assert failed(with_score("brier", estimate(0.04))) == {"not_worse_than_champion"}


def test_a_misspelt_gate_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "gates.toml"
    wrong.write_text(GATES_FILE.read_text().replace("auroc_drop", "auroc_dorp"))
    with pytest.raises(ValidationError, match="auroc_dorp"):
        load_gate_rules(wrong)


@pytest.mark.parametrize(("risk", "band"), [(0.0, "low"), (0.0299, "low"), (0.03, "moderate"), (0.08, "high"), (1, "high")])
def test_bands(risk: float, band: str) -> None:
    assert load_gate_rules().bands.of(risk) == band
