"""CDS Hooks 2.0 cards: what a clinician reads beside an open chart. Never `critical`, and never alarming on little data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ml.serving.plain_words import LABELS, SHOWN_UNITS

if TYPE_CHECKING:
    from ml.serving.risk import Assessment

Card = dict[str, Any]
LONGEST_SUMMARY = 140
SOURCE_LABEL = "Cuff, one-year risk of hypertension"
# What the Framingham part of the model stands on. Where one of these is absent or stale a high risk is told, but calmly.
CORE_INPUTS = ("age_years", "sex", "systolic_mean_12m_mmhg", "diastolic_mean_12m_mmhg", "bmi_last_kg_m2", "smoking_status")
MISSING = {
    "age_unknown": "the date of birth",
    "no_recent_reading": "a blood pressure of the last 12 months",
}
DOES_NOT_APPLY = {
    "diagnosed": "hypertension is among the conditions",
    "treated": "a drug against hypertension has been prescribed",
    "two_high_readings": "the record holds readings of 140/90 mmHg or more on two days",
    "under_18": "it is meant for ages 18 to 85",
    "over_85": "it is meant for ages 18 to 85",
}
# The keys of the prefetch whose absence changes what a card may say.
SENT = {"observations": "observations", "conditions": "conditions", "medications": "prescriptions", "encounters": "visits"}
_ARROWS = {"raises": "▲", "lowers": "▼"}


def risk_card(assessment: "Assessment", page_url: str, not_sent: Sequence[str] = (), ignored: int = 0) -> Card:
    """The risk with its reasons and inputs. ``not_sent`` are keys of the prefetch that were not answered, ``ignored`` the
    number of entries that could not be used."""
    absent = [each.name for each in assessment.inputs if each.status == "absent"]
    is_thin = bool({"observations", "conditions"} & set(not_sent)) or any(
        each.status != "present" for each in assessment.inputs if each.name in CORE_INPUTS)  # fmt: skip
    lines = [f"**{percent(assessment.risk)}** risk of hypertension within 12 months ({assessment.band}).", ""]
    if assessment.reasons:
        lines += ["What moves it most:", ""]
        lines += [f"- {_ARROWS[each.direction]} {_plain(each.text)}" for each in assessment.reasons]
        lines.append("")
    lines += _input_table(assessment)
    if absent:
        lines += ["", f"Not known: {'; '.join(LABELS[name] for name in absent)}."]
    lines += _what_is_missing(not_sent, ignored)
    lines += ["", f"Model version {assessment.model_version}. It estimates a chance, and decides nothing."]
    indicator = "warning" if assessment.band == "high" and not is_thin else "info"
    summary = f"Risk of hypertension within 12 months: {percent(assessment.risk)} ({assessment.band})"
    return _card(summary + (", on incomplete data" if is_thin else ""), lines, indicator, page_url)


def no_risk_cards(reason: str, page_url: str, not_sent: Sequence[str] = (), ignored: int = 0) -> list[Card]:
    """Why there is no risk, by ``ineligible_reason`` of the marts: what is missing, or why it does not apply. Nothing is
    said beside the chart of somebody who has died."""
    if reason == "deceased":
        return []
    if reason in MISSING:
        lines = [f"To estimate the risk of hypertension, Cuff needs {MISSING[reason]}.", *_what_is_missing(not_sent, ignored)]
        return [_card(f"No risk of hypertension estimated: {MISSING[reason]} is missing", lines, "info", page_url)]
    why = DOES_NOT_APPLY[reason]
    lines = [f"The risk is that of new hypertension. It does not apply here: {why}."]
    return [_card(f"Risk of new hypertension does not apply: {why}", lines, "info", page_url)]


def percent(risk: float) -> str:
    """'4.1 %'; two digits where one would say 0.0."""
    return f"{100 * risk:.2f} %" if risk < 0.001 else f"{100 * risk:.1f} %"


def _card(summary: str, lines: Sequence[str], indicator: str, page_url: str) -> Card:
    return {
        "summary": summary[: LONGEST_SUMMARY - 1],
        "detail": "\n".join(lines),
        "indicator": indicator,
        "source": {"label": SOURCE_LABEL, "url": page_url},
        "links": [{"label": "How the risk is made, and what would change it", "url": page_url, "type": "absolute"}],
    }


def _input_table(assessment: "Assessment") -> list[str]:
    rows = [f"| {LABELS[each.name]} | {_value(each.value, SHOWN_UNITS[each.name])} | {_age(each.age_days)} | {each.status} |"
            for each in assessment.inputs if each.status != "absent"]  # fmt: skip
    return ["| input | value | age | status |", "| --- | --- | --- | --- |", *rows] if rows else []


def _what_is_missing(not_sent: Sequence[str], ignored: int) -> list[str]:
    said = []
    if names := [SENT[name] for name in not_sent if name in SENT]:
        said.append(f"Not sent with the request: {', '.join(names)}.")
    if ignored:
        said.append(f"{ignored} {'entry' if ignored == 1 else 'entries'} of the request could not be used.")
    return ["", " ".join(said)] if said else []


def _value(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = f"{value:.4g}" if isinstance(value, float) else _plain(str(value))
    return f"{shown} {unit}".rstrip()


def _age(days: int | None) -> str:
    if days is None:
        return ""
    return "today" if days == 0 else f"{days} d" if days < 90 else f"{days / 30.44:.0f} months"


def _plain(text: str) -> str:
    """Nothing that Markdown or a table would take for its own."""
    return "".join(sign for sign in text if sign not in "|<>[]`*\n")
