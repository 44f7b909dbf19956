"""Commands of the live door: listen, relay, consume, feeds. Each is one call into `ehr.live`."""

import typer

live = typer.Typer(no_args_is_help=True)
