"""The command line `cuff`: each command is one call into a room, the same function the Airflow task calls."""

import logging
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from core.errors import CuffError, InputError
from core.settings import PROJECT_ROOT, load_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Cuff: hypertension risk, from hospital extracts to a watched model, every night.",
)
quarantine_app = typer.Typer(no_args_is_help=True, help="What could not be used: list it, look at it, bring it back.")
app.add_typer(quarantine_app, name="quarantine")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]
AsOf = Annotated[str | None, typer.Option(help="Business day, YYYY-MM-DD; default today.")]
out, err = Console(), Console(stderr=True)


def main() -> None:
    """Run a command; every error is one line on standard error and the exit code of its kind (`core.errors`)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except CuffError as error:
        err.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)


@app.command(epilog="Example: `cuff setup`")
def setup(quiet: Annotated[bool, typer.Option(help="Say nothing when nothing was to do.")] = False) -> None:
    """Generate the secrets that `.env` lacks and unpack DuckDB's extensions. Safe to repeat."""
    from core.keys import generate_secrets
    from core.lake import install_extensions

    made = generate_secrets(PROJECT_ROOT / ".env")
    install_extensions()
    if made or not quiet:
        out.print(f"secrets generated into .env: {', '.join(made)}" if made else "already set up")


@app.command(epilog="Example: `cuff simulate var/landing/simulated/history --patients 2000 --years 5`")
def simulate(
    folder: Annotated[Path, typer.Argument(help="Where the extract is written.")],
    patients: Annotated[int, typer.Option(min=1)] = 2000,
    years: Annotated[int, typer.Option(min=1, help="Years of history before --end.")] = 5,
    seed: Annotated[int, typer.Option()] = 7,
    end: Annotated[str, typer.Option(help="End of the history, YYYY-MM-DD.")] = "2026-01-01",
    since: Annotated[str | None, typer.Option(help="Only what was sent from this day on.")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was sent before this day; default --end.")] = None,
    drift: Annotated[str | None, typer.Option(help="cuff_high, younger_population or coding_change.")] = None,
    drift_from: Annotated[str | None, typer.Option(help="First day of the drift.")] = None,
    as_json: Json = False,
) -> None:
    """Write the extract of a synthetic hospital: FHIR bundles and NDJSON, HL7 v2 files, with their mess."""
    from ehr.simulate import SimulationOptions, simulate_hospital

    options = SimulationOptions(
        patients=patients,
        years=years,
        seed=seed,
        end=_day(end),
        since=_day(since),
        until=_day(until) or _day(end),
        drift=drift,
        drift_from=_day(drift_from),
    )
    with _progress("simulating", as_json) as advance:
        summary = simulate_hospital(folder, options, advance)
    _show(summary, as_json, title=f"Written to {folder}")


@app.command(epilog="Example: `cuff ingest ../shared/data/fhir_bundles`")
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders: FHIR JSON, NDJSON(.gz), HL7 v2.")],
    source: Annotated[str | None, typer.Option(help="Source of sources.toml; default by path and MSH-4.")] = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Take extracts in: archive, parse, scrub, land. The same file twice adds nothing."""
    from ehr.ingest import ingest as run

    with _progress("ingesting", as_json) as advance:
        summary = run(
            load_settings(),
            paths,
            as_of=_day(as_of),
            source_id=source,
            progress=lambda _step, done, total: advance(done, total),
        )
    _show(summary, as_json, title="Ledger")


def _day(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"'{text}' is not a day; write YYYY-MM-DD") from None
