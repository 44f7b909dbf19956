"""The demo's last step: three patients asked of the running API, and a reason when that cannot be."""

import io
import socket

import pytest
from rich.console import Console
from sqlalchemy import select

from core.errors import ConfigurationError
from core.serving_tables import ServedPrediction
from core.store import store_session
from cuff_demo_ask import ApiDemoError, answers_table, ask_three, require_port
from ml.scoring import score
from tests.ml.serving.running_api import house_that_can_answer, is_ready

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    settings = house_that_can_answer(tmp_path_factory.mktemp("asked") / "var", patients=500)
    score(settings)
    return settings


def test_three_patients_get_the_number_that_the_night_gave_them(house):
    served = ask_three(house, Console(file=io.StringIO()))
    asked = served["patients"]
    assert [each["same_as_scored"] for each in asked] == [True, True, True]
    assert asked[0]["risk"] < asked[1]["risk"] < asked[2]["risk"]
    assert served["seconds"] < 40
    assert not is_ready(f"http://127.0.0.1:{house.serve_port}")
    with store_session(house) as session:
        logged = session.scalars(select(ServedPrediction)).all()
    assert {row.prediction_id: row.risk for row in logged} == {each["prediction_id"]: each["risk"] for each in asked}
    printed = io.StringIO()
    Console(file=printed, width=160).print(answers_table(served))
    for each in asked:
        assert f"{100 * each['risk']:.1f} %" in printed.getvalue()
        assert each["patient_key"] not in printed.getvalue()


def test_without_a_champion_nobody_is_asked_about(settings):
    assert ask_three(settings, Console(file=io.StringIO())) == {}


def test_an_api_that_does_not_start_fails_the_demo_and_says_where_to_look(house):
    broken = house.model_copy(update={"serve_rate_limit": "as many as you like"})
    with pytest.raises(ApiDemoError, match=r"ended with code .*serve\.log"):
        ask_three(broken, Console(file=io.StringIO()))


def test_a_taken_port_is_told_before_the_nights(house):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", house.serve_port))
        taken.listen()
        with pytest.raises(ConfigurationError, match="CUFF_SERVE_PORT"):
            require_port(house)
