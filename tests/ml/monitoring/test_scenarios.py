"""The monitor on the real pipeline: the simulated hospital's messages, taken in, built, scored and judged night by night.

Ten days without a change in the world raise no alarm; each drift scenario raises one within two. A night is one day's
extract: of 6,000 patients about 30 are seen a day, enough to be judged on.
"""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from core.settings import Settings
from core.store import Alert, store_session
from ehr.simulate import SimulationOptions
from ehr.simulate.options import DriftName
from tests.ml.monitoring.nightly_house import House, extracts, found_house, reopen_house, simulate_nights

WORLD = SimulationOptions(patients=6000)
QUIET_NIGHTS, NIGHTS_TO_AN_ALARM = 10, 2

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house with history and champion, founded once for all workers; each test lives on in a branch of it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "nightly-house"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "founded").exists():
            return reopen_house(folder / "var", WORLD)
        founded = found_house(folder / "var", WORLD, QUIET_NIGHTS)
        (folder / "founded").touch()
        return founded


def alarms(settings: Settings) -> list[str]:
    with store_session(settings) as session:
        return list(session.scalars(select(Alert.kind).order_by(Alert.alert_id)))


def test_ten_nights_without_a_change_raise_no_alarm(house: House, tmp_path: Path) -> None:
    branch = house.branch(tmp_path / "var")
    judged = []
    for extract in extracts(house.settings.var.parent, WORLD, QUIET_NIGHTS):
        branch, outcome = branch.night(extract)
        judged.append((branch.day.isoformat(), outcome.verdict, outcome.reasons))
        # A night too small to be judged would prove nothing.
        assert "systolic_mmhg_within_person" in {m.feature for m in outcome.metrics if m.window == "night" and m.threshold}
    assert [(verdict, reasons) for _day, verdict, reasons in judged] == [("fine", [])] * QUIET_NIGHTS, judged
    assert alarms(branch.settings) == []


@pytest.mark.parametrize(("drift", "verdict", "sentence"), [
    ("cuff_high", "drift", "pressure reads higher than people's own level"),
    ("younger_population", "drift", "people seen differ in age_years: lower"),
    ("coding_change", "data_fault", "the share with codes it never used rose"),
])
def test_a_drift_raises_an_alarm_within_two_nights(house: House, tmp_path: Path, drift: DriftName, verdict: str,
                                                   sentence: str) -> None:
    branch = house.branch(tmp_path / "var")
    changed = replace(WORLD, drift=drift, drift_from=WORLD.end)
    outcomes = []
    for extract in simulate_nights(tmp_path, changed, NIGHTS_TO_AN_ALARM):
        branch, outcome = branch.night(extract)
        outcomes.append(outcome)
        if alarms(branch.settings):
            break
    assert alarms(branch.settings) == [verdict]
    assert outcomes[-1].verdict == verdict
    assert any(sentence in reason for reason in outcomes[-1].reasons)
    assert outcomes[-1].should_retrain == (verdict == "drift")
