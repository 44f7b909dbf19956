"""What a stack starts of the live door, and that a taken port is told before anything starts."""

import socket
from datetime import date

import pytest

from core.errors import ConfigurationError
from core.live_doors import api_door, api_shown, doors_shown, is_open, live_doors
from core.stack import Stack
from tests.browser.conftest import free_port
from tests.conftest import make_settings

PORTS = ("mllp_port", "fhir_port", "consumer_port", "relay_port")


@pytest.fixture
def house(tmp_path):
    ports = {name: free_port() for name in ("airflow_port", "mlflow_port", *PORTS)}
    return make_settings(tmp_path / "var", transport="kafka", **ports)


@pytest.mark.parametrize("name", PORTS)
def test_a_taken_port_is_an_error_before_anything_starts(house, name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", getattr(house, name)))
        taken.listen()
        assert is_open("0.0.0.0", getattr(house, name))
        with pytest.raises(ConfigurationError, match=rf"port {getattr(house, name)} .* set CUFF_{name.upper()}"):
            Stack(house, with_live=True).start()
    assert not house.var.exists()
    assert not is_open("127.0.0.1", getattr(house, name))


def test_the_relay_is_started_where_messages_travel_by_kafka_alone(house):
    doors = live_doors(house, date(2026, 1, 31))
    assert [door.name for door in doors] == ["listener", "consumer", "relay"]
    assert doors[0].command == ("listen", "--as-of", "2026-01-31")
    assert f", {house.relay_port}" in doors_shown(house)
    inbox = house.model_copy(update={"transport": "inbox", "listen_tls_certificate": house.var})
    assert [door.command for door in live_doors(inbox)] == [("listen",), ("consume",)]
    assert f"mllps://127.0.0.1:{house.mllp_port}" in doors_shown(inbox)


def test_the_api_is_a_door_of_its_own(house):
    assert api_door(house).ports == ((house.serve_port, "CUFF_SERVE_PORT"),)
    assert f"http://127.0.0.1:{house.serve_port} " in api_shown(house)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        mine = house.model_copy(update={"serve_port": taken.getsockname()[1]})
        with pytest.raises(ConfigurationError, match=r"the inference API .* set CUFF_SERVE_PORT"):
            Stack(mine, with_api=True).start()
