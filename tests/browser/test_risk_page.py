"""The page at `/` in a real Chromium, on a real API: an estimate, its reasons, what would change it; nothing from outside."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from core.serving_tables import ServedPrediction
from core.settings import Settings
from core.store import store_session
from tests.ml.serving.running_api import house_that_can_answer, running_api

pytestmark = [pytest.mark.slow, pytest.mark.browser]
PERCENT = re.compile(r"\d+\.\d+")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return house_that_can_answer(tmp_path_factory.mktemp("page") / "var")


@pytest.fixture(scope="module")
def address(house: Settings) -> Iterator[str]:
    with running_api(house) as running:
        yield running


@pytest.fixture
def watched(page, address):
    """The page, with everything that the browser complained of or asked for."""
    page.told, page.asked = [], []
    page.on("console", lambda message: page.told.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(f"{address}/")
    return page


@pytest.fixture
def shots(tmp_path) -> Path:
    return Path(os.environ.get("CUFF_TEST_SCREENSHOTS", tmp_path))


def figure(page) -> float:
    return float(PERCENT.search(page.locator("#risk-number").inner_text())[0])


def test_a_simulated_patient_is_chosen_and_explained(watched, address, house, shots):
    page = watched
    page.set_viewport_size({"width": 1280, "height": 900})
    assert page.locator("#patient option").count() > 5
    page.select_option("#patient", index=1)
    page.wait_for_selector("#changes li")
    page.screenshot(path=str(shots / "risk-page.png"), full_page=True)
    risk = figure(page)
    assert 0 < risk < 100
    assert page.locator("#risk-band").inner_text() in ("low", "moderate", "high")
    assert page.locator("#people circle").count() == 100
    assert 1 <= page.locator("#reasons li").count() <= 5
    for bar in page.locator("#reasons .bar").all():
        assert bar.bounding_box()["width"] >= 3
    assert page.locator("#inputs tr").count() > 10
    assert page.locator("#inputs .tag").first.inner_text() in ("present", "stale")
    assert "hypertension-risk, version 1" in page.locator("#origin").inner_text()
    with store_session(house) as session:
        shown = session.scalars(select(ServedPrediction).where(ServedPrediction.source == "store")).all()[-1]
    assert shown.prediction_id in page.locator("#origin").inner_text()
    assert shown.client == "page"
    assert risk == pytest.approx(100 * shown.risk, abs=0.051)
    assert page.told == []
    assert all(url.startswith(address) for url in page.asked)


def test_typed_values_are_estimated_and_lower_pressure_means_less_risk(watched, shots):
    page = watched
    page.fill("#age_years", "58")
    page.fill("#systolic_last_mmhg", "136")
    page.fill("#diastolic_last_mmhg", "86")
    page.fill("#bmi_last_kg_m2", "31")
    page.select_option("#smoking_status", "current")
    page.press("#bmi_last_kg_m2", "Enter")  # the keyboard is enough
    page.wait_for_selector("#changes li")
    page.screenshot(path=str(shots / "risk-page-typed.png"), full_page=True)
    risk = figure(page)
    words, risks = (page.locator(f"#changes {part}").all_inner_texts() for part in (".words", "b"))
    changes = dict(zip(words, risks, strict=True))
    assert list(changes) == ["Blood pressure lower by 10/5 mmHg", "Body mass index lower by 2 kg/m²", "No longer smoking",
                             "All of these", "Blood pressure higher by 10/5 mmHg"]  # fmt: skip
    lower, higher = (float(PERCENT.search(changes[f"Blood pressure {way} by 10/5 mmHg"])[0]) for way in ("lower", "higher"))
    assert lower < risk < higher
    assert float(PERCENT.search(changes["All of these"])[0]) <= lower
    page.fill("#systolic_last_mmhg", "112")
    page.fill("#diastolic_last_mmhg", "70")
    page.click("button.main")
    page.wait_for_function("before => document.querySelector('#risk-number').innerText !== before", arg=f"{risk:.1f}\u202f%")
    assert figure(page) < risk
    assert page.told == []


def test_what_the_api_refuses_is_said_and_a_stranger_types_a_token(watched, address):
    page = watched
    page.eval_on_selector("#values", "form => { form.noValidate = true }")
    page.fill("#systolic_last_mmhg", "999")
    page.click("button.main")
    page.wait_for_selector("#problem:visible")
    said = page.locator("#problem").inner_text()
    assert "systolic_last_mmhg" in said
    assert "999" not in said
    page.fill("#age_years", "")
    page.eval_on_selector("#values", "form => { form.noValidate = false }")
    page.click("button.main")
    assert page.locator("#age_years:invalid").count() == 1


def test_it_fits_a_telephone_and_a_dark_room(watched, shots):
    page = watched
    page.set_viewport_size({"width": 400, "height": 800})
    page.emulate_media(color_scheme="dark")
    page.click("button.main")
    page.wait_for_selector("#changes li")
    page.screenshot(path=str(shots / "risk-page-phone.png"), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    for selector in ("#risk", "#reasons-card", "#changes-card", "#inputs-card"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400


def test_every_field_has_a_label_and_every_text_contrast(watched):
    page = watched
    page.click("button.main")
    page.wait_for_selector("#changes li")
    unlabelled = page.evaluate("""() => [...document.querySelectorAll('input, select')]
        .filter((field) => !field.labels.length).map((field) => field.id || field.name)""")
    assert unlabelled == []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(CONTRASTS) == []


# WCAG 2.1: 4.5 to 1 for text, 3 to 1 where it is large.
CONTRASTS = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
  const light = (rgb) => { const [r, g, b] = rgb.map((part) => { const c = part / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (element) => { for (let at = element; at; at = at.parentElement) {
    const { rgb, a } = parse(getComputedStyle(at).backgroundColor); if (a === 1) return rgb; } return [255, 255, 255]; };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length || ['SCRIPT', 'OPTION', 'NOSCRIPT'].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const [over, under] = [light(parse(style.color).rgb), light(behind(element))].sort((x, y) => y - x);
    const ratio = (over + 0.05) / (under + 0.05);
    const least = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    if (ratio < least) poor.push(`${element.className || element.tagName} ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)];
}"""


def test_the_page_hands_no_token_to_another_machine(address):
    """Nor does it say anything of anybody: who is asked about comes with the token."""
    page = httpx.get(f"{address}/", trust_env=False)
    assert page.status_code == 200
    assert "'unsafe-inline'" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*(src=\"/static/|application/json))", page.text)
    assert not re.search(r"\son\w+=|style=", page.text)
    for name in re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", page.text):
        assert httpx.get(f"{address}{name}", trust_env=False).status_code == 200
