"""Once labels have matured: how past predictions did. Discrimination and calibration, with intervals.

The label is that of `ml.hypertension_examples`, for predictions made on any day: within the horizon a first
diagnosis, a first antihypertensive, or a second day with a reading >= 140/90; without one, followed up to the
horizon's end.
"""

from datetime import date
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from duckdb import DuckDBPyConnection

from ml.monitoring.metrics import DriftMetric
from ml.monitoring.rules import Rules

if TYPE_CHECKING:
    from ml.monitoring.champion import ChampionReference

_MATURED = """
with runs as (
    select max(scoring_run_id) as scoring_run_id from clinical.scores.predictions
    where as_of <= $1::date and as_of > $1::date - $2::int
),
scored as (
    select patient_key, as_of, risk from clinical.scores.predictions join runs using (scoring_run_id)
    where risk is not null
),
elevated as (
    select distinct patient_key, event_date from clinical.core.fct_blood_pressure
    where is_current and is_plausible and (systolic_mmhg >= 140 or diastolic_mmhg >= 90)
),
second_days as (
    select patient_key, event_date from elevated
    qualify row_number() over (partition by patient_key order by event_date) = 2
),
events as (
    select patient_key, min(event_date) as event_date from (
        select patient_key, event_date from clinical.core.fct_conditions where is_current and concept = 'hypertension'
        union all
        select patient_key, event_date from clinical.core.fct_medications
        where is_current and concept = 'antihypertensive'
        union all
        select patient_key, event_date from second_days
    ) group by all
)
select s.risk, coalesce(e.event_date <= s.as_of + $2::int, false) as label
from scored s
join clinical.core.dim_patients p using (patient_key)
left join events e using (patient_key)
where (e.event_date is null or e.event_date > s.as_of)
    and (e.event_date <= s.as_of + $2::int or cast(p.last_event_at as date) >= s.as_of + $2::int)
order by s.patient_key
"""


def performance_metrics(lake: DuckDBPyConnection, champion: "ChampionReference", matured_by: date,
                        rules: Rules) -> list[DriftMetric]:
    """Metrics of the newest run of the year up to ``matured_by``; none while no run is that old."""
    frame = lake.execute(_MATURED, [matured_by, rules.performance.horizon_days]).df()
    return judge_performance(frame["risk"].to_numpy(dtype=float), frame["label"].to_numpy(dtype=bool),
                             champion.test_auc, rules)


def judge_performance(risk: np.ndarray, label: np.ndarray, test_auc: float | None, rules: Rules) -> list[DriftMetric]:
    """AUC, observed over expected and calibration slope of matured predictions, each against its rule."""
    events, n, rule = int(label.sum()), int(label.size), rules.performance
    if events < rule.minimum_events or n - events < rule.minimum_events:
        return []
    auc, auc_error = _auc(risk, label)
    floor = test_auc - rule.auc_drop if test_auc is not None else rule.auc_floor
    worse = auc + 1.96 * auc_error < floor
    ratio = events / float(risk.sum())
    ratio_error = sqrt((1 - events / n) / events)  # of its logarithm
    off = ratio * np.exp(1.96 * ratio_error) < rule.observed_expected[0] or (
        ratio * np.exp(-1.96 * ratio_error) > rule.observed_expected[1])
    slope, slope_error = _calibration_slope(risk, label)
    bent = slope + 1.96 * slope_error < rule.slope[0] or slope - 1.96 * slope_error > rule.slope[1]
    return [
        DriftMetric("performance", "risk", "auroc", auc, floor, worse, "matured", n,
                    f"refit: AUC of matured predictions is {auc:.3f}, below {floor:.3f}" if worse else ""),
        DriftMetric("performance", "risk", "observed_expected", ratio, rule.observed_expected[ratio > 1], bool(off),
                    "matured", n, f"recalibrate: {ratio:.2f} events were seen for each one predicted" if off else ""),
        DriftMetric("performance", "risk", "calibration_slope", slope, rule.slope[slope > 1], bent, "matured", n,
                    f"recalibrate: calibration slope of matured predictions is {slope:.2f}" if bent else ""),
    ]


def _auc(risk: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """AUC (Mann-Whitney) and its standard error (Hanley and McNeil, Radiology 1982;143:29-36)."""
    from scipy.stats import rankdata

    positives, negatives = int(label.sum()), int((~label).sum())
    auc = float((rankdata(risk)[label].sum() - positives * (positives + 1) / 2) / (positives * negatives))
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)) / (
        positives * negatives)
    return auc, sqrt(max(variance, 0.0))


def _calibration_slope(risk: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Slope of label on logit risk and its standard error, by Newton's method (Cox 1958)."""
    clipped = np.clip(risk, 1e-4, 1 - 1e-4)
    design = np.column_stack([np.ones(clipped.size), np.log(clipped / (1 - clipped))])
    beta = np.array([0.0, 1.0])
    for _ in range(25):
        fitted = 1 / (1 + np.exp(-(design @ beta)))
        information = design.T @ (design * (fitted * (1 - fitted))[:, None])
        step = np.linalg.solve(information, design.T @ (label - fitted))
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return float(beta[1]), sqrt(float(np.linalg.inv(information)[1, 1]))
