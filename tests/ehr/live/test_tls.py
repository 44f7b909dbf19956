"""TLS on both doors: 1.3 alone, a client's certificate where one is asked for, and no other facility's messages by it."""

import ssl

import httpx
import pytest
from sqlalchemy import select

from core.errors import ConfigurationError
from core.store import Payload, Quarantine, store_session
from ehr.live.tls import server_tls
from tests.conftest import make_settings
from tests.ehr.live.certificates import Authority
from tests.ehr.live.listening import adt, listening, stored_contents

SOURCES = """
[source.clinic]
sending_facilities = ["CLINIC"]
client_certificates = ["engine.clinic.example"]

[source.ward]
sending_facilities = ["WARD"]
client_certificates = ["engine.ward.example", "spare.ward.example"]
"""
PATIENT = b'{"resourceType": "Patient", "id": "p%d"}'


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Settings with a certificate of the server's, and the authority that clients are measured by."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "sources.toml").write_text(SOURCES)
    authority = Authority(folder)
    certificate, key = authority.issue("cuff.example")
    return make_settings(folder / "var", sources_file=folder / "sources.toml", listen_tls_certificate=certificate,
                         listen_tls_key=key), authority  # fmt: skip


@pytest.fixture(scope="module")
def mutual(house):
    settings, authority = house
    with listening(settings, var=settings.var.with_name("mutual"), listen_tls_client_ca=authority.path) as door:
        yield door


@pytest.fixture(scope="module")
def as_client(house):
    """The TLS of a client with a certificate of ``name``; None: without one."""
    _settings, authority = house

    def context(name: str | None, issuer: Authority = authority) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(authority.path))
        if name:
            made.load_cert_chain(*issuer.issue(name))
        return made

    return context


def test_messages_travel_over_tls_and_the_frame_cap_is_told(house, as_client):
    settings, _authority = house
    with listening(settings, mllp_max_frame_bytes=1 << 20) as door, door.peer(as_client(None)) as peer:
        assert peer.socket.version() == "TLSv1.3"
        peer.send(adt("t1"), adt("t2", "PID|1||"), adt("t3", "PID|1||17", "NTE|1||" + "x" * 500_000))
        assert peer.codes(3) == ["AA", "AE", "AA"]
        peer.send(adt("t4", "PID|1||17", "NTE|1||" + "x" * (5 << 20)))
        assert peer.codes(1) == ["AR"]
        assert peer.is_closed()


def test_an_older_version_is_refused_on_both_doors(mutual, as_client):
    old = as_client("engine.clinic.example")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        mutual.peer(old)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://127.0.0.1:{mutual.doors.http.port}/healthz", verify=old)


def test_one_who_speaks_no_tls_is_closed(mutual):
    with mutual.peer() as peer:
        peer.send(adt("plain"))
        with pytest.raises((AssertionError, ConnectionError)):
            peer.answer()
    assert adt("plain") not in stored_contents(mutual.settings)


def test_a_client_without_a_certificate_or_with_a_strangers_is_refused(mutual, as_client, tmp_path):
    for context in (as_client(None), as_client("engine.clinic.example", Authority(tmp_path))):
        with pytest.raises((ssl.SSLError, ConnectionError)), mutual.peer(context) as peer:
            peer.ask(adt("none"))  # in TLS 1.3 the client learns it with its first read
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            httpx.get(f"https://127.0.0.1:{mutual.doors.http.port}/healthz", verify=context)


def test_a_certificate_sends_as_its_own_facility_alone(mutual, as_client):
    mine, others, nobodys = adt("c1"), adt("c2", facility="WARD"), adt("c3", facility="ELSEWHERE")
    with mutual.peer(as_client("engine.clinic.example")) as clinic:
        assert clinic.ask(mine, others, nobodys) == ["AA", "AR", "AR"]
    with store_session(mutual.settings) as session:
        assert session.scalars(select(Quarantine.reason_code)).all() == ["certificate_mismatch"] * 2
        assert session.scalars(select(Payload.source_id).where(Payload.state == "received")).all() == ["clinic"]
    with mutual.peer(as_client("spare.ward.example")) as ward:
        assert ward.ask(others) == ["AA"], "the right sender must not be kept from sending what another sent in its name"
        assert ward.ask(mine) == ["AR"]
    assert {mine, others} == set(stored_contents(mutual.settings))


def test_a_resource_belongs_to_the_source_of_its_certificate(mutual, as_client):
    def post(name: str, number: int, source: str = "") -> int:
        url = f"https://127.0.0.1:{mutual.doors.http.port}/fhir{source and '?source=' + source}"
        return httpx.post(url, content=PATIENT % number, verify=as_client(name)).status_code

    assert post("engine.ward.example", 1) == 202
    assert post("engine.ward.example", 2, "ward") == 202
    assert post("engine.ward.example", 3, "clinic") == 403
    assert post("unbound.example", 4) == 403
    with store_session(mutual.settings) as session:
        sources = session.scalars(select(Payload.source_id).where(Payload.format == "fhir")).all()
    assert sources == ["ward", "ward"]


def test_files_that_cannot_be_used_are_told(house, tmp_path):
    settings, authority = house
    other_key = authority.issue("other.example")[1]
    (tmp_path / "empty.pem").write_text("")
    for changes in (
        {"listen_tls_certificate": tmp_path / "no"}, {"listen_tls_key": other_key}, {"listen_tls_key": tmp_path / "no"},
        {"listen_tls_client_ca": tmp_path / "empty.pem"},
        {"listen_tls_certificate": None, "listen_tls_client_ca": authority.path},
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match="CUFF_LISTEN_TLS_C"):
            server_tls(settings.model_copy(update=changes))
