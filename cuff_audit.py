"""`cuff audit`: whether the record of who did what is as it was written."""

from typing import Annotated

import typer

import cuff_print as show
from core.errors import CuffError
from cuff_command import Json, cli_settings

audit = typer.Typer(no_args_is_help=True, help="The audit trail: one chain of hashes over who did what.")


@audit.callback()
def _audit() -> None:
    """A command of its own, so that `verify` has a name."""


@audit.command("verify", epilog="Example: cuff audit verify --noted 5b1c… (the newest hash of an earlier run)")
def audit_verify(
    noted: Annotated[str, typer.Option(help="A hash noted earlier; must still be there, else the tail was deleted.")] = "",
    as_json: Json = False,
) -> None:
    """Work the chain out anew and name the first row that does not follow. Exit code 1 where it is broken."""
    from core.audit import verify_chain
    from core.store import open_store

    with show.progress("verifying", as_json), open_store(cli_settings()).connect() as connection:
        report = verify_chain(connection, noted)
    if as_json:
        show.print_json(report._asdict())
    if report.first_broken_row is not None:
        raise CuffError(
            f"row {report.first_broken_row} of audit_events is not as it was written, or a row before it is gone; "
            f"the {report.rows} rows before it hold"
        )
    if report.holds_noted_hash is False:
        raise CuffError("the noted hash is not in the chain: rows at its end were deleted, or it is of another database")
    if not as_json:
        show.print_line(f"{report.rows} rows hold; note elsewhere that row {report.newest_row or 0} has {report.newest_hash}")
