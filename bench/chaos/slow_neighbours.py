"""1,000 idle and 50 slow-dripping connections beside eight that work: what that costs the eight, and the memory it takes."""

import json
import os
import resource
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.chaos.figure import Figure, Size
from bench.feed import sound_messages
from bench.load import offer
from bench.processes import House, Server

SIZES: dict[Size, tuple[int, int, int, int]] = {"small": (100, 10, 600, 3), "full": (1000, 50, 6000, 5)}
GOALS: dict[Size, str] = {"small": "<= 6", "full": "<= 2"}  # the small one runs beside other tests


def run(size: Size = "full") -> list[Figure]:
    """Rounds in turns, alone and in company; the medians of their p99."""
    idle, dripping, messages, rounds = SIZES[size]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # the listener inherits it
    feed = sound_messages(messages * (1 + 2 * rounds), seed=8)
    parts = [feed[number * messages:(number + 1) * messages] for number in range(1 + 2 * rounds)]
    alone, crowded, grown = [], [], []
    told: list[dict[str, int]] = []
    with TemporaryDirectory(prefix="cuff-chaos-") as folder:
        house = House(Path(folder) / "var")
        with house.start("listen") as listener:
            offer(parts.pop(), house.mllp_port)
            for _ in range(rounds):
                alone.append(offer(parts.pop(), house.mllp_port).milliseconds["p99"])
                before = listener.memory_kib()
                command = [sys.executable, "-m", "bench.chaos.crowd", str(house.mllp_port), str(idle), str(dripping)]
                with Server("crowd", command) as crowd:
                    crowded.append(offer(parts.pop(), house.mllp_port).milliseconds["p99"])
                    grown.append((listener.memory_kib() - before) / 1024)
                    crowd.stop()
                    told.append(json.loads(crowd.said[-1]))
            is_alive = listener.is_running
    note = (f"{idle} idle, {dripping} dripping; p99 alone {statistics.median(alone):.2f} ms, in company "
            f"{statistics.median(crowded):.2f} ms, {rounds} rounds; load {os.getloadavg()[0]:.1f}")  # fmt: skip
    closed = sum(each["closed"] for each in told)
    return [
        Figure("slow neighbours: p99 in company over p99 alone", statistics.median(crowded) / statistics.median(alone),
               "times", GOALS[size], note),
        Figure("slow neighbours: memory of the listener grows by", max(grown), "MiB", "<= 50",
               f"each round {[round(each, 1) for each in grown]}"),
        Figure("slow neighbours: connections that were dropped", closed, "connections", "<= 0",
               "" if is_alive else "the listener ended by itself"),
    ]  # fmt: skip
