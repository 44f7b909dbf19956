"""How facts are dressed on their way out: references, drugs, dates, unusable copies, and what is reported beside them.

Chance here is a hash of the fact's own id, so that no draw of `world`, `visits` or `mess` moves.
"""

from datetime import date
from hashlib import blake2b
from statistics import NormalDist

from ehr.simulate.clock import instant
from ehr.simulate.facts import Fact
from ehr.simulate.options import MessRates
from ehr.simulate.routes import route_of
from ehr.simulate.world import Person

# As (style, share of patients). Bulk Data writes relative references; bundles come from many hands.
BUNDLE_REFERENCES = (("urn", 0.25), ("absolute", 0.2), ("conditional", 0.15))
NDJSON_REFERENCES = (("absolute", 0.08), ("conditional", 0.02))
FHIR_BUNDLE_BREAKS = ("not_a_number", "no_subject")
FHIR_LINE_BREAKS = ("cut", "no_subject")
HL7_BREAKS = ("no_number", "no_type", "no_control_id", "cut", "not_a_number")
PARTIAL_BIRTH_DATES = 0.004
EGFR_REPORTED, EGFR_REPORTED_FROM = 0.9, instant(date(2022, 1, 1))  # the equation of 2021, adopted at the next New Year
EGFR_NOISE = 0.02
DATED_BY_DAY = ("labs", "medication")


def chance(of: str, purpose: str) -> float:
    """A number in [0, 1) that depends on the two words alone."""
    return int.from_bytes(blake2b(f"{purpose}/{of}".encode(), digest_size=8).digest()) / 2**64


def dressed(rates: MessRates, person: Person, told: list[Fact]) -> list[Fact]:
    """The same facts in the forms they travel in, estimated filtration rates and discharges beside them."""
    styles = BUNDLE_REFERENCES if person.routes == "bundle" else NDJSON_REFERENCES
    style = _chosen(chance(person.fhir_id, "reference"), styles)
    cancelled = {fact.visit for fact in told if fact.kind == "cancel"}
    beside: list[Fact] = []
    for fact in told:
        fact.reference = style
        if not fact.quirk:
            fact.quirk = _quirk(rates, fact)
        if fact.kind == "medication":
            shares = (("contained", rates.contained_drug), ("referenced", rates.referenced_drug))
            fact.form = _chosen(chance(fact.id, "drug"), shares)
        elif fact.kind == "broken":
            fact.form = _break(person, fact)
        elif fact.kind == "creatinine":
            beside += _egfr(person, fact)
        elif fact.kind == "encounter" and fact.visit not in cancelled and not fact.is_duplicate:
            beside += _discharge(person, fact)
    return told + beside


def birth_date(person: Person) -> str:
    """ISO 8601; a few people know the year alone, or the month."""
    u = chance(person.fhir_id, "birth")
    return person.born.isoformat()[: 4 if u < PARTIAL_BIRTH_DATES / 2 else 7 if u < PARTIAL_BIRTH_DATES else 10]


def ckd_epi_2021(creatinine_mg_dl: float, age_years: float, is_woman: bool) -> float:
    """Filtration rate, mL/min/1.73 m2, by the CKD-EPI creatinine equation (Inker et al., NEJM 2021;385:1737-1749)."""
    kappa, alpha = (0.7, -0.241) if is_woman else (0.9, -0.302)
    ratio = creatinine_mg_dl / kappa
    return (142 * min(ratio, 1.0) ** alpha * max(ratio, 1.0) ** -1.2 * 0.9938**age_years) * (1.012 if is_woman else 1.0)


def _chosen(u: float, shares: tuple[tuple[str, float], ...]) -> str:
    for name, share in shares:
        if u < share:
            return name
        u -= share
    return ""


def _quirk(rates: MessRates, fact: Fact) -> str:
    if fact.kind == "blood_pressure" and chance(fact.id, "swapped") < rates.swapped:
        return "swapped"
    by_day = fact.group == "labs" or fact.kind == "medication"
    return "date_only" if by_day and chance(fact.id, "date") < rates.partial_date else ""


def _break(person: Person, fact: Fact) -> str:
    route = route_of(person, fact)
    kinds = {"hl7v2": HL7_BREAKS, "bundle": FHIR_BUNDLE_BREAKS, "ndjson": FHIR_LINE_BREAKS}[route]
    return kinds[int(chance(fact.id, "broken") * len(kinds))]


def _egfr(person: Person, fact: Fact) -> list[Fact]:
    """What a laboratory adds to a creatinine, in each of its versions."""
    if fact.event_at < EGFR_REPORTED_FROM or chance(fact.id, "egfr") >= EGFR_REPORTED:
        return []
    noise = NormalDist(1, EGFR_NOISE).inv_cdf(min(max(chance(fact.id, "egfr noise"), 1e-6), 1 - 1e-6))
    rate = ckd_epi_2021(float(fact.values[0]), person.age_years(fact.event_at), person.is_woman) * noise
    return [fact.again(kind="egfr", id=f"{fact.id[:-2]}16", values=(float(round(rate)),))]


def _discharge(person: Person, fact: Fact) -> list[Fact]:
    """Of a stay that HL7 v2 tells of; FHIR sends the finished visit once."""
    if fact.values[0] == "AMB" or route_of(person, fact) != "hl7v2":
        return []
    left = int(float(fact.values[1])) + fact.known_at - fact.event_at
    return [fact.again(kind="discharge", known_at=left, sent_at=left, quirk="", version=2)]
