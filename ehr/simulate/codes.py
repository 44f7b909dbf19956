"""The codes and units the synthetic hospital writes: LOINC, SNOMED CT, UCUM."""

from dataclasses import dataclass

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
LOCAL_SYSTEM = "urn:simhosp:local"
MRN_SYSTEM = "urn:oid:2.999.1.1"
FHIR_BASE = "https://fhir.simhosp.example/r4"
PANEL_CODE, SECOND_PANEL_CODE = "85354-9", "55284-4"
SYSTOLIC_CODE, DIASTOLIC_CODE = "8480-6", "8462-4"
SMOKING_CODE = "72166-2"
SMOKING_ANSWERS = {"current": "449868002", "former": "8517006", "never": "266919005"}
MMHG_PER_KPA, KG_PER_POUND, CM_PER_INCH = 7.50062, 0.45359237, 2.54


@dataclass(frozen=True)
class Measure:
    """How one measure is coded: LOINC code, UCUM unit, and the factor and unit of its imperial form."""

    code: str
    unit: str
    imperial_unit: str = ""
    canonical_per_imperial: float = 1.0


MEASURES = {
    "heart_rate": Measure("8867-4", "/min"),
    "body_weight": Measure("29463-7", "kg", "[lb_av]", KG_PER_POUND),
    "body_height": Measure("8302-2", "cm", "[in_i]", CM_PER_INCH),
    "bmi": Measure("39156-5", "kg/m2"),
    "glucose": Measure("2345-7", "mg/dL"),
    "hba1c": Measure("4548-4", "%"),
    "creatinine": Measure("2160-0", "mg/dL"),
    "egfr": Measure("98979-8", "mL/min/{1.73_m2}"),
    "total_cholesterol": Measure("2093-3", "mg/dL"),
    "ldl": Measure("13457-7", "mg/dL"),
    "hdl": Measure("2085-9", "mg/dL"),
    "triglycerides": Measure("2571-8", "mg/dL"),
}


def quantity(kind: str, value: float, quirk: str) -> tuple[float, str]:
    """A measured number and its unit as the quirk has them written; the unit is '' where it is left out."""
    if kind == "blood_pressure":
        number, unit = (round(value / MMHG_PER_KPA, 2), "kPa") if quirk == "kilopascal" else (value, "mm[Hg]")
        if quirk == "implausible":
            number = value * 10
    else:
        measure = MEASURES[kind]
        number, unit = value, measure.unit
        if quirk == "imperial":
            number, unit = round(value / measure.canonical_per_imperial, 1), measure.imperial_unit
    return number, "" if quirk == "missing_unit" else unit
