"""Features and their units as people read them; UCUM is for machines."""

from ml.features.catalog import FEATURES

LABELS = {
    "age_years": "Age", "sex": "Sex",
    "systolic_last_mmhg": "Systolic pressure, newest", "diastolic_last_mmhg": "Diastolic pressure, newest",
    "systolic_mean_12m_mmhg": "Systolic pressure, mean of 12 months",
    "diastolic_mean_12m_mmhg": "Diastolic pressure, mean of 12 months",
    "systolic_slope_mmhg_per_year": "Systolic pressure, trend", "systolic_sd_12m_mmhg": "Systolic pressure, spread",
    "pulse_pressure_last_mmhg": "Pulse pressure, newest", "blood_pressure_count_12m": "Readings in 12 months",
    "blood_pressure_age_days": "Days since the newest reading", "bmi_last_kg_m2": "Body mass index",
    "bmi_change_12m_kg_m2": "Body mass index, change in 12 months", "heart_rate_last_bpm": "Heart rate",
    "glucose_last_mg_dl": "Glucose", "hba1c_last_pct": "Glycated haemoglobin", "creatinine_last_mg_dl": "Creatinine",
    "egfr_last_ml_min": "Filtration rate (eGFR)", "total_cholesterol_last_mg_dl": "Total cholesterol",
    "ldl_last_mg_dl": "LDL cholesterol", "hdl_last_mg_dl": "HDL cholesterol", "triglycerides_last_mg_dl": "Triglycerides",
    "smoking_status": "Smoking", "has_diabetes": "Diabetes", "has_chronic_kidney_disease": "Chronic kidney disease",
    "drug_count_12m": "Drugs in 12 months", "visit_count_12m": "Visits in 12 months",
}  # fmt: skip
UNITS = {
    "a": "years", "mm[Hg]": "mmHg", "mm[Hg]/a": "mmHg per year", "{count}": "", "d": "days", "kg/m2": "kg/m²",
    "/min": "per min", "mL/min/{1.73_m2}": "mL/min per 1.73 m²",
}  # fmt: skip
SHOWN_UNITS = {feature.name: UNITS.get(feature.unit, feature.unit) for feature in FEATURES}
