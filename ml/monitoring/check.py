"""The nightly judgement: read the published build and the champion's data, measure, conclude, keep, tell."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from core.alerts import raise_alert
from core.lake import SnapshotNumbers, read_lake
from core.publication import Published, published
from core.settings import Settings
from core.store import DriftVerdict
from ml.monitoring.champion import ChampionReference, champion_reference
from ml.monitoring.cooldown import alert_is_due, may_retrain
from ml.monitoring.metrics import DriftMetric
from ml.monitoring.pages import write_pages
from ml.monitoring.performance import performance_metrics
from ml.monitoring.quality import null_metrics, quality_metrics
from ml.monitoring.record import breaches_of, judged_days, keep_verdict, verdict_of
from ml.monitoring.rules import Rules, load_rules
from ml.monitoring.shift import prediction_metrics, visitor_metrics, within_person_frames, within_person_metrics
from ml.monitoring.windows import has_snapshot, reference_visitors, table_exists, visitors, windows_of

if TYPE_CHECKING:
    import pandas as pd

FEATURES = [
    "age_years", "sex", "systolic_last_mmhg", "diastolic_last_mmhg", "systolic_mean_12m_mmhg",
    "diastolic_mean_12m_mmhg", "systolic_slope_mmhg_per_year", "systolic_sd_12m_mmhg",
    "pulse_pressure_last_mmhg", "blood_pressure_count_12m",
    "blood_pressure_age_days", "bmi_last_kg_m2", "bmi_change_12m_kg_m2", "heart_rate_last_bpm", "glucose_last_mg_dl",
    "hba1c_last_pct", "creatinine_last_mg_dl", "egfr_last_ml_min", "total_cholesterol_last_mg_dl", "ldl_last_mg_dl",
    "hdl_last_mg_dl", "triglycerides_last_mg_dl", "smoking_status", "has_diabetes", "has_chronic_kidney_disease",
    "drug_count_12m", "visit_count_12m",
]


@dataclass(frozen=True)
class DriftOutcome:
    """What the monitor concluded. ``report_path`` is relative to ``settings.reports_dir``."""

    verdict: str  # fine | data_fault | drift | insufficient_data
    reasons: list[str]
    drift_verdict_id: int
    report_path: str | None
    should_retrain: bool
    metrics: list[DriftMetric] = field(default_factory=list, repr=False)


@dataclass
class Measured:
    """The numbers of one judgement, and the frames behind its pages."""

    metrics: list[DriftMetric]
    current: "pd.DataFrame"
    reference: "pd.DataFrame"
    notes: list[str] = field(default_factory=list)  # what the reader of the verdict should know beside it


def check_drift(settings: Settings, with_report: bool = True) -> DriftOutcome:
    """Judge the published build against the champion's training data; once per build and model version.

    A second call on the same build returns the first verdict. It asks for retraining as the first did, until
    `mark_emitted` says that it was passed on: a run that died in between is made good by the next.
    Evidently's report is three quarters of the work and no part of the verdict: who judges many builds in a row may go
    without. Errors: `NotPublishedError` when there is nothing to judge.
    """
    return judge(settings, champion_reference(settings), with_report)


def judge(settings: Settings, champion: ChampionReference | None, with_report: bool = True) -> DriftOutcome:
    """`check_drift` for a given champion; None (no model yet) watches the feed alone."""
    now, rules = published(settings), load_rules()
    model_version = champion.model_version if champion else 0
    metrics: list[DriftMetric] = []
    kept = verdict_of(settings, now.build_id, model_version)
    if kept is None:
        measured = measure(settings, now, champion, rules)
        metrics = measured.metrics
        verdict, reasons = conclude(metrics)
        reasons += measured.notes
        report_path = write_pages(settings, now, model_version, verdict, reasons, metrics, measured.current,
                                  measured.reference, rules, with_report)
        kept = keep_verdict(settings, DriftVerdict(build_id=now.build_id, as_of=now.as_of, model_version=model_version,
                                                   verdict=verdict, reasons=reasons, report_path=report_path), metrics)
    _tell(settings, kept, rules)
    should_retrain = kept.verdict == "drift" and not kept.emitted and may_retrain(settings, kept.as_of)
    return DriftOutcome(kept.verdict, kept.reasons, kept.drift_verdict_id, kept.report_path, should_retrain, metrics)


def measure(settings: Settings, now: Published, champion: ChampionReference | None, rules: Rules) -> Measured:
    """Every metric of every window."""
    import pandas as pd

    metrics: list[DriftMetric] = []
    windows = windows_of(now.as_of, judged_days(settings), rules)
    current, reference = pd.DataFrame(), pd.DataFrame()
    with read_lake(settings, ("clinical",), SnapshotNumbers(clinical=now.clinical_snapshot)) as lake:
        for window in windows:
            metrics += quality_metrics(lake, window, rules)
        if champion is None:
            return Measured(metrics, current, reference)
        number, notes = champion.clinical_snapshot, []
        if not has_snapshot(lake, number):
            # Features are point-in-time, so the same days read today are nearly what the champion saw.
            notes = [f"snapshot {number}, which the champion was trained on, is gone: its days are read as published now"]
            number = now.clinical_snapshot
        with read_lake(settings, ("clinical",), SnapshotNumbers(clinical=number)) as trained:
            reference = reference_visitors(trained, champion.as_of, rules)
            for window in windows:
                shifts = within_person_frames(lake, trained, champion, window, rules)
                metrics += within_person_metrics(*shifts, window, rules)
                seen = visitors(lake, window.start, window.end, now.as_of, rules, heard=True)
                metrics += visitor_metrics(seen, reference, window, rules)
                metrics += null_metrics(seen, reference, FEATURES, window, rules)
                current = seen if len(seen) > len(current) else current
    # Scores are written after publication: they are read at the newest snapshot.
    with read_lake(settings, ("clinical",)) as lake:
        if table_exists(lake, "scores", "predictions"):
            for window in windows:
                metrics += prediction_metrics(lake, champion, window, rules)
            metrics += performance_metrics(lake, champion, now.as_of - timedelta(rules.performance.horizon_days), rules)
    return Measured(metrics, current[FEATURES] if len(current) else current,
                    reference[FEATURES] if len(reference) else reference, notes)


def conclude(metrics: list[DriftMetric]) -> tuple[str, list[str]]:
    """(verdict, reasons). A data fault comes before drift: a broken feed looks like a changed world."""
    faults = [m.reason for m in metrics if m.is_breached and m.kind == "quality"]
    drifts = [m.reason for m in metrics if m.is_breached and m.kind != "quality"]
    if faults:
        return "data_fault", faults
    if drifts:
        return "drift", drifts
    if not any(m.threshold is not None for m in metrics if m.kind != "quality"):
        return "insufficient_data", ["too few visits in the window, or no champion, to compare with its training data"]
    return "fine", []


def _tell(settings: Settings, verdict: DriftVerdict, rules: Rules) -> None:
    """Alert when it is due; a verdict that was told is not told again, so that a run that died here can be repeated."""
    if verdict.verdict not in ("drift", "data_fault"):
        return
    condition = sorted({f"{kind}:{feature}" for kind, feature in breaches_of(settings, verdict.drift_verdict_id)
                        if (kind == "quality") == (verdict.verdict == "data_fault")})
    if alert_is_due(settings, verdict.verdict, condition, verdict.as_of, rules.repeat_after_days):
        raise_alert(settings, "critical" if verdict.verdict == "data_fault" else "warning", verdict.verdict,
                    verdict.reasons[0], {"as_of": verdict.as_of.isoformat(), "condition": condition,
                                         "reasons": verdict.reasons, "report": verdict.report_path,
                                         "drift_verdict_id": verdict.drift_verdict_id})
