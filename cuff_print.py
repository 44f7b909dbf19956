"""What the command line shows: tables for people, one JSON document for machines, progress on standard error."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ehr.ingest import IngestSummary
    from ehr.live.feeds import Feed
    from ml.monitoring import DriftOutcome
    from ml.registry import ModelSummary
    from ml.training import TrainingOutcome

Advance = Callable[..., None]  # (done, total or None, note="")
_PIPE_WIDTH = 200  # a pipe has no edge to fold at
_FEED_STYLES = {"alive": "green", "quiet": "dim", "new": "cyan", "silent": "bold red", "stuck": "bold red"}
_NOTE_WIDTH = 26  # beside the bar, on a terminal of 80 columns
_METRICS = {"auroc": "AUROC", "brier": "Brier", "calibration_slope": "slope", "calibration_intercept": "intercept",
            "observed_to_expected": "observed / expected"}  # fmt: skip


def _console(stream: Any, **options: Any) -> Console:
    narrow = stream.isatty() or "COLUMNS" in os.environ
    return Console(width=None if narrow else _PIPE_WIDTH, highlight=False, **options)


out, err = _console(sys.stdout), _console(sys.stderr, stderr=True)


def print_error(message: str) -> None:
    """One line on standard error, whatever the message holds."""
    err.print(f"error: {' '.join(message.split())}", style="red", soft_wrap=True, markup=False)


def print_json(document: Any) -> None:
    """One JSON document on standard output: times in ISO 8601, what is no number null."""
    print(json.dumps(_plain(document), indent=2, allow_nan=False))


def print_line(text: str) -> None:
    out.print(text, soft_wrap=True, markup=False)


def print_record(title: str, document: Any) -> None:
    """One thing: its names and values, below each other."""
    table = _table(title, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _fields(document).items():
        table.add_row(name, _text(value))
    out.print(table)


def print_rows(title: str, rows: Sequence[dict[str, Any]], nothing: str = "none") -> None:
    """Many of one kind: a column for each name of the first."""
    if not rows:
        print_line(f"{title}: {nothing}" if title else nothing)
        return
    table = _table(title)
    for name in rows[0]:
        is_number = all(isinstance(row[name], int | float | Decimal | None) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    out.print(table)


def print_ledger(title: str, lines: list[dict[str, Any]]) -> None:
    """What became of everything received, and whether it adds up."""
    print_rows(title, [{name: value for name, value in line.items() if name != "balances"} for line in lines])
    if lines and not all(line["balances"] for line in lines if "balances" in line):
        print_line("the ledger DOES NOT BALANCE")


def print_ingest(summary: "IngestSummary") -> None:
    """The ledger of a run, and how fast it went."""
    print_ledger("Ledger of this run", [line.as_dict() for line in summary.ledger])
    rate = summary.size_bytes / 1e6 / max(summary.seconds, 1e-9)
    print_line(f"{summary.new_payloads} new files, {summary.duplicate_files} seen before, "
               f"{summary.size_bytes / 1e6:.1f} MB in {summary.seconds:.1f} s ({rate:.1f} MB/s); "
               f"the ledger {'balances' if summary.balanced else 'DOES NOT BALANCE'}")  # fmt: skip


def print_training(outcome: "TrainingOutcome") -> None:
    """The decision with its reason, each model on the same test rows, and the gates."""
    print_line(f"version {outcome.model_version} {outcome.decision}: {outcome.why}")
    models = {f"version {outcome.model_version}, challenger": outcome.metrics}
    if outcome.champion_metrics:
        models[f"version {outcome.previous_champion}, champion then"] = outcome.champion_metrics
    models |= {name.replace("_", " "): scores for name, scores in outcome.baselines.items()}
    rows = ", ".join(f"{number:,} to {what}" for what, number in
                     zip(("train", "calibrate", "test"), outcome.rows.values(), strict=True))  # fmt: skip
    table = _table(f"On the test rows, with 95% intervals (rows: {rows})")
    for heading in ("model", *_METRICS.values()):
        table.add_column(heading)
    for name, scores in models.items():
        table.add_row(name, *(_interval(scores[metric].value, scores[metric].low, scores[metric].high)
                              for metric in _METRICS))  # fmt: skip
    out.print(table)
    out.print()
    print_rows("Gates", [{"gate": gate.name, "result": "passed" if gate.passed else "FAILED", "figures": gate.reason}
                         for gate in outcome.gates])  # fmt: skip
    print_line(f"\nMLflow run {outcome.run_id}, build {outcome.build_id}")


def print_drift(outcome: "DriftOutcome", reports: Path) -> None:
    """The verdict, its reasons, and where the pages lie."""
    retrain = "retraining is due: `cuff train --trigger drift`" if outcome.should_retrain else "no retraining is due"
    print_line(f"verdict {outcome.drift_verdict_id}: {outcome.verdict}; {retrain}")
    for reason in outcome.reasons:
        print_line(f"  - {reason}")
    breached = [{"kind": metric.kind, "feature": metric.feature, "statistic": metric.statistic, "value": metric.value,
                 "threshold": metric.threshold} for metric in outcome.metrics if metric.is_breached]  # fmt: skip
    if breached:
        judged = sum(metric.threshold is not None for metric in outcome.metrics)
        print_rows(f"Beyond the threshold: {len(breached)} of {judged} judged", breached)
    if outcome.report_path:
        print_line(f"report: {reports / outcome.report_path}")


def print_models(models: list["ModelSummary"]) -> None:
    """One line per registered version: its place, its origin and its figures on its own test rows."""
    print_rows("hypertension-risk, each on its own test rows", [{
        "version": model.version, "alias": ", ".join(model.aliases), "trained": model.created_at,
        "trigger": model.tags.get("trigger"), "build": model.tags.get("build_id"),
        "events": model.metrics.get("test_events"),
        **{heading: _interval(*(model.metrics.get(f"test_{name}{end}", math.nan) for end in ("", "_low", "_high")))
           for name, heading in _METRICS.items() if name in ("auroc", "calibration_slope")},
    } for model in models], "no version yet; train one with `cuff train`")  # fmt: skip


def print_feeds(feeds: list["Feed"]) -> None:
    """One line per feed, and below in words what somebody should look at."""
    from ehr.live.feeds import duration

    if not feeds:
        print_line("no feed yet; `cuff listen` opens the door, `cuff simulate --send` knocks")
        return
    table = _table("Feeds")
    for heading in ("feed", "state", "a minute", "last 24 hours", "waiting", "quarantine"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "feed")
    for feed in feeds:
        state = "stuck" if feed.is_stuck else feed.state
        usual = "usual unknown" if feed.expected_per_minute is None else f"{feed.expected_per_minute:,.1f} usual"
        table.add_row(
            f"{feed.source_id}\n{feed.feed}",
            Text.assemble((state, _FEED_STYLES[state]), f"\n{duration(feed.silent_seconds)} ago"),
            f"{feed.per_minute:,.1f} now\n{feed.per_minute_last_hour:,.1f} last hour\n{usual}",
            f"{feed.accepted:,} accepted\n{feed.repeated:,} repeated\n{feed.refused:,} refused",
            f"{feed.waiting:,}\nfor {duration(feed.waiting_seconds)}" if feed.waiting else "0",
            f"{feed.quarantined:,}",
        )  # fmt: skip
    out.print(table)
    for feed in feeds:
        if feed.is_stuck or feed.state == "silent":
            print_line(f"{feed.source_id} over {feed.feed}: {feed.why}")
        if feed.quarantined:
            reasons = [f"{number:,} {reason}" for reason, number in feed.top_reasons.items()]
            others = feed.quarantined - sum(feed.top_reasons.values())
            shown = ", ".join(reasons + ([f"{others:,} others"] if others else []))
            print_line(f"{feed.source_id} over {feed.feed}: {feed.quarantined:,} in quarantine: {shown}")


def print_status(found: dict[str, Any]) -> None:
    """`core.overview` on one screen."""
    print_ledger("Ledger", found["ledger"])
    if found["quarantine"]:
        out.print()
        print_rows("Quarantine, open", found["quarantine"])
    for name in ("published", "champion", "drift"):
        out.print()
        if found[name]:
            print_record(name.capitalize(), found[name])
        else:
            print_line(f"{name.capitalize()}: nothing yet")
    if found["alerts"]:
        out.print()
        print_rows("Newest alerts", found["alerts"])


@contextmanager
def progress(label: str, as_json: bool) -> Iterator[Advance]:
    """A bar on standard error with the time passed, none for machines; it goes when the work is done."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[count]}"),
               TimeElapsedColumn(), TextColumn("{task.fields[note]}", style="dim"))  # fmt: skip
    with Progress(*columns, console=err, transient=True, disable=as_json or not err.is_terminal) as bar:
        task = bar.add_task(label, total=None, count="", note="")

        def advance(done: int, total: int | None, note: str = "") -> None:
            count = f"{done:,}" + (f" of {total:,}" if total else "") if done else ""
            bar.update(task, completed=done, total=total, count=count, note=note[:_NOTE_WIDTH])

        yield advance


def _table(title: str, *, show_header: bool = True) -> Table:
    return Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False,
                 show_header=show_header, show_edge=False)  # fmt: skip


def _interval(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.3f}\n{low:.3f} to {high:.3f}"


def _text(value: Any) -> Text:
    """A cell. As text, so that a bracket in a value is a bracket and no markup."""
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, datetime):
        return Text(f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if value.tzinfo else f"{value:%Y-%m-%d %H:%M}")
    if isinstance(value, float):
        return Text(f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.4g}")
    return Text("" if value is None else str(value))


def _fields(document: Any) -> dict[str, Any]:
    return dataclasses.asdict(document) if dataclasses.is_dataclass(document) else document  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    """The same as JSON takes it, dataclasses and rows of the ops database among it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, date | datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(inner) for inner in value]
    return str(value)
