"""Messages with their bits, fields, frames and charsets mutated: none crashes the listener, hangs it, or goes unaccounted.

An oracle of its own cuts each connection's bytes into frames and what stands outside of them. Every frame is answered
(where it asks for an answer), every piece is in the inbox byte for byte, and the ledger counts each as often as it came.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.chaos.evidence import held, ledger, payload_id, unbalanced, waiting
from bench.chaos.figure import Figure, Size
from bench.chaos.mutations import CR, FS, VT, mutated_frame
from bench.chaos.wire import Wire, code_of, control_id_of
from bench.feed import frame, sound_messages
from bench.processes import House, Server

SIZES: dict[Size, tuple[int, int]] = {"small": (1500, 300), "full": (200_000, 500)}  # messages, and of one connection
CONNECTIONS, SEED = 8, 2_0000
_ANSWER_SECONDS, _PROBE_SECONDS = 60.0, 20.0
_WHITE_SPACE_BYTES = 16  # may be lost where a large stray was cut
_LARGE_STRAY_BYTES = 64 << 10  # may come in several pieces, cut where the wire was
_BETWEEN = b"\r\n\t \x0c\x00"  # stands between frames and means nothing


@dataclass
class Pieces:
    """What a listener is to make of a connection's bytes."""

    frames: list[bytes] = field(default_factory=list)
    cut: list[bytes] = field(default_factory=list)  # frames that never ended, kept with the VT that began them
    strays: list[bytes] = field(default_factory=list)  # outside of frames


@dataclass
class Tally:
    expected: Counter[str] = field(default_factory=Counter)  # payload id -> how often it was sent
    large_strays_bytes: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    accepted: set[str] = field(default_factory=set)  # answered AA
    unanswered: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)


def pieces(stream: bytes) -> Pieces:
    """Cut at VT and FS CR, as MLLP says; what ends in any other way is cut."""
    found = Pieces()
    before, *begun = stream.split(VT)
    found.strays.append(before)
    for piece in begun:
        content, _end, behind = piece.partition(FS)
        if behind.startswith(CR):
            found.frames.append(content)
        else:
            found.cut.append(VT + content)
        found.strays.append(behind)
    found.strays = [stray for each in found.strays if (stray := each.strip(_BETWEEN))]
    return found


def run(size: Size = "full") -> list[Figure]:
    """Send all, land all, and compare."""
    number, share = SIZES[size]
    messages, tally = sound_messages(500, seed=9), Tally()
    with TemporaryDirectory(prefix="cuff-chaos-") as folder:
        house = House(Path(folder) / "var")
        with house.start("listen") as listener:
            started = time.monotonic()
            asyncio.run(_send_all(house.mllp_port, messages, number, share, tally))
            seconds = time.monotonic() - started
            crashes = _crashes(listener)
            listener.stop()
        house.run("consume", "--once", seconds=1800)
        settings = house.settings
        found, told, wrong, left = held(settings), ledger(settings), unbalanced(settings), waiting(settings)
    unaccounted = [f"{owner[:12]}: sent {times}, in the ledger {told.get(owner, Counter())['received']}"
                   for owner, times in tally.expected.items()
                   if owner not in found or not found[owner].is_intact or told[owner]["received"] != times]  # fmt: skip
    others = found.keys() - tally.expected.keys()
    unaccounted += [f"{owner[:12]} was never sent" for owner in others if found[owner].reasons != ("outside_frame",)]
    missing_bytes = tally.large_strays_bytes - sum(found[owner].size_bytes for owner in others)
    if missing_bytes > _WHITE_SPACE_BYTES * len(others):
        unaccounted.append(f"{missing_bytes} bytes of large strays")
    untrue = [f"{owner[:12]} was AA and is {found[owner].state} {found[owner].reasons}" for owner in tally.accepted
              if owner in found and found[owner].state != "landed"]  # fmt: skip
    note = (f"{number} mutated messages, {tally.expected.total()} pieces in {seconds:.0f} s, answers "
            f"{dict(tally.answers.most_common())}, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    return [
        Figure("mutated messages: crashes", len(crashes), "", "<= 0", _first(note, crashes)),
        Figure("mutated messages: hangs", len(tally.hangs), "", "<= 0", _first("", tally.hangs)),
        Figure("mutated messages: frames without their answer", len(tally.unanswered), "frames", "<= 0",
               _first("", tally.unanswered)),
        Figure("mutated messages: unaccounted in inbox and ledger", len(unaccounted) + len(wrong) + left, "pieces", "<= 0",
               _first("", unaccounted + wrong)),
        Figure("mutated messages: AA for what did not land", len(untrue), "messages", "<= 0", _first("", untrue)),
    ]  # fmt: skip


def _first(note: str, wrong: list[str]) -> str:
    return f"{note}; first: {wrong[0]}".lstrip("; ") if wrong else note


def _crashes(listener: Server) -> list[str]:
    """That it ended, or a traceback it printed."""
    told = [] if listener.is_running else [f"it ended with {listener.process.returncode}"]
    return told + [line for line in listener.said if "Traceback" in line or "Error" in line]


async def _send_all(port: int, messages: Sequence[bytes], number: int, share: int, tally: Tally) -> None:
    """Connections of ``share`` messages each, a few at a time; a probe in between sees that others are still served."""
    starts = iter(range(0, number, share))

    async def work() -> None:
        for start in starts:
            await _converse(port, messages, range(start, min(start + share, number)), tally)
            await _probe(port, start, tally)

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


async def _converse(port: int, messages: Sequence[bytes], numbers: range, tally: Tally) -> None:
    stream = b"".join(mutated_frame(messages, number, SEED) for number in numbers)
    cut = pieces(stream)
    small = [stray for stray in cut.strays if len(stray) < _LARGE_STRAY_BYTES]
    tally.large_strays_bytes += sum(map(len, cut.strays)) - sum(map(len, small))
    tally.expected.update(payload_id(piece) for piece in [*cut.frames, *cut.cut, *small])
    wire = await Wire.open(port)
    step = 1 + numbers.start % 7919  # pieces of the wire of any length
    for start in range(0, len(stream), step * 8):
        await wire.send(stream[start:start + step * 8])
    wire.end()
    if not await wire.closed(_ANSWER_SECONDS):
        tally.hangs.append(f"messages {numbers} were not done with in {_ANSWER_SECONDS:.0f} s, {len(wire.answers)} answers")
        wire.close()
    _match(cut.frames, wire.answers, numbers, tally)


def _match(frames: list[bytes], answers: list[bytes], numbers: range, tally: Tally) -> None:
    """Each frame has one answer; one whose MSH-15 or MSH-16 says something may go without, or have two."""
    codes = [code_of(answer) or "none" for answer in answers]
    tally.answers.update(codes)
    enhanced = sum(map(_is_enhanced, frames))
    if not len(frames) - enhanced <= len(codes) <= len(frames) + enhanced:
        tally.unanswered.append(f"{len(frames)} frames ({enhanced} in enhanced mode), {len(codes)} answers in {numbers}")
    by_control_id: dict[bytes, list[bytes]] = {}
    for content in frames:
        by_control_id.setdefault(_control_id(content), []).append(content)
    for answer in answers:
        answered = by_control_id.get(control_id_of(answer), [])
        if code_of(answer) == "AA" and len(answered) == 1:
            tally.accepted.add(payload_id(answered[0]))


def _header(content: bytes) -> list[bytes]:
    head = content[:8192].lstrip(b"\xef\xbb\xbf\r\n \t").replace(b"\n", b"\r").split(b"\r", 1)[0]
    return head.split(head[3:4]) if head.startswith(b"MSH") and len(head) > 3 else []


def _control_id(content: bytes) -> bytes:
    return next(iter(_header(content)[9:10]), b"")


def _is_enhanced(content: bytes) -> bool:
    return any(field.strip() for field in _header(content)[14:16])


async def _probe(port: int, number: int, tally: Tally) -> None:
    message = (b"MSH|^~\\&|PROBE|HOSP|CUFF|CUFF|20240101||ADT^A08|probe-%d|P|2.5.1\r"
               b"PID|1||P%d^^^HOSP^MR||X\r" % (number, number))  # fmt: skip
    tally.expected[payload_id(message)] += 1
    wire = await Wire.open(port)
    await wire.send(frame(message))
    if not await wire.answered(1, _PROBE_SECONDS) or code_of(wire.answers[0]) != "AA":
        tally.hangs.append(f"a sound message beside {number} was not accepted: {wire.answers}")
    wire.close()
