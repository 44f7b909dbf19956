"""Pass or hold: `ml/gates.toml` applied to one evaluation."""

from dataclasses import dataclass

from ml.evaluation.bootstrap import Estimate
from ml.evaluation.evaluate import Evaluation
from ml.evaluation.rules import GateRules, Range


@dataclass(frozen=True)
class Gate:
    """One verdict and the figures behind it."""

    name: str
    passed: bool
    reason: str


def apply_gates(evaluation: Evaluation, train_events: int, rules: GateRules) -> list[Gate]:
    """Every gate, passed or not. The champion's is there when ``evaluation`` compares with ``champion``."""
    gates = [
        Gate("enough_events", evaluation.events >= rules.enough.test_events and train_events >= rules.enough.train_events,
             f"{evaluation.events} events to test on, {train_events} to train on"),
        _better_than_framingham(evaluation, rules),
        _within("calibration_slope", evaluation.model["calibration_slope"], rules.calibration_slope),
        _within("calibration_in_the_large", evaluation.model["observed_to_expected"], rules.calibration_in_the_large),
        _subgroups(evaluation, rules),
    ]
    if "champion" in evaluation.differences:
        gates.append(_not_worse_than_champion(evaluation, rules))
    return gates


def _better_than_framingham(evaluation: Evaluation, rules: GateRules) -> Gate:
    ranking, error = (evaluation.differences["framingham"][metric] for metric in ("auroc", "brier"))
    rule = rules.better_than_framingham
    better = ranking.value > 0 or error.value < 0
    by_chance = evaluation.events < rule.strict_from_events and ranking.value > -rule.auroc_tolerance
    passed = (better or by_chance) and ranking.low > rule.auroc_minimum_low and error.low <= 0
    return Gate("better_than_framingham", passed,
                f"minus Framingham's: AUROC {ranking}; Brier {error.value:.5f} ({error.low:.5f} to {error.high:.5f})")


def _within(name: str, found: Estimate, allowed: Range) -> Gate:
    reaches = found.low <= allowed.high and found.high >= allowed.low
    passed = reaches and allowed.outer_low <= found.value <= allowed.outer_high
    return Gate(name, passed, f"{found}, wanted {allowed.low} to {allowed.high}")


def _subgroups(evaluation: Evaluation, rules: GateRules) -> Gate:
    judged = [group for group in evaluation.subgroups if group.events >= rules.subgroups.minimum_events]
    bad = [
        group.name for group in judged
        if group.auroc_gap.high < -rules.subgroups.auroc_drop
        or group.observed_to_expected.high < rules.subgroups.observed_to_expected_low
        or group.observed_to_expected.low > rules.subgroups.observed_to_expected_high
    ]
    reason = f"far worse in {', '.join(bad)}" if bad else f"none of {len(judged)} subgroups with enough events far worse"
    return Gate("no_subgroup_far_worse", not bad, reason)


def _not_worse_than_champion(evaluation: Evaluation, rules: GateRules) -> Gate:
    found = evaluation.differences["champion"]["auroc"]
    ratio = evaluation.model["brier"].value / evaluation.scores["champion"]["brier"].value
    passed = (found.value >= rules.champion.minimum_difference and found.high >= 0
              and ratio <= rules.champion.brier_ratio)
    return Gate("not_worse_than_champion", passed, f"AUROC minus the champion's: {found}; Brier ratio {ratio:.3f}")
