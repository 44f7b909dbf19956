"""What happens to a clean fact on its way out: odd forms, late arrival, corrections, retractions, repeats.

Draws come in the order of the facts, and nothing looks ahead, so a drift that changes facts from one day on leaves
everything before it alone.
"""

from numpy.random import Generator

from ehr.simulate.clock import DAY, YEAR
from ehr.simulate.facts import Fact, Value
from ehr.simulate.forms import dressed
from ehr.simulate.options import MessRates, SimulationOptions
from ehr.simulate.visits import Life
from ehr.simulate.world import MESS_STREAM, Person, stream

NUMBERS = (
    "body_weight",
    "body_height",
    "bmi",
    "heart_rate",
    "glucose",
    "hba1c",
    "creatinine",
    "total_cholesterol",
    "ldl",
    "hdl",
    "triglycerides",
)
MEASURED = ("blood_pressure", *NUMBERS)


def messy(options: SimulationOptions, person: Person, life: Life) -> list[Fact]:
    """Every version of every fact as it is sent, in no particular order."""
    rng = stream(options, person.index, MESS_STREAM)
    rates = options.rates
    life.second_registration_until = second_until = _second_registration_until(rates, rng, person)
    told: list[Fact] = []
    delays: dict[tuple[int, str], int] = {}
    repeats: dict[tuple[int, str], int] = {}
    for clean in life.facts:
        u = [float(x) for x in rng.random(10)]
        slot = (clean.visit, clean.group)
        if slot not in delays:
            late = u[0] < rates.late_arrival
            delays[slot] = int((2 + 38 * u[1]) * DAY) if late else int(120 + 3400 * u[1])
            repeats[slot] = int((0.1 + 5 * u[9]) * DAY) if u[8] < rates.duplicate else 0
        known = clean.event_at + delays[slot]
        fact = clean.again(
            known_at=known,
            sent_at=known,
            quirk=_quirk(rates, clean, u[2], u[3]),
            is_second_registration=clean.event_at < second_until,
        )
        versions = _versions(rates, fact, u)
        told += versions
        if repeats[slot]:  # a visit's facts of one group share a message, so they are repeated together
            told.append(versions[0].again(sent_at=known + repeats[slot], is_duplicate=True))
        if clean.kind == "encounter" and u[8] > 1 - rates.broken:
            told.append(fact.again(kind="broken", quirk=""))
    return dressed(rates, person, told)


def _second_registration_until(rates: MessRates, rng: Generator, person: Person) -> float:
    """Until when (seconds) a person who was registered twice went by the second number; 0 for the others."""
    u, share = float(rng.random()), float(rng.random())
    return person.joins_at + (0.3 + share) * 2 * YEAR if u < rates.second_registration else 0.0


def _quirk(rates: MessRates, fact: Fact, u: float, v: float) -> str:
    options: list[tuple[str, float]] = [("no_offset", rates.no_offset)]
    if fact.kind == "blood_pressure":
        options += [
            ("local_code", rates.local_code),
            ("kilopascal", rates.kilopascal),
            ("implausible", rates.implausible),
            ("missing_unit", rates.missing_unit),
            ("second_code_reversed" if v < 0.5 else "second_code", rates.second_panel_code),
        ]
    elif fact.kind in ("body_weight", "body_height"):
        options += [("imperial", rates.pounds_or_inches), ("missing_unit", rates.missing_unit)]
    elif fact.kind in NUMBERS:
        options += [("missing_unit", rates.missing_unit)]
    elif fact.kind == "condition":
        options += [("partial_date", rates.partial_date)]
    elif fact.kind in ("encounter", "note"):
        options += [("wrong_charset", rates.wrong_charset)]
    for name, rate in options:
        if u < rate:
            return name
        u -= rate
    return ""


def _versions(rates: MessRates, fact: Fact, u: list[float]) -> list[Fact]:
    """The fact, or a wrong first version of it and what followed."""
    later = fact.known_at + int((0.2 + 9 * u[6]) * DAY)
    if fact.kind == "encounter" and u[5] < rates.cancelled_visit:
        return [fact, fact.again(kind="cancel", version=2, status="cancelled", known_at=later, sent_at=later)]
    if fact.kind not in MEASURED:
        return [fact]
    if u[5] < rates.correction:
        wrong = fact.again(values=_mistyped(fact.values))
        return [wrong, fact.again(version=2, status="corrected", known_at=later, sent_at=later)]
    if u[5] > 1 - rates.entered_in_error:
        return [fact, fact.again(version=2, status="entered-in-error", known_at=later, sent_at=later)]
    return [fact]


def _mistyped(values: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(round(value * 1.1, 1) if isinstance(value, float) else value for value in values)
