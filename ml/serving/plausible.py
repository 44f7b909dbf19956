"""In which range a number that a client gives can be a person's: dbt's limits of plausibility where the feature is a
measurement, and wide bounds of its own for what is counted or worked out."""

from ml.serving.code_tables import code_tables

_MEASURES = {
    "systolic_last_mmhg": "systolic", "systolic_mean_12m_mmhg": "systolic",
    "diastolic_last_mmhg": "diastolic", "diastolic_mean_12m_mmhg": "diastolic", "bmi_last_kg_m2": "bmi",
    "heart_rate_last_bpm": "heart_rate", "glucose_last_mg_dl": "glucose", "hba1c_last_pct": "hba1c",
    "creatinine_last_mg_dl": "creatinine", "egfr_last_ml_min": "egfr",
    "total_cholesterol_last_mg_dl": "total_cholesterol", "ldl_last_mg_dl": "ldl", "hdl_last_mg_dl": "hdl",
    "triglycerides_last_mg_dl": "triglycerides",
}  # fmt: skip
_WORKED_OUT = {
    "age_years": (18.0, 86.0),  # whom the model is meant for: 85 is its last year
    "systolic_slope_mmhg_per_year": (-400.0, 400.0), "systolic_sd_12m_mmhg": (0.0, 150.0),
    "pulse_pressure_last_mmhg": (0.0, 230.0), "blood_pressure_count_12m": (0.0, 100_000.0),
    "blood_pressure_age_days": (0.0, 40_000.0), "bmi_change_12m_kg_m2": (-100.0, 100.0),
    "drug_count_12m": (0.0, 1_000.0), "visit_count_12m": (0.0, 10_000.0),
}  # fmt: skip


def plausible_range(name: str) -> tuple[float, float]:
    """Lowest and highest value taken, in the feature's unit. Errors: ``KeyError`` for a feature that is no number."""
    return _WORKED_OUT[name] if name in _WORKED_OUT else code_tables().limits[_MEASURES[name]]
