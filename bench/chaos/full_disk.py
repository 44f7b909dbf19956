"""The disk is full: nothing is promised that is not kept, and once there is space again all is accepted by itself."""

import asyncio
import os
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.chaos.evidence import held, payload_id
from bench.chaos.figure import Figure, Size
from bench.chaos.wire import Wire, code_of
from bench.feed import frame, sound_messages
from bench.processes import House, Server
from ehr.live.acknowledged import Acknowledged
from ehr.live.play import person_of
from ehr.live.send import MllpSender, Outgoing, SendError

DISK_MEGABYTES = 64  # room for all messages, and for the log that SQLite keeps beside them
_FULL_SECONDS, _FILL_SECONDS, _RATE = 2.0, 60.0, 300


def run(size: Size = "full") -> list[Figure]:
    """On a small file system of its own where one can be mounted, and with a limit on the size of files everywhere."""
    figures = []
    with TemporaryDirectory(prefix="cuff-chaos-") as folder:
        with small_disk(Path(folder) / "disk") as disk:
            if disk is not None:
                figures += trial("full disk", disk, size, _Ballast(disk))
        limited = Path(folder) / "limited"
        figures += trial("files may not grow", limited, size, _Limit(limited))
    return figures


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A tmpfs; None where this process may not mount one."""
    folder.mkdir()
    options = f"size={DISK_MEGABYTES}m"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "cuff-chaos", str(folder)], capture_output=True)
    try:
        yield folder if done.returncode == 0 else None
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


class _Ballast:
    """Fills the file system to the last byte."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "ballast"

    def fill(self, _listener: Server) -> None:
        with open(self._file, "ab", buffering=0) as file:
            for block in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(block))
                except OSError:
                    continue

    def free(self, _listener: Server) -> None:
        self._file.unlink()


class _Limit:
    """No file of the process may grow past the ops database's log as it is now: a write beyond is an error (EFBIG)."""

    def __init__(self, var: Path) -> None:
        self._var = var

    def fill(self, listener: Server) -> None:
        grown = max((path.stat().st_size for path in self._var.glob("**/ops.db*")), default=0)
        resource.prlimit(listener.pid, resource.RLIMIT_FSIZE, (grown, resource.RLIM_INFINITY))

    def free(self, listener: Server) -> None:
        resource.prlimit(listener.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def trial(name: str, room: Path, size: Size, full: _Ballast | _Limit) -> list[Figure]:
    """A sender goes on all the while; a probe sees what the listener answers."""
    messages = sound_messages(3000 if size == "full" else 600, seed=5)
    house = House(room / "var")
    with house.start("listen") as listener:
        told = asyncio.run(_play(house, listener, messages, full))
        is_alive = listener.is_running
        listener.kill()
        found = held(house.settings)
    lost = [message for message in told.accepted if not _is_safe(found, message)]
    left = len(messages) - sum(1 for message in messages if _is_safe(found, message))
    refused = told.codes_while_full["AR"]
    note = f"while full {dict(told.codes_while_full)}, {told.resent} sent again, load {os.getloadavg()[0]:.1f}"
    return [
        Figure(f"{name}: acknowledged and lost", len(lost), "messages", "<= 0", note),
        Figure(f"{name}: answered AR while full", refused, "messages", ">= 1"),
        Figure(f"{name}: until the first AA once there is space, no restart", told.recovery_seconds, "s", "<= 10"),
        Figure(f"{name}: never accepted, of {len(messages)}", left, "messages", "<= 0",
               "" if is_alive else "the listener ended by itself"),
    ]  # fmt: skip


def _is_safe(found: dict, message: bytes) -> bool:
    entry = found.get(payload_id(message))
    return entry is not None and entry.is_intact


class _Told:
    def __init__(self) -> None:
        self.accepted: list[bytes] = []
        self.codes_while_full: Counter[str] = Counter()
        self.recovery_seconds = float("inf")
        self.resent = 0

    def answer(self, outgoing: Outgoing, answer: Acknowledged) -> None:
        if answer.is_accepted:
            self.accepted.append(outgoing.content)


async def _play(house: House, listener: Server, messages: tuple[bytes, ...], full: _Ballast | _Limit) -> _Told:
    told = _Told()
    half = len(messages) // 2
    sender = MllpSender("127.0.0.1", house.mllp_port, connections=4, window=4, rate=_RATE, lane=person_of,
                        on_answer=told.answer, patience_seconds=120)  # fmt: skip
    sending = asyncio.create_task(sender.send(messages))
    while len(told.accepted) < half // 2 and not sending.done():
        await asyncio.sleep(0.02)
    full.fill(listener)
    until, number = time.monotonic() + _FILL_SECONDS, 0
    while time.monotonic() < until:
        number += 1
        code = await _probe(house.mllp_port, number, told)
        told.codes_while_full[code] += 1
        if told.codes_while_full["AR"] == 1 and code == "AR":
            until = time.monotonic() + _FULL_SECONDS
        await asyncio.sleep(0.02)
    full.free(listener)
    freed = time.monotonic()
    while time.monotonic() < freed + 60:
        number += 1
        if await _probe(house.mllp_port, number, told) == "AA":
            told.recovery_seconds = round(time.monotonic() - freed, 2)
            break
        await asyncio.sleep(0.02)
    try:
        told.resent = (await asyncio.wait_for(sending, 180)).resent
    except SendError as error:  # what was never accepted is counted
        told.resent = error.summary.resent
    return told


async def _probe(port: int, number: int, told: _Told) -> str:
    """One message of its own, large enough to need space; what is answered."""
    message = (f"MSH|^~\\&|PROBE|HOSP|CUFF|CUFF|20240101||ADT^A08|probe-{number}|P|2.5.1\rPID|1||P{number}^^^HOSP^MR||X\r"
               f"NTE|1||{'x' * 20_000}\r").encode()  # fmt: skip
    try:
        wire = await Wire.open(port)
        await wire.send(frame(message))
        await wire.answered(1, 20)
    except OSError as error:
        return type(error).__name__
    code = code_of(wire.answers[0]) if wire.answers else "no answer"
    wire.close()
    if code == "AA":
        told.accepted.append(message)
    return code
