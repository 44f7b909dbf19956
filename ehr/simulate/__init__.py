"""The synthetic hospital: people with latent blood pressure, and the extracts a hospital would send about them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ehr.simulate.options import SimulationOptions, SimulationSummary

__all__ = ["SimulationOptions", "SimulationSummary", "simulate_hospital"]


def simulate_hospital(
    out: Path | None, options: SimulationOptions, progress: Callable[[int, int], None] | None = None,
    deliver: Callable[[Iterator[bytes], int], None] | None = None,
) -> SimulationSummary:
    """Write the extract of one window of one world under ``out``; see `SimulationOptions`.

    With ``deliver`` the HL7 v2 messages are not written but handed to it, in the order in which they were sent, and how
    many they are; without ``out`` there is nothing but them. The truth goes to ``options.truth_path``, by default
    ``truth.parquet`` beside ``out``, never into it; without either it is not kept. Errors: `ConfigurationError` for
    options that contradict each other.
    """
    from contextlib import nullcontext

    import orjson

    from ehr.simulate.clock import instant
    from ehr.simulate.drift import drift_of
    from ehr.simulate.extract import Extract
    from ehr.simulate.mess import messy
    from ehr.simulate.registrations import registrations
    from ehr.simulate.truth import TruthFile, truth_rows
    from ehr.simulate.visits import live
    from ehr.simulate.world import calendar_of, draw_person

    calendar, drift = calendar_of(options), drift_of(options)
    since = instant(options.since) if options.since else 0
    until = instant(options.until or options.end)
    total = options.patients + drift.new_clinic_patients
    summary = SimulationSummary(out, options.truth_path or (out and out.parent / "truth.parquet"), total)
    path = summary.truth_path
    with Extract(out, drift, summary, deliver) as extract, (TruthFile(path) if path else nullcontext()) as truth:
        for index in range(total):
            person = draw_person(options, calendar, drift, index)
            life = live(options, calendar, drift, person)
            facts = messy(options, person, life)
            facts += registrations(person, life, facts)
            if index >= options.patients:
                facts = [_with_backlog(drift, fact) for fact in facts]
            registration = next((f for f in facts if f.kind == "patient" and f.version == 1), None)
            facts = sorted((f for f in facts if since <= f.sent_at < until), key=lambda f: (f.sent_at, f.id, f.version))
            extract.write(person, facts, registration)
            if truth is not None:
                truth.add(truth_rows(calendar, person))
            if progress and (index % 50 == 49 or index + 1 == total):
                progress(index + 1, total)
    if out is not None:
        (out / ".manifest.json").write_bytes(
            orjson.dumps(
                {kind: dict(sorted(counts.items())) for kind, counts in sorted(summary.counts.items())},
                option=orjson.OPT_INDENT_2,
            )
        )
    return summary


def _with_backlog(drift: Any, fact: Any) -> Any:
    """A fact of the clinic that joins: what happened before it joined is told when it joins."""
    arrival = drift.chart_arrival(fact.sent_at, (fact.event_at % 86_400) / 86_400)
    return fact if arrival == fact.sent_at else fact.again(known_at=arrival, sent_at=arrival)
