"""What nobody in the hospital knows: each person's true risk at each landmark. For tests and benches only.

No pipeline code may read it. Columns: ``fhir_id, mrn, second_fhir_id, second_mrn, landmark_date, is_at_risk,
true_risk_12m, onset_date, systolic_mmhg, diastolic_mmhg``. The risk is that of an onset
within 365 days for somebody still free of hypertension; it means something only where ``is_at_risk``.
"""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from ehr.simulate.clock import DAY, as_date, instant
from ehr.simulate.world import ADULT_AGE_YEARS, MAX_SCORED_AGE_YEARS, Calendar, Person

COLUMNS = {
    "fhir_id": str, "mrn": str, "second_fhir_id": str, "second_mrn": str, "landmark_date": date, "is_at_risk": bool,
    "true_risk_12m": float, "onset_date": date, "systolic_mmhg": float, "diastolic_mmhg": float,
}  # fmt: skip


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


class TruthFile:
    """The truth as Parquet, written as it comes."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {str: pa.string(), date: pa.date32(), bool: pa.bool_(), float: pa.float64()}
        self._schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> "TruthFile":
        return self

    def __exit__(self, *_error: object) -> None:
        self._write()
        self._writer.close()

    def add(self, rows: list[dict[str, Any]], rows_at_once: int = 20_000) -> None:
        self._rows += rows
        if len(self._rows) >= rows_at_once:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []
