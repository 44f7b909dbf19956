"""Idle connections, and ones that send a byte now and then; a process of its own beside the neighbours.

    python -m bench.chaos.crowd PORT IDLE DRIPPING      # says 'ready'; SIGTERM ends it, with what was answered as JSON
"""

import asyncio
import json
import resource
import signal
import sys

from bench.chaos.wire import Wire
from bench.feed import frame

_SECONDS_A_BYTE = 0.1


async def crowd(port: int, idle: int, dripping: int) -> dict[str, int]:
    """Open all of them and stay until SIGTERM."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    still = [await Wire.open(port) for _ in range(idle)]
    drips = [await Wire.open(port) for _ in range(dripping)]
    tasks = [asyncio.create_task(_drip(wire, number)) for number, wire in enumerate(drips)]
    print("ready", flush=True)
    await over.wait()
    for task in tasks:
        task.cancel()
    told = {"answered": sum(len(wire.answers) for wire in drips), "closed": sum(wire.is_closed for wire in still + drips)}
    for wire in still + drips:
        wire.close()
    return told


async def _drip(wire: Wire, number: int) -> None:
    nth = 0
    while not wire.is_closed:
        nth += 1
        message = f"MSH|^~\\&|DRIP|HOSP|CUFF|CUFF|2024||ADT^A08|drip-{number}-{nth}|P|2.5.1\rPID|1||D{number}^^^HOSP^MR\r"
        for byte in frame(message.encode()):
            await wire.send(bytes([byte]))
            await asyncio.sleep(_SECONDS_A_BYTE)


if __name__ == "__main__":
    import uvloop

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(json.dumps(uvloop.run(crowd(*map(int, sys.argv[1:])))))
