"""What is asked of the synthetic hospital, how often each kind of mess happens, and what was written."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal

from core.errors import ConfigurationError

DriftName = Literal["cuff_high", "younger_population", "coding_change"]
DRIFTS: tuple[DriftName, ...] = ("cuff_high", "younger_population", "coding_change")
HORIZON_DAYS = 400  # how far past `end` the hospital lives on, so that later nights can be delivered


@dataclass(frozen=True)
class MessRates:
    """Probabilities of what real feeds do wrong, each per fact, message or patient as named."""

    second_panel_code: float = 0.15  # blood pressure as 55284-4, diastolic component first in half of them
    local_code: float = 0.05  # blood pressure under the hospital's own code, value '140/90'
    kilopascal: float = 0.02
    pounds_or_inches: float = 0.12
    missing_unit: float = 0.015
    late_arrival: float = 0.03  # known 2 to 40 days after the event, per visit and group of facts
    correction: float = 0.008
    entered_in_error: float = 0.004
    duplicate: float = 0.012  # the same bytes again, hours to days later
    repeated_reading: float = 0.04  # two blood pressures at one visit (HL7: repeated OBX)
    no_offset: float = 0.01
    partial_date: float = 0.003  # a month for an onset, a day for a laboratory time or a prescription
    implausible: float = 0.003
    broken: float = 0.002  # an unusable copy beside the good one, per encounter
    swapped: float = 0.002  # the diastolic pressure typed where the systolic belongs, and the other way round
    contained_drug: float = 0.1  # FHIR: the drug as a Medication inside the MedicationRequest
    referenced_drug: float = 0.1  # FHIR: the drug as a Medication of its own
    wrong_charset: float = 0.02  # HL7 v2: MSH-18 says one thing, the bytes another
    second_registration: float = 0.015  # per patient: a second number, merged into the first after a while
    cancelled_visit: float = 0.005  # HL7 v2: A11; FHIR: Encounter cancelled
    ignored_resource: float = 0.08  # resource types the pipeline has no use for, per visit


@dataclass(frozen=True)
class SimulationOptions:
    """One world is (patients, years, seed, end, drift, drift_from, rates); one extract is a window of it.

    ``since`` (inclusive) and ``until`` (exclusive) cut by the time a message was SENT, at midnight UTC; None is open.
    ``until`` None means ``end``. Windows of one world tile: together they hold each message once.
    """

    patients: int = 2000
    years: int = 5
    seed: int = 20260101
    end: date = date(2026, 1, 1)
    since: date | None = None
    until: date | None = None
    drift: DriftName | None = None
    drift_from: date | None = None
    truth_path: Path | None = None
    rates: MessRates = field(default_factory=MessRates)

    def __post_init__(self) -> None:
        if self.patients < 1 or not 1 <= self.years <= 30:
            raise ConfigurationError("simulation: patients must be at least 1 and years 1 to 30")
        if (self.drift is None) != (self.drift_from is None):
            raise ConfigurationError("simulation: drift and drift_from go together; give both or neither")
        if self.drift is not None and self.drift not in DRIFTS:
            raise ConfigurationError(f"simulation: drift must be one of {', '.join(DRIFTS)}")
        if self.since and self.until and self.since >= self.until:
            raise ConfigurationError("simulation: since must lie before until")


@dataclass
class SimulationSummary:
    """What one extract holds. ``counts`` is written to ``.manifest.json`` too."""

    out: Path | None
    truth_path: Path | None
    patients: int
    files: int = 0
    size_bytes: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str, number: int = 1) -> None:
        self.counts.setdefault(kind, Counter())[name] += number

    @property
    def resources(self) -> int:
        """FHIR resources written, duplicates and broken ones among them."""
        return sum(self.counts.get("fhir_resources", {}).values())

    @property
    def messages(self) -> int:
        """HL7 v2 messages written or sent, duplicates and broken ones among them."""
        return sum(self.counts.get("hl7v2_messages", {}).values())
