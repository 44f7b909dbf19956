"""The command line `cuff`: each command is one call into a room, the same function the Airflow task calls."""

import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.errors import CuffError, InputError
from core.settings import PROJECT_ROOT, load_settings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Cuff: hypertension risk, from hospital extracts to a watched model, every night.",
)  # fmt: skip
quarantine = typer.Typer(no_args_is_help=True, help="What could not be used: list it, look at it, bring it back.")
app.add_typer(quarantine, name="quarantine")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]
Why = Annotated[str, typer.Option(help="Why; kept with the change.")]
out, err = Console(), Console(stderr=True)


def main() -> None:
    """Run a command; every error is one line on standard error and the exit code of its kind (`core.errors`)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    try:
        app()
    except CuffError as error:
        err.print(f"error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(error.exit_code)
    except ValidationError as error:
        first = error.errors()[0]
        name = "CUFF_" + "_".join(map(str, first["loc"])).upper()
        err.print(f"error: setting {name}: {first['msg']}; see .env.example", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command(epilog="Example: cuff setup")
def setup(quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing when nothing was to do.")] = False) -> None:
    """Generate the secrets that .env lacks and unpack DuckDB's extensions. Safe to repeat."""
    from core.keys import generate_secrets
    from core.lake import install_extensions

    made = generate_secrets(PROJECT_ROOT / ".env")
    install_extensions()
    if made or not quiet:
        out.print(f"secrets generated into .env: {', '.join(made)}" if made else "already set up")


@app.command(epilog="Example: cuff simulate var/landing/simulated/history --patients 2000 --years 5")
def simulate(
    folder: Annotated[Path, typer.Argument(help="Where the extract is written.")],
    patients: Annotated[int, typer.Option(min=1)] = 2000,
    years: Annotated[int, typer.Option(min=1, help="Years of history before --end.")] = 5,
    seed: int = 20260101,
    end: Annotated[str, typer.Option(help="End of the history, YYYY-MM-DD.")] = "2026-01-01",
    since: Annotated[str | None, typer.Option(help="Only what was sent from this day on.")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was sent before this day; default --end.")] = None,
    drift: Annotated[str | None, typer.Option(help="cuff_high, younger_population or coding_change.")] = None,
    drift_from: Annotated[str | None, typer.Option(help="First day of the drift.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Where the true risks go (never into the extract).")] = None,
    as_json: Json = False,
) -> None:
    """Write the extract of a synthetic hospital: FHIR bundles and NDJSON, HL7 v2 files, with their mess."""
    from ehr.simulate import SimulationOptions, simulate_hospital

    options = SimulationOptions(
        patients=patients, years=years, seed=seed, end=_day(end) or date(2026, 1, 1), since=_day(since),
        until=_day(until), drift=drift, drift_from=_day(drift_from), truth_path=truth,  # type: ignore[arg-type]
    )  # fmt: skip
    with _progress("simulating", as_json) as advance:
        summary = simulate_hospital(folder, options, advance)
    document = {
        "out": summary.out, "truth_path": summary.truth_path, "patients": summary.patients, "files": summary.files,
        "size_bytes": summary.size_bytes, "resources": summary.resources, "messages": summary.messages,
    }  # fmt: skip
    _show(document | ({"counts": summary.counts} if as_json else {}), as_json, f"Written to {folder}")


@app.command(epilog="Example: cuff ingest ../shared/data/fhir_bundles")
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders: FHIR JSON, NDJSON(.gz), HL7 v2.")],
    source: Annotated[str | None, typer.Option(help="Source of sources.toml; default by path and MSH-4.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Business day of the delivery; default today.")] = None,
    as_json: Json = False,
) -> None:
    """Take extracts in: archive, parse, scrub, land. The same file twice adds nothing."""
    from ehr.ingest import ingest as run

    with _progress("ingesting", as_json) as advance:
        summary = run(load_settings(), paths, as_of=_day(as_of), source_id=source,
                      progress=lambda _step, done, total: advance(done, total))  # fmt: skip
    document = dataclasses.asdict(summary) | {"balanced": summary.balanced}
    if as_json:
        _show(document, True)
        return
    _table("Ledger of this run", [line.as_dict() for line in summary.ledger])
    rate = summary.size_bytes / 1e6 / max(summary.seconds, 1e-9)
    out.print(f"{summary.new_payloads} new files, {summary.duplicate_files} seen before, "
              f"{summary.size_bytes / 1e6:.1f} MB in {summary.seconds:.1f} s ({rate:.1f} MB/s); "
              f"the ledger {'balances' if summary.balanced else 'DOES NOT BALANCE'}")  # fmt: skip


@app.command(epilog="Example: cuff build")
def build(
    as_of: Annotated[str | None, typer.Option(help="Business day; default the newest delivery's.")] = None,
    rebuild_all: Annotated[bool, typer.Option(help="Work out every patient anew, not only the changed ones.")] = False,
    as_json: Json = False,
) -> None:
    """Build the warehouse with dbt, check it at its gates, and publish it."""
    from core.dbt import manifest_hash, run_dbt
    from core.publication import fail_build, finish_build, publish, start_build
    from expectations.gates import require, run_gate

    settings = load_settings()
    started = start_build(settings, _day(as_of))
    with _progress("building", as_json) as advance:
        done = 0

        def node_ended(_name: str, _state: str) -> None:
            nonlocal done
            done += 1
            advance(done, None)

        try:
            require(run_gate(settings, "landed", started.build_id))
            # dbt would print its own log to standard output; the file under var/dbt/logs has it all.
            arguments = ("--quiet", *(("--full-refresh",) if rebuild_all else ()))
            run_dbt(settings, "build", started, *arguments, on_node=node_ended)
            finish_build(settings, started.build_id, manifest_hash(settings))
            require(run_gate(settings, "marts", started.build_id))
            published = publish(settings, started.build_id, _actor())
        except CuffError as error:
            fail_build(settings, started.build_id, str(error))
            raise
    _show(dataclasses.asdict(published), as_json, "Published")


@app.command(epilog="Example: cuff features")
def features(as_json: Json = False) -> None:
    """Materialise the published features offline and online."""
    from ml.features import materialize

    _show(dataclasses.asdict(materialize(load_settings())), as_json, "Features")


@app.command(epilog="Example: cuff train")
def train(
    trigger: Annotated[str, typer.Option(help="What asked for it: manual, nightly or drift.")] = "manual",
    as_json: Json = False,
) -> None:
    """Train, evaluate and gate a challenger; the first that passes becomes champion, a later one if it is not worse."""
    from ml.training import train as run

    _show(dataclasses.asdict(run(load_settings(), trigger=trigger, actor=_actor())), as_json, "Training")


@app.command(epilog="Example: cuff score")
def score(as_json: Json = False) -> None:
    """Score everybody eligible with the champion, as of the published day."""
    from ml.scoring import score as run

    _show(dataclasses.asdict(run(load_settings())), as_json, "Scoring")


@app.command(epilog="Example: cuff drift")
def drift(as_json: Json = False) -> None:
    """Compare what arrived last with what the champion was trained on, and judge."""
    from ml.monitoring import check_drift

    _show(dataclasses.asdict(check_drift(load_settings())), as_json, "Drift")


@app.command(epilog="Example: cuff models --json")
def models(as_json: Json = False) -> None:
    """Every registered version, with its aliases and figures."""
    from ml.registry import list_models

    rows = [dataclasses.asdict(row) for row in list_models(load_settings())]
    _show(rows, True) if as_json else _table("hypertension-risk", rows)


@app.command(epilog="Example: cuff promote 3 --why 'reviewed by the model board'")
def promote(version: Annotated[int, typer.Argument(help="Version to make champion.")], why: Why = "") -> None:
    """Make a version champion by hand."""
    from ml.registry import promote as run

    run(load_settings(), version, actor=_actor(), why=why or "by hand")
    out.print(f"version {version} is champion")


@app.command(epilog="Example: cuff rollback --why 'version 3 misjudges the young'")
def rollback(
    build_id: Annotated[int | None, typer.Option(help="Roll the warehouse back to this build instead.")] = None,
    why: Why = "",
) -> None:
    """Return to the champion before this one, or with --build-id to an earlier published build."""
    if build_id is not None:
        from core.publication import roll_back

        found = roll_back(load_settings(), build_id, actor=_actor(), why=why or "by hand")
        out.print(f"build {found.build_id} is published again")
        return
    from ml.registry import rollback as run

    run(load_settings(), actor=_actor(), why=why or "by hand")
    out.print("the previous champion is back; `cuff models` shows which")


@quarantine.command("list", epilog="Example: cuff quarantine list")
def quarantine_list(state: str = "open", as_json: Json = False) -> None:
    """The newest entries, with reason and place."""
    from ehr.quarantine import list_quarantine

    rows = [_columns(row, "quarantine_id", "source_id", "unit", "type", "reason_code", "locator", "detail")
            for row in list_quarantine(load_settings(), state)]  # fmt: skip
    _show(rows, True) if as_json else _table(f"Quarantine, {state}", rows)


@quarantine.command("show", epilog="Example: cuff quarantine show 1f2e3d4c5b6a7988")
def quarantine_show(quarantine_id: str, as_json: Json = False) -> None:
    """One entry with its payload reference. The payload itself stays sealed in the archive."""
    from ehr.quarantine import show_quarantine

    row = show_quarantine(load_settings(), quarantine_id)
    _show({c.name: getattr(row, c.name) for c in row.__table__.columns}, as_json, quarantine_id)


@quarantine.command("replay", epilog="Example: cuff quarantine replay --reason charset_mismatch")
def quarantine_replay(
    quarantine_id: Annotated[str | None, typer.Argument(help="One entry; default all open ones.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only entries of this reason code.")] = None,
    as_json: Json = False,
) -> None:
    """Read quarantined payloads again, after a mapping in sources.toml or the reader was mended."""
    from ehr.replay import replay

    summary = replay(load_settings(), reason_code=reason, quarantine_id=quarantine_id)
    _show(dataclasses.asdict(summary), as_json, "Replay")


@app.command(epilog="Example: cuff status")
def status(as_json: Json = False) -> None:
    """Ledger, quarantine, published build, champion, last verdict and open alerts, on one screen."""
    from core.overview import overview

    found = overview(load_settings())
    if as_json:
        _show(found, True)
        return
    _table("Ledger", found["ledger"])
    if found["quarantine"]:
        _table("Quarantine, open", found["quarantine"])
    for title in ("published", "champion", "drift"):
        _show(found[title] or {"": "nothing yet"}, False, title.capitalize())
    if found["alerts"]:
        _table("Newest alerts", found["alerts"])


@app.command(epilog="Example: cuff sql \"from analytics.analytics.hypertension_prevalence_control_monthly limit 5\"")
def sql(
    query: Annotated[str, typer.Argument(help="One SQL query.")],
    catalog: Annotated[str, typer.Option(help="analytics, or clinical for those who may.")] = "analytics",
    as_json: Json = False,
) -> None:
    """Query the published snapshot. Works while a build runs: readers see the last published numbers."""
    import duckdb

    from core.lake import CATALOGS, read_lake
    from core.publication import published

    if catalog not in CATALOGS:
        raise InputError(f"there is no catalog '{catalog}'; choose {' or '.join(CATALOGS)}")
    settings = load_settings()
    with read_lake(settings, (catalog,), published(settings).snapshots) as lake:
        lake.execute(f"use {catalog}")
        try:
            result = lake.execute(query)
        except duckdb.Error as error:
            raise InputError(f"the query failed: {str(error).splitlines()[0]}") from None
        names = [column[0] for column in result.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    _show(rows, True) if as_json else _table("", rows)


@app.command(epilog="Example: cuff up")
def up() -> None:
    """Keep Airflow and MLflow running until Ctrl-C."""
    from core.stack import run_up

    sys.exit(run_up(load_settings(), out))


@app.command(epilog="Example: cuff demo --patients 2000")
def demo(patients: Annotated[int, typer.Option(min=50, envvar="CUFF_DEMO_PATIENTS")] = 2000) -> None:
    """The main job: a simulated hospital, two nights, real Airflow; ends with a table and var/demo/summary.json."""
    from cuff_demo import run_demo

    sys.exit(run_demo(load_settings(), patients=patients, console=out))


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InputError(f"'{text}' is not a day; write YYYY-MM-DD") from None


def _actor() -> str:
    import getpass

    return f"cli:{getpass.getuser()}"


def _columns(row: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


@contextmanager
def _progress(label: str, as_json: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error, none for machines."""
    label_column = TextColumn("{task.description}")
    columns = (SpinnerColumn(), label_column, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=as_json or not err.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(document: Any, as_json: bool, title: str = "") -> None:
    if as_json:
        print(json.dumps(document, default=_jsonable, indent=2))
        return
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in document.items():
        table.add_row(str(name), _text(value))
    out.print(table)


def _table(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        out.print(f"{title}: none" if title else "no rows")
        return
    table = Table(title=title, title_justify="left")
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    out.print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _jsonable(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
