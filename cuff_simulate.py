"""`cuff simulate`: the synthetic hospital, into a folder, over the wire, or both."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import cuff_print as show
from core.errors import InputError
from cuff_command import Json, day, result


def simulate(
    folder: Annotated[Path | None, typer.Argument(
        help="Where the extract is written. With --send: what goes by files alone; without it nothing is written.")] = None,
    patients: Annotated[int, typer.Option(min=1, help="How many people.")] = 2000,
    years: Annotated[int, typer.Option(min=1, help="Years of history before --end.")] = 5,
    seed: Annotated[int, typer.Option(help="The same seed gives the same hospital.")] = 20260101,
    end: Annotated[str, typer.Option(help="End of the history, YYYY-MM-DD.")] = "2026-01-01",
    since: Annotated[str | None, typer.Option(help="Only what was sent from this day on.")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was sent before this day; default --end.")] = None,
    drift: Annotated[Literal["cuff_high", "younger_population", "coding_change"] | None,
                     typer.Option(help="What changes in the world, from --drift-from on.")] = None,
    drift_from: Annotated[str | None, typer.Option(help="First day of the drift.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Where the true risks go (never into the extract).")] = None,
    send: Annotated[str | None, typer.Option(
        metavar="URL", help="Send the HL7 v2 messages to a listener: mllp://host:port, or mllps:// for TLS.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Messages a second; default as fast as answered.")] = None,
    connections: Annotated[int, typer.Option(min=1, max=1000, help="Connections; a person keeps to one.")] = 1,
    window: Annotated[int, typer.Option(min=1, help="Messages a connection may have unanswered.")] = 1,
    patience: Annotated[float, typer.Option(min=0, help="Seconds without an answer until it gives up.")] = 60,
    tls_ca: Annotated[Path | None, typer.Option(help="PEM: who signed the listener's certificate.")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM: this sender's own certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM: its key.")] = None,
    as_json: Json = False,
) -> None:
    """Play a synthetic hospital: extracts into a folder, or its HL7 v2 messages live (--send), with their mess.

    What is sent and not acknowledged is sent again, as interface engines do.
    """
    from ehr.simulate import SimulationOptions, simulate_hospital

    if folder is None and send is None:
        raise InputError("nowhere to go: name a folder, or a listener with --send mllp://host:port")
    if send is None and any((rate, tls_ca, tls_certificate, tls_key)):
        raise InputError("--rate and --tls-* are for sending; add --send mllp://host:port")
    options = SimulationOptions(
        patients=patients, years=years, seed=seed, end=day(end) or date(2026, 1, 1), since=day(since),
        until=day(until), drift=drift, drift_from=day(drift_from), truth_path=truth,
    )  # fmt: skip
    sent: dict[str, Any] = {}
    with show.progress("simulating", as_json) as advance:
        deliver = None
        if send is not None:
            from ehr.live.address import MllpAddress
            from ehr.live.play import play, with_rubbish

            address = MllpAddress.parse(send)
            tls = address.client_context(tls_ca, tls_certificate, tls_key)

            def deliver(messages, total):  # type: ignore[no-untyped-def]
                advance(0, total, f"to {address}")
                done = play(with_rubbish(messages), address, rate=rate, connections=connections, window=window, tls=tls,
                            patience_seconds=patience,
                            on_progress=lambda now: advance(now.sent, max(total, now.sent), _note(now)))
                sent.update({"address": str(address), **done.as_dict()})

        summary = simulate_hospital(folder, options, advance, deliver)
    document = {
        "out": summary.out, "truth_path": summary.truth_path, "patients": summary.patients, "files": summary.files,
        "size_bytes": summary.size_bytes, "resources": summary.resources, "messages": summary.messages,
    }  # fmt: skip
    if as_json:
        show.print_json(document | {"counts": summary.counts} | ({"sent": sent} if sent else {}))
        return
    if folder is not None:
        result(document, False, f"Written to {folder}")
    if sent:
        reasons = sent.pop("reasons")
        show.print_record(f"Sent to {sent.pop('address')}", sent)
        if reasons:
            show.print_rows("Not accepted", [{"answer": why, "messages": number} for why, number in reasons.items()])


def _note(now: Any) -> str:
    refused = now.errors + now.rejected
    return f"{now.messages_per_second:,.0f}/s, {refused:,} refused" + (f", {now.resent:,} again" if now.resent else "")
