"""The page at ``/`` for people: choose a simulated patient or type values, see the risk, its reasons, what would change it.

The page itself knows nothing of anybody. Its JavaScript asks the API like any client, with a token: one that the person
pastes, or, on a developer's own machine, one that the page hands out.
"""

import json
import logging
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from core.errors import CuffError
from ml.evaluation.rules import load_gate_rules
from ml.serving.plain_words import LABELS, SHOWN_UNITS
from ml.serving.plausible import plausible_range

if TYPE_CHECKING:
    from jinja2 import Template

logger = logging.getLogger("cuff.serving")
router = APIRouter(include_in_schema=False)
STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"
_LOOKED_AT, _SHOWN_PATIENTS = 60, 15
TOKEN_SCOPES = ("risk:read", "risk:score", "model:read")
_TOKEN_MINUTES = 60
# What a person types first, and what they may add. A value typed is the newest one, and the mean of the year as well.
FIRST_NUMBERS = ("age_years", "systolic_last_mmhg", "diastolic_last_mmhg", "bmi_last_kg_m2")
MORE_NUMBERS = ("heart_rate_last_bpm", "glucose_last_mg_dl", "hba1c_last_pct", "total_cholesterol_last_mg_dl",
                "ldl_last_mg_dl", "hdl_last_mg_dl", "triglycerides_last_mg_dl", "creatinine_last_mg_dl", "egfr_last_ml_min")
_SHOWN_FIRST = {"age_years": "52", "systolic_last_mmhg": "128", "diastolic_last_mmhg": "82", "bmi_last_kg_m2": "27.5"}
_TYPED = {"systolic_last_mmhg": "Systolic pressure", "diastolic_last_mmhg": "Diastolic pressure"}


@router.get("/", response_class=HTMLResponse)
def page(request: Request) -> HTMLResponse:
    """For people. In a thread: signing a token and looking for patients take milliseconds."""
    token = _development_token(request)
    bands = load_gate_rules().bands
    data = {
        "token": token, "labels": LABELS, "units": SHOWN_UNITS,
        "bands": {"moderate": bands.moderate, "high": bands.high},
    }  # fmt: skip
    html = _template().render(
        data=_for_html(data), patients=_sample(request) if token else [], is_development=token is not None,
        first=[_field(name) for name in FIRST_NUMBERS], more=[_field(name) for name in MORE_NUMBERS],
    )  # fmt: skip
    return HTMLResponse(html)


def _development_token(request: Request) -> str | None:
    """A token for whoever sits at the machine itself, in development only; None for everybody else."""
    from ml.serving.security.development import issue

    if request.client is None or not _is_loopback(request.client.host):
        return None
    try:
        return issue(request.app.state.settings, TOKEN_SCOPES, name="page", minutes=_TOKEN_MINUTES)
    except CuffError:
        return None  # production, or an issuer of one's own


def _sample(request: Request) -> list[dict[str, str]]:
    """A few simulated patients, those first to whom the risk applies; none where the store is away: values can still be
    typed."""
    features = request.app.state.features
    try:
        keys = features.sample(_LOOKED_AT)
        rows = [row for row in features.read(keys) if row is not None]
    except Exception as error:
        logger.warning("the page shows no patients: %s", type(error).__name__)
        return []
    rows.sort(key=lambda row: not row.is_eligible)
    return [{"key": row.patient_key, "text": _described(row)} for row in rows[:_SHOWN_PATIENTS]]


def _described(row: Any) -> str:
    age = row.values["age_years"]
    about = [f"{age:.0f} years" if isinstance(age, float) else "", str(row.values["sex"] or ""),
             "" if row.is_eligible else "not assessed"]  # fmt: skip
    return ", ".join(filter(None, about)) + f" · {row.patient_key[:6]}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _field(name: str) -> dict[str, Any]:
    low, high = plausible_range(name)
    return {"name": name, "label": _TYPED.get(name, LABELS[name]), "unit": SHOWN_UNITS[name], "low": f"{low:g}",
            "high": f"{high:g}", "value": _SHOWN_FIRST.get(name, "")}  # fmt: skip


def _for_html(data: dict[str, Any]) -> str:
    """JSON that may stand in a ``<script type="application/json">``: nothing in it can end the element."""
    return json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@lru_cache(maxsize=1)
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined).get_template("page.html")
