"""Drift pages: our own summary first, Evidently's report behind it. Aggregates only, nobody's row.

Evidently embeds raw values of the current window column by column, in row order. So before it sees a frame, each
column is shuffled on its own (no row is left), and numbers are drawn to a coarse grid (no value is left).
"""

import html
import os
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import select

from core.publication import Published
from core.settings import Settings
from core.store import DriftVerdict, store_session
from ml.monitoring.metrics import DriftMetric
from ml.monitoring.rules import Rules

if TYPE_CHECKING:
    import pandas as pd

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b2733}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #dde3ea}
.fine{color:#1a7f4b}.drift{color:#b25e00}.data_fault{color:#b3261e}.insufficient_data{color:#5a6772}
.breached td{background:#fff1e5}"""


def write_pages(settings: Settings, now: Published, model_version: int, verdict: str, reasons: list[str],
                metrics: list[DriftMetric], current: "pd.DataFrame", reference: "pd.DataFrame", rules: Rules,
                with_report: bool = True) -> str:
    """Write the pages of one judgement, Evidently's report where there is enough to report and it is wanted; returns the
    summary's path relative to the reports folder."""
    folder = settings.reports_dir / "drift" / f"build-{now.build_id}-model-{model_version}"
    folder.mkdir(parents=True, exist_ok=True)
    has_report = with_report and len(current) >= rules.sample.visits and len(reference) >= rules.sample.reference
    if has_report:
        metrics += _evidently(current, reference, folder / "evidently.html", rules, settings.seed)
    (folder / "index.html").write_text(
        _summary(settings, now, model_version, verdict, reasons, metrics, has_report, rules))
    return str((folder / "index.html").relative_to(settings.reports_dir))


def without_rows(frame: "pd.DataFrame", reference: "pd.DataFrame", grid: int, seed: int) -> "pd.DataFrame":
    """The frame with each column shuffled on its own and numbers drawn to ``grid`` levels of the reference's 1-99%."""
    import pandas as pd

    generator = np.random.default_rng(seed)
    out = {}
    for name in frame:
        column = frame[name].to_numpy(dtype=object)
        if pd.api.types.is_numeric_dtype(reference[name]) and not pd.api.types.is_bool_dtype(reference[name]):
            low, high = reference[name].quantile([0.01, 0.99])
            step = (high - low) / grid or 1.0
            numbers = frame[name].to_numpy(dtype=float)
            column = np.round(low + np.round((np.clip(numbers, low, high) - low) / step) * step, 2)
        else:
            column = np.array([None if pd.isna(value) else str(value) for value in column], dtype=object)
        out[name] = generator.permutation(column)
    return pd.DataFrame(out)


def _evidently(current: "pd.DataFrame", reference: "pd.DataFrame", path: os.PathLike[str], rules: Rules,
               seed: int) -> list[DriftMetric]:
    """Write Evidently's page; its numbers, kept and not judged: they know no interval for small windows."""
    os.environ["DO_NOT_TRACK"] = "1"  # before the import: telemetry reads it
    import warnings

    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    sample = reference.sample(min(len(reference), rules.report.reference_rows), random_state=seed)
    columns = [name for name in sample if sample[name].notna().any() and current[name].notna().any()]
    now, then = (without_rows(frame[columns], sample[columns], rules.report.grid, seed) for frame in (current, sample))
    numbers = [name for name in columns if pd.api.types.is_numeric_dtype(then[name])]
    definition = DataDefinition(numerical_columns=numbers,
                                categorical_columns=[name for name in columns if name not in numbers])
    report = Report([
        DataDriftPreset(columns=columns, num_method="wasserstein", cat_method="jensenshannon"),
        DataSummaryPreset(columns=columns),
    ])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = report.run(Dataset.from_pandas(now, data_definition=definition),
                         Dataset.from_pandas(then, data_definition=definition))
        run.save_html(str(path))
    return [
        DriftMetric("feature", found["config"]["column"], f"evidently_{found['config']['method']}",
                    float(found["value"]), None, False, "evidently", len(now))
        for found in run.dict()["metrics"] if found["metric_name"].startswith("ValueDrift")
    ]


def _summary(settings: Settings, now: Published, model_version: int, verdict: str, reasons: list[str],
             metrics: list[DriftMetric], has_report: bool, rules: Rules) -> str:
    listed = "".join(f"<li>{html.escape(reason)}</li>" for reason in reasons) or "<li>nothing breached its rule</li>"
    rows = "".join(
        f"<tr class='{'breached' if m.is_breached else ''}'><td>{html.escape(m.kind)}</td>"
        f"<td>{html.escape(m.feature)}</td><td>{html.escape(m.statistic)}</td><td>{m.value:.3f}</td>"
        f"<td>{'' if m.threshold is None else f'{m.threshold:.2f}'}</td><td>{m.n}</td></tr>"
        for m in sorted(metrics, key=lambda m: (not m.is_breached, m.threshold is None, m.kind, m.feature)))
    link = "<p><a href='evidently.html'>Evidently's full report</a></p>" if has_report else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Drift, {now.as_of}</title>
<style>{_STYLE}</style></head><body>
<h1>Drift as of {now.as_of}: <span class="{verdict}">{verdict.replace("_", " ")}</span></h1>
<p>Build {now.build_id}, model version {model_version or "none yet"}.</p><ul>{listed}</ul>
{_sparkline(settings, rules)}{link}
<table><thead><tr><th>kind</th><th>feature</th><th>statistic</th><th>value</th><th>threshold</th><th>n</th></tr></thead>
<tbody>{rows}</tbody></table></body></html>
"""


def _sparkline(settings: Settings, rules: Rules) -> str:
    """The newest verdicts as dots, oldest left: how often, and when, the monitor spoke."""
    with store_session(settings) as session:
        history = list(session.execute(
            select(DriftVerdict.as_of, DriftVerdict.verdict).order_by(DriftVerdict.drift_verdict_id.desc())
            .limit(rules.report.history)))[::-1]
    if not history:
        return ""
    dots = "".join(f"<circle class='{kind}' cx='{12 * i + 8}' cy='10' r='4' fill='currentColor'><title>{day} {kind}"
                   f"</title></circle>" for i, (day, kind) in enumerate(history))
    return f"<p>Verdicts before: <svg width='{12 * len(history) + 8}' height='20' role='img'>{dots}</svg></p>"
