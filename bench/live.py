"""From the acknowledgement of a message to its rows in raw.*, at 200 messages a second, and the memory that takes.

    python -m bench live                    # a minute; the demand is fifteen: python -m bench.live 900 [RATE]

The row counts as there when the batch that brought it is finished in the ops database, which is after the lake's commit.
"""

import asyncio
import os
import statistics
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import select

from bench.feed import sound_messages
from bench.processes import House, Server, wait_until
from bench.result import Ratio
from core.settings import Settings
from core.store import Batch, Payload, store_session

RATE, SECONDS, CONNECTIONS = 200.0, 60.0, 8
LIMIT_SECONDS = 5.0
FLAT = "<= 1.05"  # memory of the last quarter over that of the second, each its median
_SAMPLE_SECONDS, _WARM_UP_SECONDS = 1.0, 10.0


class Memory:
    """Resident memory of each process, sampled until the block ends."""

    def __init__(self, servers: dict[str, Server]) -> None:
        self.samples: dict[str, list[float]] = {name: [] for name in servers}
        self._servers, self._over = servers, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            for name, server in self._servers.items():
                if server.is_running:
                    self.samples[name].append(server.memory_kib() / 1024)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def quarter(self, name: str, number: int) -> float:
        """Median MiB of a quarter of the time, 1 to 4."""
        samples = self.samples[name]
        return statistics.median(samples[len(samples) * (number - 1) // 4:len(samples) * number // 4] or [float("nan")])

    def slope_a_minute(self, name: str) -> float:
        """MiB a minute after the first quarter, by least squares."""
        samples = self.samples[name][len(self.samples[name]) // 4:]
        if len(samples) < 3:
            return float("nan")
        return statistics.linear_regression(range(len(samples)), samples).slope * 60 / _SAMPLE_SECONDS


def run(seconds: float = SECONDS, rate: float = RATE) -> list[Ratio]:
    """Latencies against the five seconds, and memory late against memory early. Errors: ``RuntimeError`` when a message
    that was acknowledged has no row."""
    warm_up = round(_WARM_UP_SECONDS * rate)
    messages = sound_messages(warm_up + round(seconds * rate), seed=200)
    with TemporaryDirectory(prefix="cuff-bench-") as folder:
        house = House(Path(folder) / "var")
        with house.start("listen") as listener, house.start("consume") as consumer:
            asyncio.run(_send(house, messages[:warm_up], rate))
            with Memory({"listener": listener, "consumer": consumer}) as memory:
                acknowledged = asyncio.run(_send(house, messages[warm_up:], rate))
            load = os.getloadavg()[0]
            landed: dict[str, float] = {}
            wait_until(lambda: len(_landed(house.settings, acknowledged, landed)) == len(acknowledged), 60, every=1)
        if missing := acknowledged.keys() - landed.keys():
            raise RuntimeError(f"{len(missing)} acknowledged messages did not land")
        rows = _rows(house.settings, acknowledged)
    waits = sorted(landed[name] - at for name, at in acknowledged.items())
    p50, p95, p99 = (waits[len(waits) * share // 100] for share in (50, 95, 99))
    note = (f"p50 {p50:.2f} s, p99 {p99:.2f} s, largest {waits[-1]:.2f} s; {len(waits)} messages, {dict(rows)}; "
            f"load {load:.1f} on {os.cpu_count()} cores")  # fmt: skip
    ratios = [Ratio(f"from AA to rows in raw, 95%, at {rate:g} messages a second", p95, LIMIT_SECONDS, "s",
                    "the demand", "<= 1", note)]  # fmt: skip
    for name in ("listener", "consumer"):
        note = (f"{seconds:g} s at {rate:g} a second, highest {max(memory.samples[name]):.0f} MiB, "
                f"{memory.slope_a_minute(name):+.2f} MiB a minute; load {load:.1f}")  # fmt: skip
        ratios.append(Ratio(f"memory of the {name} in the last quarter", memory.quarter(name, 4), memory.quarter(name, 2),
                            "MiB", "its second quarter", FLAT, note))  # fmt: skip
    return ratios


async def _send(house: House, messages: tuple[bytes, ...], rate: float) -> dict[str, float]:
    """Payload id -> when its AA was there, in seconds of the clock."""
    from bench.chaos.evidence import payload_id
    from ehr.live.play import person_of
    from ehr.live.send import MllpSender

    heard: dict[str, float] = {}

    def hear(outgoing: object, answer: object) -> None:
        if answer.is_accepted:  # type: ignore[attr-defined]
            heard[payload_id(outgoing.content)] = time.time()  # type: ignore[attr-defined]

    sender = MllpSender("127.0.0.1", house.mllp_port, connections=CONNECTIONS, rate=rate, lane=person_of, on_answer=hear)
    await sender.send(messages)
    return heard


def _landed(settings: Settings, asked: dict[str, float], known: dict[str, float]) -> dict[str, float]:
    """Adds to ``known`` when the batch of each payload was finished."""
    with store_session(settings) as session:
        rows = session.execute(select(Payload.payload_id, Batch.finished_at).join(Batch, Batch.batch_id == Payload.batch_id)
                               .where(Batch.finished_at.is_not(None)))  # fmt: skip
        known |= {name: at.timestamp() for name, at in rows if name in asked and name not in known}
    return known


def _rows(settings: Settings, asked: dict[str, float]) -> Counter[str]:
    """How many of them have a row, and how many are of a kind that has none. Errors: ``RuntimeError`` for any other."""
    from core.lake import read_lake

    with read_lake(settings, ("clinical",)) as lake:
        with_rows = {row[0] for row in lake.execute("select payload_id from clinical.raw.hl7v2_messages").fetchall()}
        landings = lake.execute("select payload_id, list_sum(list_transform(counts, lambda c: c.ignored)) "
                                "from clinical.raw.landings").fetchall()  # fmt: skip
    ignored = {name for name, number in landings if number}
    if lost := asked.keys() - with_rows - ignored:
        raise RuntimeError(f"{len(lost)} acknowledged messages have no row")
    return Counter({"with rows": len(asked.keys() & with_rows), "ignored": len(asked.keys() & ignored)})


if __name__ == "__main__":
    for each in run(*map(float, sys.argv[1:])):
        print(f"{each.name}: {each.ours:.3g} {each.unit}, {each.peer_name} {each.peer:.3g}, ratio {each.ratio:.3f} "
              f"({each.goal}: {'met' if each.is_met else 'NOT MET'}; {each.note})")
