"""kill -9 of listener, relay, consumer and broker at random points of feeds whose senders resend what is not acknowledged:
HL7 v2 over MLLP on eight connections, and FHIR resources over HTTP beside them.

In the end: what was acknowledged is there, nothing is doubled, the ledger balances, and every row equals those of a house
that was left in peace. Without a broker at hand (or with ``transport="inbox"``) listener and consumer alone are killed.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from bench.chaos.evidence import (
    Held,
    different_rows,
    doubled_rows,
    held,
    payload_id,
    raw_rows,
    unbalanced,
    unfinished_batches,
    waiting,
)
from bench.chaos.fhir_poster import post_all, resources
from bench.chaos.figure import Figure, Size
from bench.processes import House, Server, wait_until
from core.settings import Settings
from ehr.live.acknowledged import Acknowledged
from ehr.live.play import person_of, with_rubbish
from ehr.live.send import MllpSender, Outgoing, SendSummary
from tests.kafka.broker import Broker, find_jars, own_broker

SIZES: dict[Size, tuple[int, int]] = {"small": (6, 300), "full": (300, 20_000)}  # kills, messages
CONNECTIONS, SEED = 8, 9
_READY_SECONDS, _LAND_SECONDS = 180.0, 900.0
_FATES = {"AA": ("landed",), **dict.fromkeys(("200", "202"), ("landed", "quarantined"))}  # a resource is read on landing
_AT_WORK_SECONDS = {"listen": 0.5}  # a victim is let work so long at most; the others work in longer rounds
_OPTIONS: dict[str, object] = {"consume_seconds": 0.2}


class Victim(Protocol):
    name: str

    def kill(self) -> None: ...
    def start(self) -> None: ...
    def is_up(self) -> bool: ...


class CommandVictim:
    """A command of the house; `Supervisor` starts it again as soon as it is dead."""

    def __init__(self, house: House, command: str) -> None:
        self.name, self._house = command, house
        self.server: Server | None = None
        self.start()

    def start(self) -> None:
        self.server = self._house.start(self.name)

    def is_up(self) -> bool:
        return self.server is not None and self.server.is_running and bool(self.server.said)

    def kill(self) -> None:
        assert self.server is not None
        self.server.kill()


class BrokerVictim:
    """Apache Kafka on loopback."""

    name = "broker"

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def start(self) -> None:
        self._broker.start(_READY_SECONDS)

    def is_up(self) -> bool:
        return self._broker.process is not None and self._broker.process.poll() is None

    def kill(self) -> None:
        self._broker.kill()


@dataclass
class Storm:
    """Lets messages through in handfuls; after each it kills someone at a random moment and has it started again."""

    victims: Sequence[Victim]
    messages: Sequence[bytes]
    kills: int
    killed: Counter[str] = field(default_factory=Counter)
    endings: list[str] = field(default_factory=list)  # of victims that ended by themselves

    def __post_init__(self) -> None:
        self._chance = random.Random(SEED)
        self._gate = asyncio.Condition()
        self._released = 0

    async def feed(self) -> AsyncIterator[bytes]:
        for number, message in enumerate(self.messages):
            async with self._gate:
                await self._gate.wait_for(lambda number=number: self._released > number)  # type: ignore[misc]
            yield message

    async def rage(self) -> None:
        """All kills, then everything is let through."""
        points = sorted(self._chance.sample(range(1, len(self.messages)), self.kills))
        starting: dict[str, asyncio.Task[None]] = {}
        for point in points:
            victim = self._chance.choice(self.victims)
            if victim.name in starting:
                await starting.pop(victim.name)
            if not victim.is_up():
                self.endings.append(f"the {victim.name} ended by itself")
            await asyncio.sleep(self._chance.uniform(0, _AT_WORK_SECONDS.get(victim.name, 2.0)))
            await self._release(point)
            await asyncio.sleep(self._chance.choice((0, 0.002, 0.01, 0.05, 0.2)) * self._chance.random())
            await asyncio.to_thread(victim.kill)
            self.killed[victim.name] += 1
            starting[victim.name] = asyncio.create_task(_start(victim))
        await asyncio.gather(*starting.values())
        await self._release(len(self.messages))

    def may_post(self, number: int, of: int) -> bool:
        """Whether so much of the feed is out that the nth resource of so many may follow."""
        return self._released * of >= number * len(self.messages)

    async def _release(self, until: int) -> None:
        async with self._gate:
            self._released = until
            self._gate.notify_all()


async def _start(victim: Victim) -> None:
    await asyncio.to_thread(victim.start)
    await asyncio.to_thread(wait_until, victim.is_up, _READY_SECONDS)


def run(size: Size = "full", transport: str = "") -> list[Figure]:
    """``transport``: kafka where a broker can be had, else inbox. Errors: ``RuntimeError`` when the storm cannot be played."""
    kills, number = SIZES[size]
    messages = hospital(number)
    posted = resources(max(number // 20, 40), SEED)
    with TemporaryDirectory(prefix="cuff-chaos-") as folder, ExitStack() as stack:
        broker, why = (None, "") if transport == "inbox" else _broker(stack)
        if transport == "kafka" and broker is None:
            raise RuntimeError(f"no broker: {why}")
        peaceful, house = House(Path(folder) / "peace", dict(_OPTIONS)), House(Path(folder) / "storm", dict(_OPTIONS))
        house.keys = peaceful.keys
        if broker is not None:
            house.options |= {"transport": "kafka", "kafka_bootstrap": broker.bootstrap}
        play_in_peace(peaceful, messages, posted)
        started = time.monotonic()
        storm, told, summary = _play_in_storm(house, broker, messages, posted, kills)
        seconds = time.monotonic() - started
        found = held(house.settings)
        lost = [problem for message, code in told.items() if (problem := _lost(found, message, code))]
        rows = different_rows(raw_rows(house.settings), raw_rows(peaceful.settings))
        wrong = unbalanced(house.settings) + _states(house.settings, peaceful.settings)
        doubled, left = doubled_rows(house.settings), waiting(house.settings) + unfinished_batches(house.settings)
    note = (f"{sum(storm.killed.values())} kills {dict(storm.killed)} over {len(messages)} messages and {len(posted)} "
            f"resources in {seconds:.0f} s, {summary.resent} sent again, transport {house.settings.transport} {why}, "
            f"answers {dict(Counter(told.values()))}, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    unlike = sum(map(sum, rows.values()))
    return [
        Figure("kill -9: acknowledged messages lost", len(lost), "messages", "<= 0", _first(note, lost)),
        Figure("kill -9: rows doubled", doubled, "rows", "<= 0"),
        Figure("kill -9: rows unlike an undisturbed run", unlike, "rows", "<= 0", str(rows) if rows else ""),
        Figure("kill -9: ledger unbalanced, states or reasons unlike", len(wrong), "payloads", "<= 0", _first("", wrong)),
        Figure("kill -9: left in the inbox or unfinished", left, "payloads and batches", "<= 0"),
        Figure("kill -9: ended by themselves", len(storm.endings), "processes", "<= 0", _first("", storm.endings)),
    ]  # fmt: skip


def _first(note: str, wrong: list[str]) -> str:
    return f"{note}; first: {wrong[0]}".lstrip("; ") if wrong else note


def hospital(number: int) -> list[bytes]:
    """The synthetic hospital as it is: repeats, corrections, merges, broken messages, wrong charsets, and rubbish."""
    from ehr.simulate import SimulationOptions, simulate_hospital

    found: list[bytes] = []
    patients = max(20, number // 20)
    while len(found) < number:
        found.clear()
        simulate_hospital(None, SimulationOptions(patients=patients, years=4, seed=SEED),
                          deliver=lambda messages, _total: found.extend(messages))
        patients = patients * 5 // 4
    return list(with_rubbish(found, every=100))[:number]


def _broker(stack: ExitStack) -> tuple[Broker | None, str]:
    jars, why = find_jars()
    return (stack.enter_context(own_broker(jars)), "") if jars is not None else (None, why)


def play_in_peace(house: House, messages: Sequence[bytes], posted: Sequence[bytes]) -> None:
    """The same messages over as many connections, and nobody dies."""
    with house.start("listen") as listener:
        asyncio.run(_sender(house).send(messages))
        asyncio.run(post_all(house.fhir_port, posted))
        listener.stop()
    house.run("consume", "--once", seconds=_LAND_SECONDS)


def _sender(house: House, heard: Callable[[Outgoing, Acknowledged], None] | None = None) -> MllpSender:
    return MllpSender("127.0.0.1", house.mllp_port, connections=CONNECTIONS, lane=person_of, on_answer=heard,
                      ack_timeout_seconds=5, patience_seconds=_READY_SECONDS)  # fmt: skip


def _play_in_storm(house: House, broker: Broker | None, messages: Sequence[bytes], posted: Sequence[bytes],
                   kills: int) -> tuple[Storm, dict[bytes, str], SendSummary]:
    victims: list[Victim] = [CommandVictim(house, "listen"), CommandVictim(house, "consume")]
    if broker is not None:
        victims += [CommandVictim(house, "relay"), BrokerVictim(broker)]
    told: dict[bytes, str] = {}

    def hear(outgoing: Outgoing, answer: Acknowledged) -> None:
        told[outgoing.content] = answer.code

    async def play() -> tuple[Storm, SendSummary]:
        storm = Storm(victims, messages, kills)
        raging = asyncio.create_task(storm.rage())
        sending = asyncio.create_task(_sender(house, hear).send(storm.feed()))
        posting = asyncio.create_task(
            post_all(house.fhir_port, posted, lambda number: storm.may_post(number, len(posted))))
        await asyncio.gather(raging, sending, posting)
        told.update({body: str(status) for body, status in posting.result().items()})
        return storm, sending.result()

    try:
        for victim in victims:
            if not wait_until(victim.is_up, _READY_SECONDS):
                raise RuntimeError(f"the {victim.name} did not start")
        storm, summary = asyncio.run(play())
        wait_until(lambda: waiting(house.settings) == 0, _LAND_SECONDS, every=0.5)
        for victim in victims[:3]:
            if isinstance(victim, CommandVictim) and victim.server is not None:
                victim.server.stop(120)
        return storm, told, summary
    finally:
        for victim in victims:
            if isinstance(victim, CommandVictim) and victim.server is not None and victim.server.is_running:
                victim.server.kill()


def _lost(found: dict[str, Held], message: bytes, code: str) -> str:
    """What is wrong with a message that was answered; '' for nothing."""
    entry = found.get(payload_id(message))
    if entry is None or not entry.is_intact:
        return f"{code} for {payload_id(message)[:12]}, which is gone"
    fits = entry.state in _FATES.get(code, ("quarantined",))
    return "" if fits else f"{code} for {payload_id(message)[:12]}, which is {entry.state}"


def _states(ours: Settings, theirs: Settings) -> list[str]:
    one, other = held(ours), held(theirs)
    return [f"{owner[:12]}: {one.get(owner)} instead of {other.get(owner)}" for owner in one.keys() | other.keys()
            if owner not in one or owner not in other
            or (one[owner].state, one[owner].reasons) != (other[owner].state, other[owner].reasons)]  # fmt: skip
