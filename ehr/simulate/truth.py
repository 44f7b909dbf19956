"""What nobody in the hospital knows: each person's true risk at each landmark. For tests and benches only.

No pipeline code may read it. Columns: ``fhir_id, mrn, second_fhir_id, second_mrn, landmark_date, is_at_risk,
true_risk_12m, onset_date, systolic_mmhg, diastolic_mmhg``.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ehr.simulate.clock import as_date, instant
from ehr.simulate.world import ADULT_AGE_YEARS, MAX_SCORED_AGE_YEARS, Calendar, Person


def truth_rows(calendar: Calendar, person: Person) -> list[dict[str, Any]]:
    """One row per landmark that the person lives to see."""
    rows = []
    steps = calendar.steps
    for day in calendar.landmarks:
        at = instant(day)
        if at >= person.dies_at or at < calendar.start:
            continue
        begins = int(np.searchsorted(steps, at))
        ends = int(np.searchsorted(steps, at + 365.25 * 86_400))
        expected = float(person.hazards[begins:ends].sum())
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
                "true_risk_12m": 1.0 - float(np.exp(-expected)),
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
