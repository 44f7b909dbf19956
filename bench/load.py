"""A load client in a process of its own, as cheap as can be: frames made beforehand, acknowledgements counted by their end.

    python -m bench.load PORT CONNECTIONS WINDOW FILE   # FILE: MLLP frames, one behind the other; prints JSON

Each connection keeps ``WINDOW`` messages unanswered. The answers are read through once at the end, outside the clock.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from bench.feed import frame

_END = b"\x1c\r"
_CODE = re.compile(rb"MSA.([AC][AER])")
_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class LoadResult:
    """``seconds`` from the first frame to the last acknowledgement; ``codes`` counts MSA-1."""

    acknowledged: int
    seconds: float
    codes: dict[str, int]
    milliseconds: dict[str, float] = field(default_factory=dict)  # p50, p95, p99 from a frame's write to its answer

    @property
    def a_second(self) -> float:
        return self.acknowledged / self.seconds


def offer(messages: Sequence[bytes], port: int, connections: int = 8, window: int = 1) -> LoadResult:
    """Send all messages and wait until each is acknowledged. Errors: ``RuntimeError`` when the server does not answer."""
    with TemporaryDirectory(prefix="cuff-load-") as folder:
        frames = Path(folder) / "frames"
        frames.write_bytes(b"".join(map(frame, messages)))
        done = subprocess.run([sys.executable, "-m", "bench.load", str(port), str(connections), str(window), str(frames)],
                              capture_output=True, text=True, timeout=_PATIENCE_SECONDS + 30)  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the load client failed: {done.stderr[-500:]}")
    return LoadResult(**json.loads(done.stdout))


class _Client(asyncio.Protocol):
    """One connection with its share of the frames, last first."""

    def __init__(self, frames: list[bytes], window: int, over: "asyncio.Future[None]") -> None:
        self._frames, self._window, self._over = frames[::-1], window, over
        self._waiting = len(frames)
        self._sent_at: list[float] = []
        self.heard: list[bytes] = []
        self.waits: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def begin(self) -> None:
        self._send(self._window)

    def _send(self, number: int) -> None:
        if some := self._frames[-number:]:
            del self._frames[-number:]
            now = time.perf_counter()
            self._sent_at += [now] * len(some)
            self._transport.write(b"".join(reversed(some)))

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)
        if ended := data.count(b"\x1c"):
            now = time.perf_counter()
            first = len(self.waits)
            self.waits += [now - at for at in self._sent_at[first:first + ended]]
            self._waiting -= ended
            if self._waiting:
                self._send(ended)
            elif not self._over.done():
                self._over.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._over.done():
            self._over.set_exception(ConnectionError(f"closed with {self._waiting} unanswered ({error})"))


async def _offer(port: int, connections: int, window: int, frames: list[bytes]) -> LoadResult:
    loop = asyncio.get_running_loop()
    clients = []
    for number in range(connections):
        client = _Client(frames[number::connections], window, loop.create_future())
        await loop.create_connection(lambda each=client: each, "127.0.0.1", port)  # type: ignore[misc]
        clients.append(client)
    started = time.perf_counter()
    for client in clients:
        client.begin()
    await asyncio.wait_for(asyncio.gather(*(client._over for client in clients)), _PATIENCE_SECONDS)
    seconds = time.perf_counter() - started
    codes = Counter(code.decode() for client in clients for code in _CODE.findall(b"".join(client.heard)))
    waits = sorted(wait * 1000 for client in clients for wait in client.waits)
    told = {f"p{share}": round(waits[len(waits) * share // 100], 3) for share in (50, 95, 99)}
    return LoadResult(len(frames), seconds, dict(codes), told)


def main(port: str, connections: str, window: str, path: str) -> None:
    import uvloop

    frames = [each + _END for each in Path(path).read_bytes().split(_END)[:-1]]
    result = uvloop.run(_offer(int(port), int(connections), int(window), frames))
    print(json.dumps(vars(result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
