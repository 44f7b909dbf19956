"""What nobody in the hospital knows: each person's true risk at each landmark. For tests and benches only.

No pipeline code may read it. Columns: ``fhir_id, mrn, second_fhir_id, second_mrn, landmark_date, is_at_risk,
true_risk_12m, onset_date, systolic_mmhg, diastolic_mmhg``. The risk is that of an onset
within 365 days for somebody still free of hypertension; it means something only where ``is_at_risk``.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ehr.simulate.clock import DAY, as_date, instant
from ehr.simulate.world import ADULT_AGE_YEARS, MAX_SCORED_AGE_YEARS, Calendar, Person


def truth_rows(calendar: Calendar, person: Person) -> list[dict[str, Any]]:
    """One row per landmark that the person lives to see."""
    rows = []
    accumulated = np.concatenate(([0.0], np.cumsum(person.hazards)))
    for day in calendar.landmarks:
        at = instant(day)
        if at >= person.dies_at or at < calendar.start:
            continue
        # The hazard is constant within a step, so its integral is linear between them.
        before, after = np.interp([at, at + 365 * DAY], calendar.steps, accumulated)
        systolic, diastolic = person.blood_pressure(at)
        age = person.age_years(at)
        rows.append(
            {
                "fhir_id": person.fhir_id,
                "mrn": person.identity.mrn,
                "second_fhir_id": person.second_fhir_id,
                "second_mrn": person.identity.second_mrn,
                "landmark_date": day,
                "is_at_risk": bool(person.onset_at > at and ADULT_AGE_YEARS <= age <= MAX_SCORED_AGE_YEARS),
                "true_risk_12m": 1.0 - float(np.exp(before - after)),
                "onset_date": as_date(person.onset_at) if np.isfinite(person.onset_at) else None,
                "systolic_mmhg": systolic,
                "diastolic_mmhg": diastolic,
            }
        )
    return rows


def write_truth(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the truth as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
