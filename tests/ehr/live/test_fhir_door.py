"""POST /fhir over a real connection: what is stored, what is refused and why; health, readiness, metrics."""

import gzip
import json
import re
import socket
import threading
import time
from collections import deque

import httpx
import pytest
from sqlalchemy import select

from core.feed_tables import FeedHour, InboxEntry
from core.store import Payload, store_session
from tests.conftest import make_settings
from tests.ehr.live.faulty_resources import FAULTY
from tests.ehr.live.listening import adt, eventually, listening, locked_inbox, stored_contents

MIB = 1 << 20
FHIR = {"Content-Type": "application/fhir+json"}
SOURCES = """
[source.clinic]
title = "Clinic"
"""


def patient(number: str, **fields: object) -> bytes:
    return json.dumps({"resourceType": "Patient", "id": number, **fields}).encode()


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    folder = tmp_path_factory.mktemp("door")
    (folder / "sources.toml").write_text(SOURCES)
    settings = make_settings(folder / "var", sources_file=folder / "sources.toml")
    with listening(settings, fhir_max_body_bytes=MIB, mllp_read_seconds=1.5) as door:
        yield door


@pytest.fixture(scope="module")
def client(door):
    with httpx.Client(base_url=door.url, headers=FHIR, timeout=20) as client:
        yield client


@pytest.fixture
def impatient(monkeypatch):
    """Storing gives up soon where the inbox is locked."""
    monkeypatch.setattr("ehr.live.inbox_rows._BUSY_MILLISECONDS", 50)
    monkeypatch.setattr("ehr.live.serve._BUSY_MILLISECONDS", 50)
    monkeypatch.setattr("ehr.live.group_commit._FAILING_SECONDS", 0.2)


def said(response: httpx.Response) -> str:
    """The words of an OperationOutcome."""
    assert response.headers["content-type"] == "application/fhir+json"
    outcome = response.json()
    assert outcome["resourceType"] == "OperationOutcome"
    issue, = outcome["issue"]
    assert issue["severity"] == ("information" if response.is_success else "error")
    return issue["diagnostics"]


def test_a_resource_is_stored_as_it_came_and_a_repeat_adds_nothing(door, client):
    body = patient("a", birthDate="1961")
    first, second = client.post("/fhir", content=body), client.post("/fhir", content=body)
    assert (first.status_code, second.status_code) == (202, 200)
    assert "it will be landed" in said(first)
    assert "nothing was added" in said(second)
    assert stored_contents(door.settings).count(body) == 1


@pytest.mark.parametrize("kind", ["application/json", "application/fhir+json; charset=UTF-8; fhirVersion=4.0", "text/json", ""])
def test_json_is_taken_under_its_names(client, kind):
    body = patient(f"kind-{len(kind)}")
    assert client.post("/fhir", content=body, headers={"Content-Type": kind}).status_code == 202


@pytest.mark.parametrize("kind", [
    "application/fhir+xml", "application/xml", "text/xml", "text/plain", "application/fhir+ndjson", "multipart/form-data",
])  # fmt: skip
def test_xml_and_others_are_not_taken(client, kind):
    refused = client.post("/fhir", content=b'<Patient xmlns="http://hl7.org/fhir"/>', headers={"Content-Type": kind})
    assert refused.status_code == 415
    assert "application/fhir+json" in said(refused)


def test_a_packed_body_is_not_taken(client):
    packed = client.post("/fhir", content=gzip.compress(patient("z")), headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415
    assert "Content-Encoding" in said(packed)


def test_a_bundle_and_a_notification_are_stored_whole(door, client):
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": json.loads(patient("b")), "request": {"method": "PUT", "url": "Patient/b"}}]}
    notification = {"resourceType": "Bundle", "type": "history", "entry": [
        {"resource": {"resourceType": "Parameters", "parameter": [{"name": "type", "valueCode": "event-notification"}]}},
        {"resource": {"resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/b"}}}]}  # fmt: skip
    for document in (bundle, notification):
        assert client.post("/fhir", json=document, headers=FHIR).status_code == 202
    with store_session(door.settings) as session:
        entries = session.scalars(select(InboxEntry).where(InboxEntry.partition_key.is_not(None))
                                  .order_by(InboxEntry.inbox_sequence)).all()  # fmt: skip
        assert {entry.feed for entry in entries} == {"http"}
        assert entries[-1].partition_key == entries[-2].partition_key  # the same person's


def test_a_rest_hook_without_content_asks_whether_anybody_listens(door, client):
    before = len(stored_contents(door.settings))
    for body in (b"", b"\r\n "):
        assert client.post("/fhir", content=body).status_code == 200
    assert len(stored_contents(door.settings)) == before


def test_a_body_over_the_cap_is_refused_by_its_length_or_on_the_way(door, client):
    large = patient("large", text="x" * MIB)
    declared = client.post("/fhir", content=large)
    on_the_way = client.post("/fhir", content=iter([large[:MIB // 2], large[MIB // 2:], b" " * MIB]))
    assert (declared.status_code, on_the_way.status_code) == (413, 413)
    assert str(MIB) in said(declared)
    assert large not in [*stored_contents(door.settings), *stored_contents(door.settings, "quarantined")]
    assert client.post("/fhir", content=patient("after")).status_code == 202


def test_json_over_the_depth_cap_is_refused(client):
    deep = b'{"resourceType": "Patient", "extension": ' + b"[" * 64 + b"]" * 64 + b"}"
    refused = client.post("/fhir", content=deep)
    assert refused.status_code == 400
    assert "64 levels" in said(refused)
    assert client.post("/fhir", content=deep.replace(b"[" * 3 , b"[" * 2).replace(b"]" * 3, b"]" * 2)).status_code in (202, 422)
    brackets_in_text = patient("text", text={"status": "[" * 500})
    assert client.post("/fhir", content=brackets_in_text).status_code == 202


@pytest.mark.parametrize(("body", "reason_code"), FAULTY)
def test_a_fault_of_all_of_it_is_told_and_kept_and_told_again(door, client, body, reason_code):
    for _ in range(2):
        refused = client.post("/fhir", content=body)
        assert refused.status_code == 422
        assert said(refused).startswith(f"{reason_code} at ")
    assert body in stored_contents(door.settings, "quarantined")


def test_the_client_may_name_its_source(door, client):
    assert client.post("/fhir?source=clinic", content=patient("s1")).status_code == 202
    assert client.post("/fhir", content=patient("s2"), headers={"X-Cuff-Source": "clinic"}).status_code == 202
    refused = client.post("/fhir?source=Doe", content=patient("s3"))
    assert refused.status_code == 400
    assert "Doe" not in said(refused)
    with store_session(door.settings) as session:
        assert len(session.scalars(select(Payload.payload_id).where(Payload.source_id == "clinic")).all()) == 2


def test_what_cannot_be_stored_is_not_accepted_and_readiness_tells(tmp_path, impatient):
    with listening(make_settings(tmp_path / "var")) as door, httpx.Client(base_url=door.url, headers=FHIR) as client:
        assert client.get("/readyz").json() == {"status": "ready", "missing": {}}
        with locked_inbox(door.settings):
            refused = client.post("/fhir", content=patient("a"))
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert "send it again" in said(refused)
            ready = client.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
            assert "ops database" in ready.json()["missing"]
            assert client.get("/healthz").status_code == 200
        assert stored_contents(door.settings) == []
        assert client.post("/fhir", content=patient("a")).status_code == 202
        assert eventually(lambda: client.get("/readyz").status_code == 200)


def test_readiness_writes_nothing(door, client):
    assert client.get("/readyz").status_code == 200
    with store_session(door.settings) as session:
        assert "ready" not in session.scalars(select(FeedHour.source_id)).all()


def _metric(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} ([0-9.e+]+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics_count_what_was_received_and_how_it_was_answered(door, client):
    before = client.get("/metrics").text
    client.post("/fhir", content=patient("m1"))
    client.post("/fhir", content=b"{")
    with door.peer() as peer:
        assert peer.ask(adt("m2"), adt("m3", "PID|1||"), b"x") == ["AA", "AE", "AR"]
    after = client.get("/metrics")
    assert after.headers["content-type"].startswith("text/plain; version=0.0.4")
    for name, number in (
        ('cuff_messages_received_total{feed="http",source="default"}', 2),
        ('cuff_messages_received_total{feed="mllp",source="default"}', 3), ('cuff_acknowledged_total{code="AA"}', 1),
        ('cuff_acknowledged_total{code="AE"}', 1), ('cuff_acknowledged_total{code="AR"}', 1),
        ('cuff_acknowledged_total{code="202"}', 1), ('cuff_acknowledged_total{code="422"}', 1),
        ('cuff_quarantined_total{reason="no_patient_identifier"}', 1), ("cuff_acknowledge_seconds_count", 5),
    ):  # fmt: skip
        assert _metric(after.text, name) - _metric(before, name) == number, name
    for name in ("cuff_inbox_lag", "cuff_inbox_oldest_seconds", "cuff_store_seconds_count", "cuff_connections"):
        assert re.search(rf"^{name} ", after.text, re.MULTILINE), name


def test_other_ways_are_closed(client):
    assert client.get("/fhir").status_code == 405
    assert client.post("/Patient", content=patient("x")).status_code == 404


def test_one_connection_serves_many_and_many_at_once(door):
    with httpx.Client(base_url=door.url, headers=FHIR, limits=httpx.Limits(max_connections=8), timeout=30) as client:
        statuses: list[int] = []

        def post(name: str) -> None:
            statuses.extend(client.post("/fhir", content=patient(f"{name}-{nth}")).status_code for nth in range(20))

        threads = [threading.Thread(target=post, args=(f"t{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [202] * 160


def _raw(door, wire: bytes) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", door.doors.http.port), timeout=20)
    raw.sendall(wire)
    return raw


def test_a_body_that_does_not_come_is_given_up(door):
    head = b"POST /fhir HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\nContent-Length: 500\r\n\r\n"
    started = time.monotonic()
    with _raw(door, head + b'{"resourceType"') as raw:
        assert raw.recv(4096).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started > 1


def test_a_client_that_hangs_up_in_its_body_leaves_nothing(door, client):
    before = len(stored_contents(door.settings)) + len(stored_contents(door.settings, "quarantined"))
    _raw(door, b"POST /fhir HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + patient("gone")).close()
    assert client.post("/fhir", content=patient("not gone")).status_code == 202
    assert len(stored_contents(door.settings)) + len(stored_contents(door.settings, "quarantined")) == before + 1


def test_a_head_without_end_and_a_connection_without_a_request_are_closed(door, monkeypatch):
    endless = (b"X-%d: %s\r\n" % (number, b"x" * 1000) for number in range(20_000))
    with _raw(door, b"GET /healthz HTTP/1.1\r\n") as raw, pytest.raises(ConnectionError):
        deque(map(raw.sendall, endless), maxlen=0)
    monkeypatch.setattr("ehr.live.http_door._Connection.patience_seconds", 0.3)
    with _raw(door, b"GET /healthz HTTP/1.1\r\nHost: ") as raw, _raw(door, b"") as silent:
        assert raw.recv(10) == b""
        assert silent.recv(10) == b""
