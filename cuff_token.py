"""`cuff token`: a token for this machine's API, for development only."""

from typing import Annotated

import typer

import cuff_print as show
from cuff_command import Json, cli_settings


def token(
    scope: Annotated[list[str], typer.Option(help="risk:read, risk:score, model:read or ops:read; may be repeated.")],
    source: Annotated[list[str] | None, typer.Option(help="Source whose patients it may see; default all.")] = None,
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How long it lives.")] = 60,
    name: Annotated[str, typer.Option(help="Whom the audit trail is to name.")] = "developer",
    as_json: Json = False,
) -> None:
    """Print a bearer token signed with this machine's own key. For development only: no other machine accepts it."""
    from ml.serving.security.development import issue

    issued = issue(cli_settings(), scope, sources=source or ["*"], minutes=minutes, name=name)
    show.err.print("FOR DEVELOPMENT ONLY: signed with this machine's key, which nothing in production accepts.",
                   style="bold yellow", soft_wrap=True)  # fmt: skip
    show.print_json({"token": issued, "for": "development only"}) if as_json else print(issued)
