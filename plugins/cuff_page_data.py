"""What the Cuff page shows, read from the ops database: counts, states and names of things, never a patient's value."""

from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.champion import champion_version
from core.publication import find_published
from core.serving_tables import SkewCheck
from core.settings import Settings
from core.store import Alert, Build, DriftVerdict, GateResult, ModelEvent, ScoringRun, store_session
from cuff_charts import Bar, Point, Share, bars, chart, shares

_FEATURES = 8  # of the chart by feature
_COUNTS = ("received", "accepted", "duplicate", "ignored", "quarantined")


def page_data(settings: Settings) -> dict[str, Any]:
    """Everything the template needs."""
    champion = champion_version(settings)
    with store_session(settings) as session:
        events = list(session.scalars(select(ModelEvent).order_by(ModelEvent.model_event_id)))
        verdicts = list(session.scalars(
            select(DriftVerdict).order_by(DriftVerdict.drift_verdict_id.desc()).limit(14)))
        return {
            "published": find_published(settings),
            "last_build": session.scalars(select(Build).order_by(Build.build_id.desc()).limit(1)).first(),
            "gates": _newest_gates(session),
            "ledger": _ledger(settings),
            "feeds": _feeds(settings),
            "champion": champion,
            "champion_event": _crowning(events, champion),
            "events": [event for event in reversed(events) if event.action != "registered"][:8],
            "charts": _charts(session, events),
            "verdict": verdicts[0] if verdicts else None,
            "verdicts": list(reversed(verdicts)),
            "alerts": list(session.scalars(select(Alert).order_by(Alert.alert_id.desc()).limit(8))),
            "links": _links(settings, verdicts[0].report_path if verdicts else None),
        }


def _newest_gates(session: Session) -> list[GateResult]:
    newest: dict[str, GateResult] = {}
    for result in session.scalars(select(GateResult).order_by(GateResult.gate_result_id.desc()).limit(50)):
        newest.setdefault(result.suite, result)
    return [newest[suite] for suite in ("landed", "marts", "training_set", "prediction_log") if suite in newest]


def _ledger(settings: Settings) -> list[dict[str, Any]]:
    """One row per source and unit, summed over types."""
    from ehr.ledger import ledger_totals

    totals: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_COUNTS, 0))
    for line in ledger_totals(settings):
        for name in _COUNTS:
            totals[line.source_id, line.unit][name] += getattr(line, name)
    return [{"source": source, "unit": unit, **counts,
             "balances": counts["received"] == sum(counts[name] for name in _COUNTS[1:])}
            for (source, unit), counts in sorted(totals.items())]


def _feeds(settings: Settings) -> list[dict[str, Any]]:
    """Each feed with its chart of the last two days."""
    from ehr.live.feeds import duration, hours_of_feeds, list_feeds

    hours = hours_of_feeds(settings)
    return [{
        "feed": feed, "last": duration(feed.silent_seconds), "waited": duration(feed.waiting_seconds),
        "chart": bars([Bar(f"{each.hour_at:%d %b, %H:00} UTC", each.received, each.expected, _mark(each.hour_at))
                       for each in hours.get((feed.source_id, feed.feed), ())],
                      f"Messages an hour from {feed.source_id} over {feed.feed}, 48 hours, and what is usual"),
    } for feed in list_feeds(settings)]


def _mark(hour_at: datetime) -> str:
    return f"{hour_at:%d %b}" if hour_at.hour == 0 else f"{hour_at:%H:00}" if hour_at.hour in (6, 12, 18) else ""


def _crowning(events: list[ModelEvent], champion: int | None) -> dict[str, Any] | None:
    """The newest evaluation of the champion: who promoted it and what it scored."""
    for event in reversed(events):
        if champion is not None and event.model_version == champion and event.action in ("promoted", "rolled_back"):
            metrics = next((each.evidence["metrics"] for each in reversed(events)
                            if each.model_version == champion and "metrics" in each.evidence), {})
            return {"event": event, "metrics": metrics}
    return None


def _charts(session: Session, events: list[ModelEvent]) -> dict[str, str]:
    from ml.monitoring.rules import load_rules

    judged = [event for event in events if event.action in ("promoted", "held") and "metrics" in event.evidence][-12:]

    def points(name: str) -> list[Point]:
        return [
            Point(f"v{event.model_version}", metrics[name], metrics.get(f"{name}_low"), metrics.get(f"{name}_high"),
                  event.action == "promoted")
            for event in judged if name in (metrics := event.evidence["metrics"])
        ]

    runs = list(session.scalars(select(ScoringRun).order_by(ScoringRun.scoring_run_id.desc()).limit(14)))
    risk = [Point(run.as_of.strftime("%d %b"), 100 * run.mean_risk) for run in reversed(runs)
            if run.mean_risk is not None]
    checks = list(session.scalars(select(SkewCheck).order_by(SkewCheck.skew_check_id.desc()).limit(14)))
    skew = [Point(check.checked_at.strftime("%d %b"), 100 * check.mismatched / check.compared, is_strong=check.mismatched > 0)
            for check in reversed(checks) if check.compared]
    compared, unlike = sum(check.compared for check in checks), Counter[str]()
    for check in checks:
        unlike.update(check.by_feature)
    return {
        "auc": chart(points("test_auroc"), "Area under the ROC curve on test rows, by model version"),
        "slope": chart(points("test_calibration_slope"), "Calibration slope on test rows, by model version", reference=1),
        "risk": chart(risk, "Mean predicted risk in percent, by scoring run", digits=1),
        "skew": chart(skew, "Predictions of the API made from other features than the published, in percent, by night",
                      digits=1, reference=0),
        "skew_by_feature": shares([Share(name, 100 * number / compared) for name, number in unlike.most_common(_FEATURES)],
                                  "Features served unlike published, in percent of the same nights' predictions",
                                  bound=100 * load_rules().skew.mismatch_rate),
    }


def _links(settings: Settings, report: str | None) -> list[tuple[str, str, str]]:
    """(title, address, what it is) of what exists; reports are served below this page, under the same login."""
    found = [("MLflow", f"http://127.0.0.1:{settings.mlflow_port}", "runs, metrics, model cards")]
    for title, path, what in (("Drift report", report, "the last verdict, feature by feature"),
                              ("dbt docs", "dbt/index.html", "every table, column and test"),
                              *_data_docs(settings)):
        if path and (settings.reports_dir / path).is_file():
            found.append((title, f"reports/{path}", what))
    return found


def _data_docs(settings: Settings) -> list[tuple[str, str, str]]:
    pages: list[Path] = sorted((settings.reports_dir / "gx").glob("*/index.html"))
    return [(f"Data Docs: {page.parent.name}", str(page.relative_to(settings.reports_dir)), "what the gate checked")
            for page in pages]
