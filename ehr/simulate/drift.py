"""How the world shifts from one day on. Before that day nothing differs: the same draws, the same bytes.

cuff_high            every reading is 8 mmHg too high, systolic and diastolic alike
younger_population   a student clinic joins: its charts of the past year arrive in the first two days and its patients
                     (18 to 30 years, 1.2 for each patient of the hospital) keep coming; people over 40 come less often
coding_change        blood pressure and smoking status travel under codes that nobody declared
"""

from dataclasses import dataclass

from ehr.simulate.clock import DAY, instant
from ehr.simulate.options import SimulationOptions

CUFF_SHIFT_MMHG = 8.0
NEW_CLINIC_RATIO = 1.2
NEW_CLINIC_CHART_DAYS = 365
OLDER_VISIT_SHARE = 0.4
OLDER_AGE_YEARS = 40.0
NEW_BLOOD_PRESSURE_CODE = "NIBP-2"
NEW_SMOKING_CODE = "TOB-STAT"
NEW_SYSTEM = "urn:simhosp:local:v2"
NEW_HL7_SYSTEM = "L2"


@dataclass(frozen=True)
class Drift:
    """The drift of one world; ``starts_at`` is infinite when there is none."""

    name: str | None
    starts_at: float
    new_clinic_patients: int
    is_new_clinic: bool = False  # seen from a person of the clinic that joins

    def reading_shift_mmhg(self, at: int) -> float:
        return CUFF_SHIFT_MMHG if self.name == "cuff_high" and at >= self.starts_at else 0.0

    def visit_share(self, at: float, age_years: float) -> float:
        """Share of the visits that still take place."""
        drifted = self.name == "younger_population" and at >= self.starts_at
        return OLDER_VISIT_SHARE if drifted and age_years > OLDER_AGE_YEARS else 1.0

    def codes_changed(self, at: int) -> bool:
        return self.name == "coding_change" and at >= self.starts_at

    def chart_arrival(self, at: int, spread: float) -> int:
        """When a chart entry of the new clinic reaches us: the backlog within two days, the rest as it happens."""
        if at >= self.starts_at:
            return at
        return int(self.starts_at + 600 + spread * 1.8 * DAY)


def drift_of(options: SimulationOptions) -> Drift:
    starts_at = float(instant(options.drift_from)) if options.drift_from else float("inf")
    new = round(options.patients * NEW_CLINIC_RATIO) if options.drift == "younger_population" else 0
    return Drift(options.drift, starts_at, new)
