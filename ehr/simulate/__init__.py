"""The synthetic hospital: people with latent blood pressure, and the extracts a hospital would send about them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.errors import ConfigurationError
from ehr.simulate.options import SimulationOptions, SimulationSummary

__all__ = ["SimulationOptions", "SimulationSummary", "simulate_hospital", "simulate_windows"]
Progress = Callable[[int, int], None]
Deliver = Callable[[Iterator[bytes], int], None]


def simulate_hospital(
    out: Path | None, options: SimulationOptions, progress: Progress | None = None, deliver: Deliver | None = None,
) -> SimulationSummary:
    """Write the extract of one window of one world under ``out``; see `SimulationOptions`.

    With ``deliver`` the HL7 v2 messages are not written but handed to it, in the order in which they were sent, and how
    many they are; without ``out`` there is nothing but them. The truth goes to ``options.truth_path``, by default
    ``truth.parquet`` beside ``out``, never into it; without either it is not kept. Errors: `ConfigurationError` for
    options that contradict each other.
    """
    return _simulate([(out, options)], progress, deliver)[0]


def simulate_windows(windows: Sequence[tuple[Path, SimulationOptions]]) -> list[SimulationSummary]:
    """Write several windows of one world, each as `simulate_hospital` does, at the price of one: the people, who cost most,
    live once for all of them. Errors: `ConfigurationError` where the options differ in more than ``since`` and ``until``."""
    return _simulate(windows, None, None)


def _simulate(
    windows: Sequence[tuple[Path | None, SimulationOptions]], progress: Progress | None, deliver: Deliver | None
) -> list[SimulationSummary]:
    from contextlib import ExitStack
    from dataclasses import replace

    from ehr.simulate.clock import instant
    from ehr.simulate.drift import drift_of
    from ehr.simulate.extract import Extract
    from ehr.simulate.mess import messy
    from ehr.simulate.registrations import registrations
    from ehr.simulate.truth import TruthFile, truth_rows
    from ehr.simulate.visits import live
    from ehr.simulate.world import calendar_of, draw_person

    options = windows[0][1]
    if any(replace(each, since=options.since, until=options.until) != options for _out, each in windows):
        raise ConfigurationError("simulation: windows to be written together must be of one world")
    calendar, drift = calendar_of(options), drift_of(options)
    total = options.patients + drift.new_clinic_patients
    bounds = [(instant(each.since) if each.since else 0, instant(each.until or each.end)) for _out, each in windows]
    summaries = [SimulationSummary(out, each.truth_path or (out and out.parent / "truth.parquet"), total)
                 for out, each in windows]  # fmt: skip
    with ExitStack() as stack:
        extracts = [stack.enter_context(Extract(out, drift, summary, deliver))
                    for (out, _options), summary in zip(windows, summaries, strict=True)]  # fmt: skip
        truths = [stack.enter_context(TruthFile(path)) for path in {summary.truth_path for summary in summaries} if path]
        for index in range(total):
            person = draw_person(options, calendar, drift, index)
            life = live(options, calendar, drift, person)
            facts = messy(options, person, life)
            facts += registrations(person, life, facts)
            if index >= options.patients:
                facts = [_with_backlog(drift, fact) for fact in facts]
            registration = next((f for f in facts if f.kind == "patient" and f.version == 1), None)
            facts.sort(key=lambda f: (f.sent_at, f.id, f.version))
            for extract, (since, until) in zip(extracts, bounds, strict=True):
                extract.write(person, [f for f in facts if since <= f.sent_at < until], registration)
            for truth in truths:
                truth.add(truth_rows(calendar, person))
            if progress and (index % 50 == 49 or index + 1 == total):
                progress(index + 1, total)
    for summary in summaries:
        _write_manifest(summary)
    return summaries


def _write_manifest(summary: SimulationSummary) -> None:
    import orjson

    if summary.out is not None:
        counts = {kind: dict(sorted(counts.items())) for kind, counts in sorted(summary.counts.items())}
        (summary.out / ".manifest.json").write_bytes(orjson.dumps(counts, option=orjson.OPT_INDENT_2))


def _with_backlog(drift: Any, fact: Any) -> Any:
    """A fact of the clinic that joins: what happened before it joined is told when it joins."""
    arrival = drift.chart_arrival(fact.sent_at, (fact.event_at % 86_400) / 86_400)
    return fact if arrival == fact.sent_at else fact.again(known_at=arrival, sent_at=arrival)
