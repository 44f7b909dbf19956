"""What came of a demo: one dictionary for machines, and the same as tables for people."""

from collections import defaultdict
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from core.lake import read_lake
from core.publication import published
from core.settings import Settings
from core.store import Alert, DriftVerdict, GateResult, ModelEvent, store_session
from cuff_demo_ask import answers_table
from cuff_demo_live import live_lines

_SHOWN = ("auroc", "calibration_slope", "calibration_intercept")
MARTS = {
    "clinical": {"core": ("dim_patients", "fct_encounters", "fct_blood_pressure", "fct_measurements", "fct_conditions",
                          "fct_medications"),
                 "ml": ("hypertension_examples", "patient_features"), "scores": ("predictions",)},
    "analytics": {"analytics": (), "ops": ()},  # every table of these schemas
}


def summarise(settings: Settings, timings: list[Any]) -> dict[str, Any]:
    """Everything worth knowing, read from the ops database and the published lake."""
    from ehr.ledger import ledger_totals

    now = published(settings)
    with store_session(settings) as session:
        events = session.scalars(select(ModelEvent).order_by(ModelEvent.model_event_id)).all()
        verdicts = session.scalars(select(DriftVerdict).order_by(DriftVerdict.drift_verdict_id)).all()
        alerts = session.scalars(select(Alert).order_by(Alert.alert_id)).all()
        gates = session.scalars(select(GateResult).order_by(GateResult.gate_result_id)).all()
    ledger = [line.as_dict() for line in ledger_totals(settings)]
    return {
        "published": {"build_id": now.build_id, "as_of": now.as_of.isoformat(),
                      "clinical_snapshot": now.clinical_snapshot, "analytics_snapshot": now.analytics_snapshot},
        "ledger": ledger,
        "ledger_balances": all(
            line["received"] == line["accepted"] + line["duplicate"] + line["ignored"] + line["quarantined"]
            for line in ledger),
        "marts": mart_rows(settings),
        "gates": [{"suite": gate.suite, "build_id": gate.build_id, "passed": gate.passed, "evaluated": gate.evaluated,
                   "failed": gate.failed, "warned": gate.warned} for gate in gates],
        "model_events": [{"action": event.action, "model_version": event.model_version,
                          "previous_version": event.previous_version, "why": event.why, "evidence": event.evidence}
                         for event in events],
        "drift": [{"as_of": verdict.as_of.isoformat(), "model_version": verdict.model_version,
                   "verdict": verdict.verdict, "reasons": verdict.reasons, "emitted": verdict.emitted,
                   "report": verdict.report_path} for verdict in verdicts],
        "alerts": [{"severity": alert.severity, "kind": alert.kind, "summary": alert.summary} for alert in alerts],
        "dag_runs": [asdict(timing) for timing in timings],
    }


def was_retraining_asked_for(settings: Settings) -> bool:
    """Whether the newest verdict of the monitor asked for a new model."""
    with store_session(settings) as session:
        newest = session.scalars(select(DriftVerdict).order_by(DriftVerdict.drift_verdict_id.desc()).limit(1)).first()
        return newest is not None and newest.emitted


def mart_rows(settings: Settings) -> dict[str, int]:
    """Published rows by ``schema.table``; predictions are counted as they stand now."""
    rows = {}
    with read_lake(settings, snapshots=published(settings).snapshots) as lake:
        for catalog, schemas in MARTS.items():
            for schema, wanted in schemas.items():
                found = {name for (name,) in lake.execute(
                    "select table_name from duckdb_tables() where database_name = $1 and schema_name = $2",
                    [catalog, schema]).fetchall()}
                for table in sorted(found & set(wanted) if wanted else found):
                    counted = lake.execute(f"select count(*) from {catalog}.{schema}.{table}").fetchone()
                    rows[f"{schema}.{table}"] = int(counted[0]) if counted else 0
    return rows


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """The tables at the end of the demo."""
    console.print(_ledger_table(summary["ledger"]))
    marts = Table("mart", "rows", title="Published marts", title_justify="left")
    for name, rows in summary["marts"].items():
        marts.add_row(name, f"{rows:,}")
    console.print(marts)
    console.print(_models_table(summary["model_events"]))
    drift = Table("as of", "model", "verdict", "why", title="Drift", title_justify="left")
    for verdict in summary["drift"]:
        drift.add_row(verdict["as_of"], str(verdict["model_version"]), verdict["verdict"],
                      "\n".join(map(str, verdict["reasons"])))
    console.print(drift)
    for event in (each for each in summary["model_events"] if each["action"] != "registered"):
        console.print(f"decision: version {event['model_version']} [bold]{event['action']}[/]: {event['why']}",
                      soft_wrap=True)
    for alert in summary["alerts"]:
        console.print(f"alert ({alert['severity']}): {alert['summary']}", soft_wrap=True)
    for line in live_lines(summary["live"]) if summary["live"] else ():
        console.print(line, soft_wrap=True, highlight=False)
    if summary["served"]:
        console.print(answers_table(summary["served"]))
    console.print(f"{summary['seconds']:.0f} s, at most {summary['peak_memory_mb']} MB")


def _ledger_table(ledger: list[dict[str, Any]]) -> Table:
    columns = ("received", "accepted", "duplicate", "ignored", "quarantined")
    totals: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(columns, 0))
    for line in ledger:
        for column in columns:
            totals[line["source_id"], line["unit"]][column] += line[column]
    table = Table("source", "unit", *columns, title="Ledger", title_justify="left")
    for (source, unit), counts in sorted(totals.items()):
        table.add_row(source, unit + "s", *(f"{counts[column]:,}" for column in columns))
    return table


def _models_table(events: list[dict[str, Any]]) -> Table:
    table = Table("model", "decision", "AUC", "calibration slope", "calibration intercept", title="Models, on test rows",
                  title_justify="left")
    for event in events:
        if event["action"] not in ("promoted", "held"):
            continue
        metrics = event["evidence"].get("metrics", {})
        for prefix, role in (("test", "challenger"), ("champion", "champion then"), ("framingham", "Framingham score"),
                             ("logistic_regression", "logistic regression")):
            if f"{prefix}_auroc" not in metrics:
                continue
            version = {"test": event["model_version"], "champion": event["previous_version"]}.get(prefix)
            table.add_row(f"version {version}, {role}" if version else role, event["action"] if prefix == "test" else "",
                          *(_interval(metrics, f"{prefix}_{name}") for name in _SHOWN))
        table.add_section()
    return table


def _interval(metrics: dict[str, float], name: str) -> str:
    if name not in metrics:
        return ""
    value = f"{metrics[name]:.3f}"
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return value if low is None or high is None else f"{value} ({low:.3f} to {high:.3f})"
