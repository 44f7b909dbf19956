"""Commands of the live door: listen, relay, consume, feeds. Each is one call into `ehr.live`."""

import typer

import cuff_print as show
from cuff_command import Json, cli_settings

live = typer.Typer(no_args_is_help=True)


@live.command(epilog="Example: cuff feeds")
def feeds(as_json: Json = False) -> None:
    """Each feed: alive, quiet as usual, silent or stuck; its rate, what waits, and what was refused and why."""
    from ehr.live.feeds import list_feeds

    found = list_feeds(cli_settings())
    show.print_json(found) if as_json else show.print_feeds(found)
