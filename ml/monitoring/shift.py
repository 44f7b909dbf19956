"""Has the world changed? Readings against the person's own level, visitors against visitors, risks against risks."""

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
from duckdb import DuckDBPyConnection

from ml.monitoring.effects import Effect, between_window_variance, mean_shift, mix_shift
from ml.monitoring.metrics import DriftMetric, judged
from ml.monitoring.rules import Rules
from ml.monitoring.windows import Window, served_risk, visitors, within_person

if TYPE_CHECKING:
    import pandas as pd

    from ml.monitoring.champion import ChampionReference


def within_person_metrics(current: "pd.DataFrame", reference: "pd.DataFrame", window: Window,
                          rules: Rules) -> list[DriftMetric]:
    """Shift of readings against people's own levels; frames as `windows.within_person` gives them."""
    found = []
    if len(reference) < rules.sample.reference or current.empty:
        return []
    ordinal = reference["event_date"].to_numpy(dtype="datetime64[D]").astype(np.int64)
    for feature in rules.within_person.features:
        then = reference[feature].to_numpy(dtype=float)
        between = between_window_variance(then, ordinal // max(1, window.days))
        effect = mean_shift(current[feature].to_numpy(dtype=float), then, between_variance=between,
                            design_effect=rules.confidence.design_effect)
        reason = (f"{_named(feature)} reads {_direction(effect)} than people's own level of the year before by "
                  f"{abs(effect.value):.2f} SD ({effect.n} person-days, {window.name})")
        found.append(judged("feature", f"{feature}_within_person", "smd", effect, rules.within_person,
                            rules.confidence.level, window.name, rules.sample.visits, reason))
    return found


def visitor_metrics(current: "pd.DataFrame", reference: "pd.DataFrame", window: Window,
                    rules: Rules) -> list[DriftMetric]:
    """Means and mixes of people seen, visit by visit; frames as `windows.visitors` gives them."""
    found: list[DriftMetric] = []
    level, design = rules.confidence.level, rules.confidence.design_effect
    if current.empty or len(reference) < rules.sample.reference:
        return found
    for feature in rules.visitors.features:
        now, then = (frame[feature].dropna().to_numpy(dtype=float) for frame in (current, reference))
        if then.size < rules.sample.reference or now.size < 2:
            continue
        effect = mean_shift(now, then, design_effect=design)
        reason = (f"people seen differ in {feature}: {_direction(effect)} by {abs(effect.value):.2f} SD "
                  f"({effect.n} visits, {window.name})")
        found.append(judged("feature", feature, "smd", effect, rules.visitors, level, window.name,
                            rules.sample.visits, reason))
    for feature in rules.mix.features:
        now_counts, then_counts = (_counts(frame, feature)
                                   for frame in (current, reference))
        category, effect = mix_shift(now_counts, then_counts, design_effect=design)
        reason = (f"the mix of {feature} among people seen moved: {category} by h = {effect.value:+.2f} "
                  f"({effect.n} visits, {window.name})")
        found.append(judged("feature", feature, "cohen_h", effect, rules.mix, level, window.name,
                            rules.sample.visits, reason))
    return found


def prediction_metrics(lake: DuckDBPyConnection, champion: "ChampionReference", window: Window,
                       rules: Rules) -> list[DriftMetric]:
    """Logit risk of people seen in the window, newest run, against the same model's run nearest its training."""
    now = served_risk(lake, champion.model_version, window.end)
    first = lake.execute(
        "select min(as_of) from clinical.scores.predictions where model_version::varchar = $1::varchar",
        [str(champion.model_version)]).fetchone()
    if now.empty or first is None or first[0] is None:
        return []
    baseline = served_risk(lake, champion.model_version, first[0])
    back = timedelta(rules.windows.visit_lookback_days)
    seen_now = visitors(lake, window.start, window.end, window.end, rules, heard=True)[["patient_key"]]
    seen_then = visitors(lake, first[0] - back, first[0], first[0], rules, heard=False)[["patient_key"]]
    current, reference = (_logit(seen.merge(risks, on="patient_key")["risk"].to_numpy(dtype=float))
                          for seen, risks in ((seen_now, now), (seen_then, baseline)))
    if reference.size < rules.sample.reference or current.size < 2:
        return []
    effect = mean_shift(current, reference, design_effect=rules.confidence.design_effect)
    reason = f"risk of people seen is {_direction(effect)} by {abs(effect.value):.2f} SD of its logit ({window.name})"
    return [judged("prediction", "risk", "smd_logit", effect, rules.prediction, rules.confidence.level, window.name,
                   rules.sample.visits, reason)]


def within_person_frames(published: DuckDBPyConnection, trained: DuckDBPyConnection, champion: "ChampionReference",
                         window: Window, rules: Rules) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """(current, reference) of a window: the reference ends where training data or the window's start does."""
    end = min(champion.as_of, window.start)
    return (within_person(published, window.start, window.end),
            within_person(trained, end - timedelta(rules.windows.reference_days), end))


def _counts(frame: "pd.DataFrame", feature: str) -> dict[str, int]:
    return {str(category): int(n) for category, n in frame[feature].dropna().astype(str).value_counts().items()}


def _logit(risk: np.ndarray) -> np.ndarray:
    clipped = np.clip(risk, 1e-4, 1 - 1e-4)
    return np.log(clipped / (1 - clipped))


def _direction(effect: Effect) -> str:
    return "higher" if effect.value > 0 else "lower"


def _named(feature: str) -> str:
    return {"systolic_mmhg": "systolic pressure", "diastolic_mmhg": "diastolic pressure"}.get(feature, feature)
