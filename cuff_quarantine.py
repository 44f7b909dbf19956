"""`cuff quarantine`: what could not be used, listed, looked at, brought back."""

from typing import Annotated, Literal

import typer

import cuff_print as show
from cuff_command import Json, cli_settings, columns, result

quarantine = typer.Typer(no_args_is_help=True, help="What could not be used: list it, look at it, bring it back.")


@quarantine.command("list", epilog="Example: cuff quarantine list")
def quarantine_list(
    state: Annotated[Literal["open", "replayed"], typer.Option(help="Which entries.")] = "open", as_json: Json = False
) -> None:
    """The newest entries, with reason and place."""
    from ehr.quarantine import list_quarantine

    rows = [columns(row, "quarantine_id", "source_id", "unit", "type", "reason_code", "locator", "detail")
            for row in list_quarantine(cli_settings(), state)]  # fmt: skip
    show.print_json(rows) if as_json else show.print_rows(f"Quarantine, {state}", rows)


@quarantine.command("show", epilog="Example: cuff quarantine show 1f2e3d4c5b6a7988")
def quarantine_show(
    quarantine_id: Annotated[str, typer.Argument(help="As `cuff quarantine list` shows it.")], as_json: Json = False
) -> None:
    """One entry with its payload reference. The payload itself stays sealed in the archive."""
    from ehr.quarantine import show_quarantine

    result(columns(show_quarantine(cli_settings(), quarantine_id)), as_json, quarantine_id)


@quarantine.command("replay", epilog="Example: cuff quarantine replay --reason charset_mismatch")
def quarantine_replay(
    quarantine_id: Annotated[str | None, typer.Argument(help="One entry; default all open ones.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only entries of this reason code.")] = None,
    as_json: Json = False,
) -> None:
    """Read quarantined payloads again, after a mapping in sources.toml or the reader was mended."""
    from ehr.replay import replay

    with show.progress("replaying", as_json):
        summary = replay(cli_settings(), reason_code=reason, quarantine_id=quarantine_id)
    result(summary, as_json, "Replay")
