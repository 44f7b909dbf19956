"""kill -9 of the consumer at any moment, then a run to the end: nothing is lost, nothing is doubled, the ledger balances."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from core.settings import PROJECT_ROOT, Settings
from core.store import Batch, store_session
from ehr.ledger import ledger_totals
from ehr.quarantine import list_quarantine
from ehr.replay import replay
from tests.conftest import make_settings
from tests.ehr.landed import query
from tests.ehr.live.histories import person_histories, round_robin
from tests.ehr.live.live_house import deliver_live, ledger_rows, message, patient, post_fhir, raw_rows, states

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "killed_consumer.py"
STEPS = [
    "after ehr.live.lander:open_batch",
    "after ehr.batch:BatchRun._note_quarantine",
    "after ehr.landing:insert_landings",
    "before ehr.live.lander:write_down",
    "after ehr.live.lander:write_down",
]
RANDOM_KILLS = 5


def fill(settings: Settings) -> None:
    deliver_live(settings, [event.content for event in round_robin(person_histories(10, events=8))])
    deliver_live(settings, [message("late", patient("9", name="Müller^Ann")).encode("latin-1")])
    patients = [{"resourceType": "Patient", "id": f"p{n}", "gender": "female"} for n in range(5)]
    post_fhir(settings, [*patients, {"resourceType": "Observation", "id": "o", "status": "final", "subject": {}}])


def start(settings: Settings, *step: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.Popen([sys.executable, str(SCRIPT), str(settings.var), *step], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def finish(settings: Settings) -> None:
    process = start(settings)
    _out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]


def assert_as(settings: Settings, undisturbed: Settings) -> None:
    # FHIR without a version is known since its receipt, which is each house's own.
    assert raw_rows(settings, "known_at") == raw_rows(undisturbed, "known_at")
    assert ledger_rows(settings) == ledger_rows(undisturbed)
    assert states(settings) == states(undisturbed)
    assert all(line.balances for line in ledger_totals(settings))
    landed = {row[0] for row in query(settings, "select distinct batch_id from clinical.raw.landings")}
    with store_session(settings) as session:
        assert landed == set(session.scalars(select(Batch.batch_id).where(Batch.finished_at.is_not(None))))
        assert not list(session.scalars(select(Batch.batch_id).where(Batch.finished_at.is_(None))))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = make_settings(tmp_path_factory.mktemp("undisturbed") / "var")
    fill(settings)
    finish(settings)
    assert query(settings, "select count(*) from clinical.raw.hl7v2_messages") == [(80,)]
    assert states(settings) == {"landed": 85, "quarantined": 2}
    return settings


@pytest.mark.parametrize("step", STEPS)
def test_killed_around_a_step(tmp_path: Path, undisturbed: Settings, step: str) -> None:
    settings = make_settings(tmp_path / "var")
    fill(settings)
    process = start(settings, *step.split(" "))
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, "the step must be reached"
    finish(settings)
    assert_as(settings, undisturbed)


def test_killed_again_and_again_at_random(tmp_path: Path, undisturbed: Settings) -> None:
    settings = make_settings(tmp_path / "var")
    fill(settings)
    chance = random.Random(7309)
    for _ in range(RANDOM_KILLS):
        process = start(settings)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 2))
        process.kill()
        process.communicate(timeout=60)
    finish(settings)
    assert_as(settings, undisturbed)


def test_a_replay_that_died_behind_its_landing_is_finished_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path / "var", sources_file=tmp_path / "sources.toml")
    deliver_live(settings, [message("late", patient("9", name="Müller^Ann")).encode("latin-1")])
    settings.sources_file.write_text('[source.default]\ndefault_charset = "iso-8859-1"\n')
    with monkeypatch.context() as dying:
        dying.setattr("ehr.replay._write_down", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            replay(settings)
    assert query(settings, "select count(*) from clinical.raw.hl7v2_messages") == [(1,)]
    replayed = replay(settings)
    assert (replayed.resolved, replayed.accepted) == (1, 0)
    assert ledger_rows(settings) == [("message", "ADT^A04", 1, 1, 0, 0, 0)]
    assert states(settings) == {"landed": 1}
    assert list_quarantine(settings) == []
    with store_session(settings) as session:
        assert not list(session.scalars(select(Batch.batch_id).where(Batch.finished_at.is_(None))))
