"""Every Nth write or fsync under the listener fails, N from 1 to the end of a short feed; then it is killed and power goes.

An acknowledgement is false when its message is not on the disk afterwards. The disk is `bench.chaos.faulty_disk`'s.
"""

import asyncio
import errno
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.chaos.evidence import held, payload_id, unbalanced
from bench.chaos.faulty_disk import SYNCS, WRITES, FaultyDisk, missing
from bench.chaos.figure import Figure, Size
from bench.chaos.wire import Wire, code_of
from bench.feed import frame, sound_messages
from bench.processes import House, Server

CONNECTIONS, MESSAGES, WINDOW = 3, 12, 2
SMALL = 3  # trials of each kind in the small size
_ANSWER_SECONDS, _RECOVERY_SECONDS = 20.0, 30.0
PROMISES = ("AA", "AE")  # of an AE the message is in quarantine


@dataclass
class Tally:
    """What the trials showed."""

    trials: int = 0
    faults: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    false: list[str] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def run(size: Size = "full") -> list[Figure]:
    """Three kinds of trial for every N. Errors: ``RuntimeError`` without gcc."""
    if why := missing():
        raise RuntimeError(f"no disk can be made to fail here: {why}")
    tally, feed = Tally(), short_feed()
    with TemporaryDirectory(prefix="cuff-chaos-") as folder:
        trials = Trials(Path(folder), feed, tally)
        operations, syncs = trials.count()
        for nth in _numbers(operations, size):
            trials.every_nth(nth, WRITES | SYNCS)
        for nth in _numbers(syncs, size):
            trials.every_nth(nth, SYNCS)
        for nth in _numbers(operations, size):
            trials.once(nth)
    note = (f"{tally.trials} trials, N to {operations} operations ({syncs} fsyncs) of {len(feed)} messages, {tally.faults} "
            f"faults; answers {dict(sorted(tally.answers.items()))}")  # fmt: skip
    return [
        Figure("failing disk: false acknowledgements after a power cut", len(tally.false), "messages", "<= 0",
               _with_first(note, tally.false)),
        Figure("failing disk: listener ended by itself", len(tally.died), "trials", "<= 0", _with_first("", tally.died)),
        Figure("failing disk: not all accepted once the disk is mended", len(tally.stuck), "trials", "<= 0",
               _with_first("no restart in between", tally.stuck)),
        Figure("failing disk: ops database unusable or ledger unbalanced", len(tally.broken), "trials", "<= 0",
               _with_first("", tally.broken)),
    ]  # fmt: skip


def short_feed() -> list[bytes]:
    """Sound messages, one that is a content fault, one that comes twice."""
    feed = list(sound_messages(MESSAGES))
    feed[4] = b"\r".join(segment for segment in feed[4].split(b"\r") if not segment.startswith(b"PID"))
    return [*feed, feed[2]]


def _numbers(last: int, size: Size) -> Iterator[int]:
    yield from range(1, last + 1, 1 if size == "full" else max(1, last // SMALL))


def _with_first(note: str, wrong: list[str]) -> str:
    return f"{note}; first: {wrong[0]}" if wrong else note


class Trials:
    """Each on a fresh copy of one house that was opened once, so that faults meet a listener at work."""

    def __init__(self, room: Path, feed: Sequence[bytes], tally: Tally) -> None:
        self._room, self._feed, self._tally = room, feed, tally
        self._house = House(room / "template")
        with self._house.start("listen") as listener:
            listener.stop()

    def count(self) -> tuple[int, int]:
        """Writes and fsyncs together, and fsyncs alone, that the feed costs without faults; at their most."""
        counted = []
        for kinds in (WRITES | SYNCS, SYNCS):
            with self._trial("count") as (disk, listener):
                disk.fail(1 << 60, kinds, again=False)
                answers = asyncio.run(play(self._house.mllp_port, self._feed))
                assert all(answers.get(message) in PROMISES for message in self._feed), Counter(answers.values())
                counted.append(disk.counted)
                listener.kill()
        return counted[0], counted[1]

    def every_nth(self, nth: int, kinds: int) -> None:
        """The disk goes on failing; then the power cut, at once."""
        name = f"every {nth}. {'fsync' if kinds == SYNCS else 'write or fsync'}"
        with self._trial(name) as (disk, listener):
            disk.fail(nth, kinds, again=True, error=errno.ENOSPC if nth % 2 else errno.EIO)
            answers = asyncio.run(play(self._house.mllp_port, self._feed))
            self._judge(name, disk, listener, answers)

    def once(self, nth: int) -> None:
        """One fault; what was not accepted is sent again to the same process until it is."""
        name = f"the {nth}. write or fsync alone"
        with self._trial(name) as (disk, listener):
            disk.fail(nth, again=False, error=errno.EIO if nth % 2 else errno.ENOSPC)
            answers = asyncio.run(play(self._house.mllp_port, self._feed))
            self._tally.answers.update(answers.values())
            answers |= asyncio.run(play_on(self._house.mllp_port, self._feed, answers))
            if not all(answers.get(message) in PROMISES for message in self._feed) and listener.is_running:
                self._tally.stuck.append(f"{name}: {dict(Counter(answers.values()))}")
            self._judge(name, disk, listener, answers)

    def _trial(self, name: str) -> "_Trial":
        self._tally.trials += name != "count"
        return _Trial(self._room, self._house)

    def _judge(self, name: str, disk: FaultyDisk, listener: Server, answers: dict[bytes, str]) -> None:
        self._tally.answers.update(answers.values())
        self._tally.faults += disk.failed
        if not listener.is_running:
            self._tally.died.append(f"{name}: {listener.said[-1:]}")
        listener.kill()
        after = self._room / f"after-{self._tally.trials}"  # engines are kept by path: never two houses at one
        disk.cut_power(after)
        house = House(after, dict(self._house.options), self._house.keys)
        try:
            found = held(house.settings)
            wrong = unbalanced(house.settings)
        except Exception as error:
            self._tally.broken.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
            return
        if wrong:
            self._tally.broken.append(f"{name}: {wrong[0]}")
        for message, code in answers.items():
            entry = found.get(payload_id(message))
            if code in PROMISES and (entry is None or not entry.is_intact):
                self._tally.false.append(f"{name}: {code} for a message that is gone")
        shutil.rmtree(after)


class _Trial:
    """A copy of the house, its disk and its listener; gone at the end of the block."""

    def __init__(self, room: Path, house: House) -> None:
        self._var = room / "trial"
        shutil.rmtree(self._var, ignore_errors=True)
        shutil.copytree(house.var, self._var)
        self.disk = FaultyDisk(self._var, room / "notes")
        own = House(self._var, dict(house.options), house.keys)
        self.listener = own.start("listen", more=self.disk.environment)

    def __enter__(self) -> tuple[FaultyDisk, Server]:
        self.listener.wait_ready()
        return self.disk, self.listener

    def __exit__(self, *_error: object) -> None:
        if self.listener.is_running:
            self.listener.kill()
        self.disk.close()


async def play(port: int, feed: Sequence[bytes]) -> dict[bytes, str]:
    """Send each message once, over a few connections; message -> MSA-1, of what was answered."""
    found: dict[bytes, str] = {}

    async def talk(share: Sequence[bytes]) -> None:
        for start in range(0, len(share), WINDOW):
            some = share[start:start + WINDOW]
            try:
                wire = await Wire.open(port)
            except OSError:
                return
            await wire.send(b"".join(map(frame, some)))
            await wire.answered(len(some), _ANSWER_SECONDS)
            for message, answer in zip(some, wire.answers, strict=False):
                found[message] = code_of(answer)
            wire.close()

    await asyncio.gather(*(talk(feed[number::CONNECTIONS]) for number in range(CONNECTIONS)))
    return found


async def play_on(port: int, feed: Sequence[bytes], answers: dict[bytes, str]) -> dict[bytes, str]:
    """Send again what has no promise yet, until it has or time is over."""
    found: dict[bytes, str] = {}
    deadline = asyncio.get_running_loop().time() + _RECOVERY_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        rest = [message for message in dict.fromkeys(feed) if (answers | found).get(message) not in PROMISES]
        if not rest:
            break
        found |= await play(port, rest)
        await asyncio.sleep(0.05)
    return found
