"""The Cuff page inside Airflow's UI: closed to strangers, and telling the truth to those who are logged in."""

import os
import re
from pathlib import Path

import httpx
import pytest

from core.airflow_environment import USERNAME, airflow_password, base_url
from tests.browser.conftest import REPORT

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.airflow]
_PAGES = ("/cuff/", f"/cuff/reports/{REPORT}", "/cuff/reports/nothing.html")


@pytest.mark.parametrize("path", _PAGES)
def test_a_stranger_sees_nothing_and_a_browser_is_sent_to_the_login(stack, path):
    with httpx.Client(base_url=base_url(stack.settings), trust_env=False) as http:
        assert http.get(path).status_code == 401
        assert http.get(path, headers={"Authorization": "Bearer made.up.token"}).status_code in (401, 403)
        answer = http.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == 307
        assert answer.headers["location"].split("?")[0].endswith("/auth/login")


def test_reports_are_served_from_their_folder_alone(stack):
    with httpx.Client(base_url=base_url(stack.settings), trust_env=False) as http:
        login = {"username": USERNAME, "password": airflow_password(stack.settings)}
        token = http.post("/auth/token", json=login).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        report = http.get(f"/cuff/reports/{REPORT}")
        assert report.text == "<h1>Drift report of build 8</h1>"
        assert "connect-src 'self'" in report.headers["content-security-policy"]
        for outside in ("..%2Fsecret.txt", "%2e%2e/secret.txt", "drift", "..%2f..%2f..%2fetc%2fpasswd"):
            assert http.get(f"/cuff/reports/{outside}").status_code == 404


def test_the_page_in_airflows_navigation_shows_the_house(stack, page, tmp_path):
    home = base_url(stack.settings)
    page.goto(f"{home}/plugin/cuff")
    page.wait_for_url("**/auth/login**")
    page.fill("input[name=username]", USERNAME)
    page.fill("input[name=password]", airflow_password(stack.settings))
    page.click("button[type=submit]")
    page.wait_for_url("**/plugin/cuff*")  # the login leads back to where it was asked for
    cuff = page.frame_locator("iframe")
    cuff.locator("#published .big").wait_for()
    shot = Path(os.environ.get("CUFF_TEST_SCREENSHOTS", tmp_path)) / "cuff-page.png"
    page.screenshot(path=str(shot))
    assert shot.stat().st_size > 50_000
    assert cuff.locator("#published").inner_text().startswith("PUBLISHED BUILD\nBuild 8")
    champion = cuff.locator("#champion").inner_text()
    assert "Version 3" in champion
    assert "0.793 (0.772 to 0.813)" in champion
    assert cuff.locator("#drift .tag").inner_text() == "drift"
    assert "7.6 mmHg" in cuff.locator("#drift").inner_text()
    assert cuff.locator("#drift .strip i").count() == 8
    assert cuff.locator("#model svg").count() == 5
    by_feature = cuff.locator("#model svg").nth(4)
    assert [by_feature.locator("rect.bar").count(), by_feature.locator("line.reference").count()] == [2, 1]
    assert "glucose_last_mg_dl" in by_feature.text_content()
    # Two promoted models in two charts, and the one night of served values that were not the published ones.
    assert cuff.locator("#model svg .dot.strong").count() == 5
    charity, simulated = (cuff.locator("#feeds .feed").nth(number) for number in range(2))
    assert cuff.locator("#feeds .feed").count() == 2
    assert charity.locator(".tag").all_inner_texts() == ["silent"]
    assert "nothing for 3 h, when about" in charity.inner_text()
    assert simulated.locator(".tag").all_inner_texts() == ["alive", "stuck"]
    assert re.search(r"2, the oldest for 2\d min", simulated.inner_text())
    assert "7 no_patient_identifier" in simulated.inner_text()
    for feed in (charity, simulated):
        assert feed.locator("svg rect.bar").count() == 48
        assert feed.locator("svg path.usual").bounding_box()["width"] > 200
    assert "12,904" in cuff.locator("#ledger").inner_text()
    assert cuff.locator("#ledger .tag.good").count() == 3
    assert cuff.locator("#gates tr").count() == 4
    assert cuff.locator("#decisions tr").count() == 3
    assert cuff.locator("#alerts tr").count() == 2
    links = cuff.locator("#links a")
    assert [links.nth(i).inner_text().split(" ")[0] for i in range(links.count())] == ["MLflow", "Drift", "dbt"]
    report = page.context.request.get(f"{home}/cuff/{links.nth(1).get_attribute('href')}")
    assert report.text() == "<h1>Drift report of build 8</h1>"
    assert "Cuff" in page.locator("nav, [role=navigation], body").first.inner_text()
