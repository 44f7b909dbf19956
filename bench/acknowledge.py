"""Durable acknowledgements a second of `cuff listen`, beside two peers that get the same messages in the same run:
python-hl7's own MLLP server, which commits each message to SQLite, and HAPI HL7v2's SimpleServer, which stores nothing.

    python -m bench acknowledge             # or: python -m bench.acknowledge [MESSAGES] [ROUNDS]

Eight connections: with one message in flight on each, as most interface engines send, with 32, and with 128, as one that
pipelines works off a backlog. Every server is warmed up first, then they take turns, in another order each round; the
median round counts.
"""

import os
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import hapi_peer
from bench.feed import sound_messages
from bench.load import LoadResult, offer
from bench.processes import House, Server, free_port
from bench.result import Ratio

CONNECTIONS = 8
WINDOWS = (1, 32, 128)
OURS, HL7, HAPI = "cuff listen", "python-hl7, a commit for each message", "HAPI SimpleServer, stores nothing"
# With more than 64 KiB unread on a connection python-hl7's server now and then reads no further; one commit a message, it is
# no slower with less.
MOST_IN_FLIGHT = {HL7: 64}
GOALS = {HL7: ">= 10", HAPI: ">= 0.5"}


def run(messages: int = 6000, rounds: int = 3) -> list[Ratio]:
    """A row for each peer and window; where HAPI cannot run its rows say why."""
    slices = 1 + rounds * len(WINDOWS)
    feed = sound_messages(messages * slices)
    parts = [feed[number * messages:(number + 1) * messages] for number in range(slices)]
    absent = hapi_peer.missing()
    results: dict[tuple[str, int], list[LoadResult]] = {}
    with TemporaryDirectory(prefix="cuff-bench-") as folder, ExitStack() as stack:
        ports: dict[str, int] = {}
        for name in (OURS, HL7, *([] if absent else [HAPI])):
            ports[name] = _start(stack, name, Path(folder))
        warm_up, *measured = parts
        for name, port in ports.items():
            offer(warm_up, port, CONNECTIONS, min(WINDOWS[-1], MOST_IN_FLIGHT.get(name, WINDOWS[-1])))
        for number, part in enumerate(measured):
            window = WINDOWS[number % len(WINDOWS)]
            names = list(ports)
            turn = number // len(WINDOWS) % len(names)
            for name in (*names[turn:], *names[:turn]):
                result = offer(part, ports[name], CONNECTIONS, min(window, MOST_IN_FLIGHT.get(name, window)))
                accepted = sum(result.codes.get(code, 0) for code in ("AA", "CA"))
                if accepted != len(part):
                    raise RuntimeError(f"{name} accepted {accepted} of {len(part)} messages: {result.codes}")
                results.setdefault((name, window), []).append(result)
    return [_ratio(results, peer, window, absent) for window in WINDOWS for peer in (HL7, HAPI)]


def _start(stack: ExitStack, name: str, folder: Path) -> int:
    port = free_port()
    if name == OURS:
        house = House(folder / "house", {"mllp_port": port})
        stack.enter_context(house.start("listen"))
    elif name == HL7:
        stack.enter_context(Server(name, [sys.executable, "-m", "bench.hl7_peer", str(port), str(folder / "hl7.db")]))
    else:
        stack.enter_context(hapi_peer.start(port))
    return port


def _ratio(results: dict[tuple[str, int], list[LoadResult]], peer: str, window: int, absent: str) -> Ratio:
    name = f"acknowledgements, {CONNECTIONS} connections, {window} in flight each"
    if (peer, window) not in results:
        return Ratio(name, _median(results[OURS, window]), float("nan"), "a second", peer, GOALS[peer], f"not run: {absent}")
    ours = results[OURS, window]
    waits = statistics.median(result.milliseconds["p99"] for result in ours)
    note = f"ours p99 {waits:.1f} ms, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return Ratio(name, _median(ours), _median(results[peer, window]), "a second", peer, GOALS[peer], note)


def _median(results: list[LoadResult]) -> float:
    return statistics.median(result.a_second for result in results)


if __name__ == "__main__":
    for each in run(*map(int, sys.argv[1:])):
        print(f"{each.name}: {each.ours:.0f}, {each.peer_name} {each.peer:.0f}, ratio {each.ratio:.2f} "
              f"({each.goal}: {'met' if each.is_met else 'NOT MET'}; {each.note})")
