"""The codes and units under which the hospital sends what it measures. Systems as FHIR names them."""

from dataclasses import dataclass

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
SNOMED = "http://snomed.info/sct"
LOCAL = "urn:simhosp:local"
MRN_SYSTEM = "urn:oid:2.999.1.1"
HL7_NAMES = {LOINC: "LN", SNOMED: "SCT", RXNORM: "RXNORM", LOCAL: "L", "http://hl7.org/fhir/sid/icd-10-cm": "I10"}
SYSTOLIC, DIASTOLIC, PANEL, SECOND_PANEL = "8480-6", "8462-4", "85354-9", "55284-4"
SMOKING, FAMILY_NOTE = "72166-2", "11506-3"
SMOKING_CODES = {"current": "449868002", "former": "8517006", "never": "266919005"}
KILOPASCAL_PER_MMHG = 0.133322387415
POUNDS_PER_KILOGRAM = 2.2046226218
INCHES_PER_CENTIMETRE = 1 / 2.54


@dataclass(frozen=True)
class Measure:
    """A measured quantity: LOINC code, display and UCUM unit."""

    code: str
    display: str
    unit: str


MEASURES = {
    "heart_rate": Measure("8867-4", "Heart rate", "/min"),
    "body_weight": Measure("29463-7", "Body weight", "kg"),
    "body_height": Measure("8302-2", "Body height", "cm"),
    "bmi": Measure("39156-5", "Body mass index", "kg/m2"),
    "glucose": Measure("2345-7", "Glucose", "mg/dL"),
    "hba1c": Measure("4548-4", "Hemoglobin A1c", "%"),
    "creatinine": Measure("2160-0", "Creatinine", "mg/dL"),
    "total_cholesterol": Measure("2093-3", "Cholesterol", "mg/dL"),
    "ldl": Measure("13457-7", "LDL cholesterol", "mg/dL"),
    "hdl": Measure("2085-9", "HDL cholesterol", "mg/dL"),
    "triglycerides": Measure("2571-8", "Triglyceride", "mg/dL"),
}


def measured(kind: str, value: float, quirk: str) -> tuple[float, str]:
    """The number and unit as sent; the unit is empty when it was forgotten."""
    if quirk == "pounds_or_inches":
        if kind == "body_weight":
            return round(value * POUNDS_PER_KILOGRAM, 1), "[lb_av]"
        return round(value * INCHES_PER_CENTIMETRE, 1), "[in_i]"
    return value, "" if quirk == "missing_unit" else MEASURES[kind].unit


def pressure(value_mmhg: float, quirk: str) -> tuple[float, str]:
    """A pressure and its unit as sent."""
    if quirk == "kilopascal":
        return round(value_mmhg * KILOPASCAL_PER_MMHG, 1), "kPa"
    return value_mmhg, "" if quirk == "missing_unit" else "mm[Hg]"
