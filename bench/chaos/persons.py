"""Long histories of many persons over eight connections that break: each reads in the end as a careful clerk wrote it down.

The histories and the clerk are those of tests/ehr/live/histories.py: A04, A08, visits and their corrections, readings and
theirs, merges (A40) and moved visits (A45).
"""

import asyncio
import os
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.chaos.evidence import doubled_rows, unbalanced, waiting
from bench.chaos.figure import Figure, Size
from bench.processes import House
from ehr.live.play import person_of
from ehr.live.send import MllpSender, SendSummary
from tests.ehr.live.histories import (
    Names,
    known_at_the_end,
    landed_at_the_end,
    landed_facts,
    person_histories,
    round_robin,
    told_facts,
)

SIZES: dict[Size, tuple[int, int]] = {"small": (40, 8), "full": (5000, 20)}
CONNECTIONS = 8
_BREAK_SECONDS = (0.05, 0.4)


def run(size: Size = "full") -> list[Figure]:
    """A consumer lands while the feed runs."""
    persons, events = SIZES[size]
    histories = person_histories(persons, events, seed=45)
    contents = [event.content for event in round_robin(histories)]
    with TemporaryDirectory(prefix="cuff-chaos-") as folder:
        house = House(Path(folder) / "var")
        with house.start("listen") as listener, house.start("consume") as consumer:
            summary, breaks = asyncio.run(_send(house.mllp_port, contents))
            consumer.stop(300)
            listener.stop()
        sent_at = time.monotonic()
        house.run("consume", "--once", seconds=1800)
        landing = time.monotonic() - sent_at
        settings = house.settings
        names = Names(settings, histories)
        told, landed = told_facts(histories), landed_facts(settings, names)
        facts = [person for person in told.keys() | landed.keys() if told.get(person) != landed.get(person)]
        book, found = known_at_the_end(histories), landed_at_the_end(settings, names)
        ends = [person for person in book.keys() | found.keys() if book.get(person) != found.get(person)]
        wrong, doubled, left = unbalanced(settings), doubled_rows(settings), waiting(settings)
    note = (f"{persons} persons, {len(contents)} messages, {breaks} broken connections, {summary.resent} sent again, "
            f"{summary.messages_per_second:.0f} a second while landing, {landing:.0f} s to land the rest, load "
            f"{os.getloadavg()[0]:.1f}")  # fmt: skip
    return [
        Figure("persons: histories that differ from the clerk's", len(facts), "persons", "<= 0", _first(note, facts)),
        Figure("persons: what is known in the end differs", len(ends), "persons", "<= 0", _first("", ends)),
        Figure("persons: not accepted, not landed or doubled", len(contents) - summary.accepted + left + doubled,
               "messages and rows", "<= 0"),
        Figure("persons: ledger unbalanced", len(wrong), "payloads", "<= 0", _first("", wrong)),
    ]  # fmt: skip


def _first(note: str, wrong: list[str]) -> str:
    return f"{note}; first: {min(wrong)}" if wrong else note


async def _send(port: int, contents: list[bytes]) -> tuple[SendSummary, int]:
    """The sender talks through a door that slams connections, now one, now all."""
    slammed, chance, open_ = 0, random.Random(8), set[asyncio.StreamWriter]()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        open_.add(writer)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            except OSError:
                pass
            finally:
                target.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))
        open_.discard(writer)

    door = await asyncio.start_server(pass_on, "127.0.0.1", 0)

    async def slam() -> None:
        nonlocal slammed
        while True:
            await asyncio.sleep(chance.uniform(*_BREAK_SECONDS))
            chosen = list(open_) if chance.random() < 0.1 else chance.sample(sorted(open_, key=id), min(1, len(open_)))
            for writer in chosen:
                writer.transport.abort()
                slammed += 1

    slamming = asyncio.create_task(slam())
    try:
        address = door.sockets[0].getsockname()
        sender = MllpSender(address[0], address[1], connections=CONNECTIONS, lane=person_of, patience_seconds=300)
        return await sender.send(contents), slammed
    finally:
        slamming.cancel()
        door.close()
        while open_:  # the sender has left; what it said last passes through
            await asyncio.sleep(0.02)
