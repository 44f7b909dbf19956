"""Commands of the live door: listen, relay, consume, feeds. Each is one call into `ehr.live`."""

import sys
from typing import Annotated

import typer

import cuff_print as show
from cuff_command import Json, cli_settings, day

live = typer.Typer(no_args_is_help=True)


@live.command(epilog="Example: cuff listen")
def listen(
    as_of: Annotated[str | None, typer.Option(help="Business day of what arrives; default the day of its arrival.")] = None,
) -> None:
    """Open the doors: HL7 v2 over MLLP, and POST /fhir. Every message is acknowledged when it is durable."""
    from ehr.live.serve import run_listener

    sys.exit(run_listener(cli_settings(), show.print_line, as_of=day(as_of)))


@live.command(epilog="Example: cuff consume")
def consume(
    once: Annotated[bool, typer.Option("--once", help="Land what waits, then exit.")] = False,
) -> None:
    """Land what arrived live, in micro-batches; run it beside `listen`."""
    from ehr.live.consume import run_consumer

    sys.exit(run_consumer(cli_settings(), show.print_line, once))


@live.command(epilog="Example: cuff relay")
def relay(
    again: Annotated[int | None, typer.Option(
        min=0, metavar="SEQUENCE", help="Owe Kafka again what has not landed, from this number of the inbox on, and exit; "
        "a running relay then publishes it.")] = None,
) -> None:  # fmt: skip
    """Publish the inbox to Kafka, rejects to the dead letters, and take in hospitals' own topics; run it beside `listen`."""
    settings = cli_settings()
    if again is not None:
        from ehr.live.relay import publish_again

        show.print_line(f"{publish_again(settings, again)} entries and dead letters will be published again")
        return
    from ehr.live.serve_relay import run_relay

    sys.exit(run_relay(settings, show.print_line))


@live.command(epilog="Example: cuff feeds")
def feeds(as_json: Json = False) -> None:
    """Each feed: alive, quiet as usual, silent or stuck; its rate, what waits, and what was refused and why."""
    from ehr.live.feeds import list_feeds

    found = list_feeds(cli_settings())
    show.print_json(found) if as_json else show.print_feeds(found)
