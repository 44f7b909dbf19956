"""Planted people at the live door: nothing of them in logs, answers, metrics, reasons, or the plain bytes of any file."""

import json
import logging
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from core.settings import Settings
from core.store import LedgerEntry, Payload, Quarantine, store_session
from ehr.live.mllp import END, START, frame
from tests.conftest import make_settings
from tests.ehr.live.listening import Peer, eventually, free_ports, listening, locked_inbox, stored_contents
from tests.ehr.live.processes import cuff_process
from tests.ehr.test_canary import CANARIES, NOTE, assert_clean, planted

PID = "PID|1||4471180934^^^CLINIC^MR||Quillfeather^Zephyrine||19610714|F|||9 Larkspur Crescent^^Town||0155501987"


def message(number: str, *segments: str, kind: str = "ADT^A08", at: str = "20240305", delimiters: str = "^~\\&",
            charset: str = "") -> str:
    return "\r".join([f"MSH|{delimiters}|ADT|CLINIC|CUFF|CUFF|{at}||{kind}|{number}|P|2.5.1||||||{charset}", *segments]) + "\r"


SOUND = [message("c1", PID, f"NTE|1||{NOTE}"), message("c2", PID, f"Z{NOTE}|{NOTE}"), message("c3", PID, kind=NOTE)]
FAULTY = [
    message("f1", f"PID|1||^^^{NOTE}||Quillfeather^Zephyrine||x"), message("c1", PID, "NTE|1||now other content"),
    message("f2", PID, at=NOTE), message("f3", PID, charset=NOTE), message("f4", PID, delimiters="||||"),
    message("f5", PID) + message("f6", PID), message("", PID), PID, NOTE, message("f7", PID, kind=""),
]  # fmt: skip
WRONG_BYTES = [message("b1", PID.replace("Town", "T\xf6wn")).encode("latin-1"), message("b2", PID).encode("utf-16")]
STRAY = [NOTE.encode(), START + message("cut", PID).encode()[:90] + END + b" "]
BODIES = [
    json.dumps(planted("Observation", 1)), json.dumps(planted("Patient", 2)), json.dumps(planted("Patient", 3))[:-30], NOTE,
    json.dumps({"resourceType": NOTE, "id": NOTE}), json.dumps([NOTE]), json.dumps({NOTE: NOTE}), "[" * 100 + NOTE,
    json.dumps({"resourceType": "Observation", "subject": {"reference": [NOTE], NOTE: NOTE}, "code": NOTE}),
    json.dumps({"resourceType": "Bundle", "entry": NOTE}),
]  # fmt: skip


def deliver(mllp_port: int, http_port: int) -> str:
    """All of it over both doors. What was answered, without what MSH repeats of the sender's own header."""
    told = []
    with Peer(mllp_port) as peer:
        peer.write(b"".join(STRAY))
        for content in [*(text.encode() for text in (*SOUND, *FAULTY)), *WRONG_BYTES]:
            peer.write(frame(content))
            msh, *rest = peer.answer_bytes().split(b"\r")
            told += [part.decode("latin-1") for part in ([msh, *rest] if content in map(str.encode, SOUND[:2]) else rest)]
    with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=30) as client:
        for body in BODIES:
            answered = client.post("/fhir", content=body.encode(), headers={"Content-Type": "application/fhir+json"})
            told.append(f"{answered.text} {answered.headers}")
        for parameters, headers in (({"source": NOTE}, {}), ({}, {"X-Cuff-Source": NOTE}), ({}, {"Content-Type": NOTE})):
            told.append(client.post("/fhir", params=parameters, headers=headers, content=BODIES[0]).text)
        told += [client.get(f"/{path}").text for path in ("metrics", "readyz", "healthz", "4471180934")]
    return "\n".join(told)


def assert_nothing_kept_in_plain(settings: Settings) -> None:
    with store_session(settings) as session:
        for model in (Quarantine, LedgerEntry, Payload):
            rows = session.scalars(select(model)).all()
            assert rows
            assert_clean(model.__tablename__, "\n".join(str(vars(row)) for row in rows))
    for path in settings.var.rglob("*"):
        if path.is_file():
            assert_clean(path.name, path.read_bytes().decode("latin-1"))


def test_planted_people_do_not_leave_the_door(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ehr.live.inbox_rows._BUSY_MILLISECONDS", 50)
    caplog.set_level(logging.DEBUG)
    with listening(settings) as door:
        with locked_inbox(settings):
            told = deliver(door.doors.mllp.port, door.doors.http.port)
        assert "not_stored" in told
        assert_clean("answers while nothing could be stored", told)
        told = deliver(door.doors.mllp.port, door.doors.http.port)
        assert_clean("answers", told)
        assert_clean("answers to what was sent again", deliver(door.doors.mllp.port, door.doors.http.port))
        assert_nothing_kept_in_plain(settings)
    kept = b"".join([*stored_contents(settings), *stored_contents(settings, "quarantined")]).decode("latin-1")
    assert all(canary in kept for canary in CANARIES), "the planted values must be there, sealed, for this to mean anything"
    for reason in ("no_patient_identifier", "control_id_reused", "bad_delimiters", "several_messages", "malformed_json"):
        assert reason in told
    of_the_door = [record for record in caplog.records if not record.name.startswith("http")]  # httpx is the test's own
    log = "\n".join(map(caplog.handler.format, of_the_door))
    assert "could not be stored" in log
    assert_clean("the log", log)
    assert_clean("standard output and error", "".join(capfd.readouterr()))


@pytest.mark.slow
def test_planted_people_are_not_in_the_output_of_the_process(tmp_path: Path) -> None:
    ports = free_ports(2)
    settings = make_settings(tmp_path / "var", mllp_port=ports[0], fhir_port=ports[1])
    log = tmp_path / "log"
    with cuff_process(settings, "listen", port=ports[0], log=log) as process:
        deliver(*ports)
        assert eventually(lambda: stored_contents(settings))
        process.terminate()
        assert process.wait(20) == 0
    assert_clean("standard output and error", log.read_text())
    assert_nothing_kept_in_plain(settings)
