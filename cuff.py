"""The command line `cuff`: each command is one call into a room, the same function the Airflow task calls."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

import cuff_print as show
from core.errors import CuffError, InputError
from cuff_audit import audit
from cuff_command import Json, Why, actor, cli_settings, columns, day, result, run_app
from cuff_live import live
from cuff_quarantine import quarantine
from cuff_serve import serve
from cuff_simulate import simulate
from cuff_token import token

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Cuff: hypertension risk, from hospital extracts to a watched model, every night.",
)  # fmt: skip
app.add_typer(quarantine, name="quarantine")
app.add_typer(audit, name="audit")
app.add_typer(live)


def main() -> None:
    """Run the command that was asked for; exits with its code."""
    run_app(app)


@app.command(epilog="Example: cuff setup")
def setup(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing when nothing was to do.")] = False,
    as_json: Json = False,
) -> None:
    """Generate the secrets that .env lacks and unpack DuckDB's extensions. Safe to repeat."""
    from core.keys import generate_secrets
    from core.lake import install_extensions
    from core.settings import PROJECT_ROOT

    made = generate_secrets(PROJECT_ROOT / ".env")
    install_extensions()
    if as_json:
        show.print_json({"generated": made})
    elif made or not quiet:
        show.print_line(f"secrets generated into .env: {', '.join(made)}" if made else "already set up")


app.command(epilog="Example: cuff serve")(serve)
app.command(epilog="Example: cuff simulate --send mllp://127.0.0.1:2575 --rate 50")(simulate)
app.command(epilog="Example: cuff token --scope risk:read --source SIMHOSP --minutes 60")(token)


@app.command(epilog="Example: cuff ingest ../shared/data/fhir_bundles")
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders: FHIR JSON, NDJSON(.gz), HL7 v2.")],
    source: Annotated[str | None, typer.Option(help="Source of sources.toml; default by path and MSH-4.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Business day of the delivery; default today.")] = None,
    as_json: Json = False,
) -> None:
    """Take extracts in: archive, parse, scrub, land. The same file twice adds nothing."""
    from ehr.ingest import ingest as run

    with show.progress("ingesting", as_json) as advance:
        summary = run(cli_settings(), paths, as_of=day(as_of), source_id=source,
                      progress=lambda step, done, total: advance(done, total, step))  # fmt: skip
    if as_json:
        show.print_json(dataclasses.asdict(summary) | {"balanced": summary.balanced})
    else:
        show.print_ingest(summary)
    if not summary.balanced:
        raise CuffError(f"the ledger of batch {summary.batch_id} does not balance; see `cuff status`")


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

    settings = cli_settings()
    started = start_build(settings, day(as_of))
    with show.progress("building", as_json) as advance:
        ended = total = 0

        def node_ended(name: str, _state: str) -> None:
            nonlocal ended, total
            ended, total = ended + 1, total or _warehouse_nodes(settings.var)
            advance(ended, max(ended, total), name.split(".")[2])

        try:
            advance(0, None, "gate: landed")
            require(run_gate(settings, "landed", started.build_id))
            advance(0, None, "dbt reads the project")
            # dbt would print its own log to standard output; the file under var/dbt/logs has it all.
            arguments = ("--quiet", *(("--full-refresh",) if rebuild_all else ()))
            run_dbt(settings, "build", started, *arguments, on_node=node_ended)
            finish_build(settings, started.build_id, manifest_hash(settings))
            advance(ended, ended, "gate: marts")
            require(run_gate(settings, "marts", started.build_id))
            published = publish(settings, started.build_id, actor())
        except CuffError as error:
            fail_build(settings, started.build_id, str(error))
            raise
    result(published, as_json, "Published")


@app.command(epilog="Example: cuff features")
def features(as_json: Json = False) -> None:
    """Materialise the published features offline and online."""
    from ml.features import materialize

    with show.progress("materialising", as_json):
        done = materialize(cli_settings())
    result(done, as_json, "Features")


@app.command(epilog="Example: cuff train")
def train(
    trigger: Annotated[Literal["manual", "nightly", "drift"], typer.Option(help="What asked for it.")] = "manual",
    as_json: Json = False,
) -> None:
    """Train, evaluate and gate a challenger; the first that passes becomes champion, a later one if it is not worse."""
    from core.publication import published
    from expectations.gates import require, run_gate
    from ml.features.training_set import training_set
    from ml.training import train as run

    settings = cli_settings()
    with show.progress("training", as_json) as advance:
        now = published(settings)
        advance(0, None, "gate: training_set")
        require(run_gate(settings, "training_set", now.build_id, training_set(settings, now)))
        advance(0, None, "search, fit, evaluate")
        outcome = run(settings, trigger=trigger, actor=actor())
    show.print_json(outcome) if as_json else show.print_training(outcome)


@app.command(epilog="Example: cuff score")
def score(as_json: Json = False) -> None:
    """Score everybody eligible with the champion, as of the published day."""
    from expectations.gates import require, run_gate
    from ml.scoring import score as run

    settings = cli_settings()
    with show.progress("scoring", as_json) as advance:
        done = run(settings)
        advance(0, None, "gate: prediction_log")
        require(run_gate(settings, "prediction_log", done.build_id))
    result(done, as_json, "Scoring")


@app.command(epilog="Example: cuff drift")
def drift(as_json: Json = False) -> None:
    """Compare what arrived last with what the champion was trained on, and judge."""
    from ml.monitoring import check_drift

    settings = cli_settings()
    with show.progress("comparing", as_json):
        outcome = check_drift(settings)
    show.print_json(outcome) if as_json else show.print_drift(outcome, settings.reports_dir)


@app.command(epilog="Example: cuff skew")
def skew(as_json: Json = False) -> None:
    """Compare what the API served since the last check with the features as published."""
    from ml.monitoring import check_skew

    with show.progress("comparing", as_json):
        done = check_skew(cli_settings())
    result(done, as_json, "Skew")


@app.command(epilog="Example: cuff models --json")
def models(as_json: Json = False) -> None:
    """Every registered version, with its aliases and figures."""
    from ml.registry import list_models

    found = list_models(cli_settings())
    show.print_json(found) if as_json else show.print_models(found)


@app.command(epilog="Example: cuff promote 3 --why 'reviewed by the model board'")
def promote(
    version: Annotated[int, typer.Argument(help="Version to make champion.")], why: Why = "", as_json: Json = False
) -> None:
    """Make a version champion by hand."""
    from ml.registry import promote as run

    event = run(cli_settings(), version, actor=actor(), why=why or "by hand")
    show.print_json(columns(event)) if as_json else show.print_line(f"version {version} is champion")


@app.command(epilog="Example: cuff rollback --why 'version 3 misjudges the young'")
def rollback(
    build_id: Annotated[int | None, typer.Option(help="Roll the warehouse back to this build instead.")] = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Return to the champion before this one, or with --build-id to an earlier published build."""
    if build_id is not None:
        from core.publication import roll_back

        found = roll_back(cli_settings(), build_id, actor=actor(), why=why or "by hand")
        show.print_json(found) if as_json else show.print_line(f"build {found.build_id} is published again")
        return
    from ml.registry import rollback as run

    event = run(cli_settings(), actor=actor(), why=why or "by hand")
    show.print_json(columns(event)) if as_json else show.print_line(f"version {event.model_version} is champion again")


@app.command(epilog="Example: cuff status")
def status(as_json: Json = False) -> None:
    """Ledger, quarantine, published build, champion, last verdict and open alerts, on one screen."""
    from core.overview import overview

    found = overview(cli_settings())
    show.print_json(found) if as_json else show.print_status(found)


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
    settings = cli_settings()
    with read_lake(settings, (catalog,), published(settings).snapshots) as lake:
        lake.execute(f"use {catalog}")
        try:
            found = lake.execute(query)
        except duckdb.Error as error:
            raise InputError(f"the query failed: {str(error).splitlines()[0]}") from None
        names = _told_apart([column[0] for column in found.description or []])
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    show.print_json(rows) if as_json else show.print_rows("", rows, "no rows")


@app.command(epilog="Example: cuff up")
def up() -> None:
    """Keep Airflow, the live door, the inference API and MLflow running until Ctrl-C."""
    from core.stack import run_up

    sys.exit(run_up(cli_settings(), show.out))


@app.command(epilog="Example: cuff demo --patients 4000")
def demo(
    patients: Annotated[int, typer.Option(min=50, envvar="CUFF_DEMO_PATIENTS", help="How many people.")] = 4000,
    as_json: Json = False,
) -> None:
    """The main job: a simulated hospital, two nights, real Airflow; ends with a table and var/demo/summary.json."""
    from cuff_demo import run_demo

    settings = cli_settings()
    code = run_demo(settings, patients=patients, console=show.err if as_json else show.out)
    if as_json and code == 0:
        show.print_json(json.loads((settings.var / "demo" / "summary.json").read_text()))
    sys.exit(code)


def _told_apart(names: list[str]) -> list[str]:
    """Column names with a number behind those that came before, as two tables of a join bring them."""
    return [f"{name}_{names[:at].count(name)}" if name in names[:at] else name for at, name in enumerate(names)]


def _warehouse_nodes(var: Path) -> int:
    """About how many nodes this build has, from what dbt wrote down when it began."""
    return len(json.loads((var / "dbt" / "target" / "manifest.json").read_bytes())["nodes"])
