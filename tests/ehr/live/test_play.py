"""The synthetic hospital live: the messages that would lie in its files, in that order, and the odd frame that is none."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest

from core.errors import ConfigurationError, InputError
from ehr.live.address import MllpAddress
from ehr.live.play import person_of, with_rubbish
from ehr.simulate import SimulationOptions, simulate_hospital
from tests.cli.test_command_line import cuff
from tests.ehr.live.mllp_peer import Peer

WORLD = {"patients": 250, "years": 2, "seed": 3}


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A listener of its own thread, which refuses what has no header and drops a connection now and then."""
    def behave(number: int, message: bytes):
        if number % 90 == 0:
            return "drop", ""
        return ("AA", "") if message.startswith(b"MSH|^~\\&|SIMEHR") else ("AR", "100^Segment sequence error^HL70357|E")

    peer, ready, over = Peer(behave), threading.Event(), asyncio.Event()

    async def serve():
        async with peer.running():
            ready.set()
            await over.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    yield peer
    loop.call_soon_threadsafe(over.set)
    thread.join()


def in_files(folder) -> list[bytes]:
    found = []
    for path in sorted(folder.rglob("*.hl7")):
        text = path.read_bytes().replace(b"\rBTS|", b"\rMSH|").split(b"\rMSH|")[1:-1]
        found += [b"MSH|" + each + b"\r" for each in text]
    return found


def test_what_is_sent_is_what_would_lie_in_files(tmp_path, peer):
    simulate_hospital(tmp_path / "all", SimulationOptions(**WORLD))
    done = cuff(tmp_path / "var", "simulate", str(tmp_path / "rest"), "--send", f"mllp://127.0.0.1:{peer.port}", "--patients",
                "250", "--years", "2", "--seed", "3", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    messages = in_files(tmp_path / "all")
    assert [each for each in dict.fromkeys(peer.received) if each.startswith(b"MSH|^~\\&|SIMEHR")] == list(
        dict.fromkeys(messages))
    kinds = {message.split(b"\r")[0].split(b"|")[8] for message in messages}
    assert {b"ADT^A04", b"ADT^A08", b"ADT^A40", b"ORU^R01", b"MDM^T02"} <= kinds
    sent = told["sent"]
    assert told["messages"] == len(messages) == sent["accepted"]
    assert sent["sent"] == sent["accepted"] + sent["errors"] + sent["rejected"]
    assert sent["rejected"] == sent["reasons"]["AR Segment sequence error"] > 0
    assert sent["resent"] == len(peer.received) - sent["sent"] > 0
    files = {path.relative_to(tmp_path / "all"): path.read_bytes() for path in (tmp_path / "all").rglob("*")
             if path.is_file() and path.suffix != ".hl7"}
    assert files == {path.relative_to(tmp_path / "rest"): path.read_bytes() for path in (tmp_path / "rest").rglob("*")
                     if path.is_file()}


def test_without_a_folder_nothing_is_written(tmp_path, peer):
    before = set(tmp_path.rglob("*"))
    got = []
    summary = simulate_hospital(None, SimulationOptions(**WORLD),
                                deliver=lambda messages, total: got.extend([*messages, total]))
    assert got.pop() == len(got) == summary.messages > 0
    assert summary.resources == summary.files == 0
    assert set(tmp_path.rglob("*")) == before


def test_a_simulation_that_fails_sends_nothing(tmp_path):
    sent = []

    def stop(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_hospital(None, SimulationOptions(**WORLD), stop, lambda messages, _total: sent.extend(messages))
    assert sent == []


def test_rubbish_is_never_twice_the_same_and_holds_no_hl7():
    mixed = list(with_rubbish([b"MSH|%d" % number for number in range(1000)], every=50))
    rubbish = [each for each in mixed if not each.startswith(b"MSH|") or each.startswith(b"MSH|^")]
    assert len(rubbish) == len(set(rubbish)) == 20
    assert not any(byte in each for each in rubbish for byte in (b"\x0b", b"\x1c"))


def test_the_person_of_a_message_is_its_first_number():
    assert person_of(b"MSH|^~\\&|A\rEVN|A40\rPID|1||S000123^^^SIMHOSP^MR~99^^^X||N\rMRG|1\r") == b"S000123"
    assert person_of(b"MSH|^~\\&|A\rPID|1||\r") == person_of(b"GET /") == b""


@pytest.mark.parametrize(("url", "host", "port", "is_tls"), [
    ("mllp://hospital", "hospital", 2575, False), ("mlps://10.0.0.1:7", "10.0.0.1", 7, True),
    ("mllps://[::1]:9", "::1", 9, True),
])
def test_addresses(url, host, port, is_tls):
    assert MllpAddress.parse(url) == MllpAddress(host, port, is_tls)
    assert MllpAddress.parse(str(MllpAddress.parse(url))) == MllpAddress.parse(url)


@pytest.mark.parametrize("url", ["hospital:2575", "mllp://", "mllp://h:port", "mllp://h:2575/path", "mllp://h:99999"])
def test_what_is_no_address_is_told(url):
    with pytest.raises(InputError, match="write mllp://host:port"):
        MllpAddress.parse(url)


def test_certificates_belong_to_tls(tmp_path):
    with pytest.raises(ConfigurationError, match="write mllps://"):
        MllpAddress.parse("mllp://h").client_context(ca=tmp_path)
