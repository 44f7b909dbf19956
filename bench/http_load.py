"""An HTTP load client in a process of its own, as lean as can be: requests made beforehand, one at a time on each connection.

    python -m bench.http_load FILE   # FILE: an `Offer` as JSON; prints a `Load` as JSON

Closed (``rate`` 0): each connection sends its next request when it has its answer. Open: requests begin at fixed times,
whether or not the earlier are answered, and their time counts from when they should have begun, so that a server which
stalls cannot make its clients wait politely.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import orjson

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_AGAIN_SECONDS = 0.02
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Offer:
    """``bodies`` are taken in turn. With ``is_kept``, each answer's first assessment is kept: what it was asked of, and what
    was said. ``may_break``: a connection that is lost is counted and opened again, else it is an error."""

    port: int
    path: str
    bodies: list[str]
    seconds: float
    connections: int = 32
    rate: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    is_kept: bool = False
    may_break: bool = False


@dataclass(frozen=True)
class Load:
    """``milliseconds``: p50, p95, p99 and max. ``kept``: (number of the body, model version, risk). ``lost``: requests whose
    connection ended before their answer; ``refused``: attempts to connect that failed."""

    answered: int
    seconds: float
    statuses: dict[str, int]
    milliseconds: dict[str, float]
    lost: int
    refused: int
    unbegun: int
    kept: list[tuple[int, int, float]]

    @property
    def a_second(self) -> float:
        return self.answered / self.seconds


def offer(what: Offer) -> Load:
    """Offer the load and wait for its end. Errors: ``RuntimeError`` with the client's last words."""
    with tempfile.TemporaryDirectory(prefix="cuff-load-") as folder:
        file = Path(folder) / "offer.json"
        file.write_bytes(orjson.dumps(asdict(what)))
        done = subprocess.run([sys.executable, "-m", "bench.http_load", str(file)], capture_output=True, text=True,
                              timeout=what.seconds + _PATIENCE_SECONDS)  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the load client failed: {done.stderr[-800:]}")
    return Load(**json.loads(done.stdout))


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self, client: "_Client") -> None:
        self._client, self._buffer, self._expected = client, b"", -1
        self._asked: tuple[int, float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._client.is_free(self)

    def ask(self, number: int, due: float) -> None:
        self._asked = number, due
        self._transport.write(self._client.requests[number])

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data if self._buffer else data
        if self._expected < 0:
            head_end = buffer.find(_HEAD_END)
            if head_end < 0:
                return
            head = buffer[:head_end].lower()
            at = head.find(_LENGTH)
            self._expected = head_end + 4 + (int(head[at + len(_LENGTH):].split(b"\r", 1)[0]) if at >= 0 else 0)
        if len(buffer) < self._expected:
            return
        answer, self._buffer, self._expected = buffer[:self._expected], b"", -1
        asked, self._asked = self._asked, None
        if asked is not None:
            self._client.hear(asked[0], asked[1], answer)
        self._client.is_free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.lose(self, self._asked is not None)


class _Client:
    def __init__(self, what: Offer) -> None:
        self.what = what
        head = "".join(f"{name}: {value}\r\n" for name, value in what.headers.items())
        self.requests = [
            (f"POST {what.path} HTTP/1.1\r\nHost: 127.0.0.1:{what.port}\r\nContent-Type: application/json\r\n{head}"
             f"Content-Length: {len(body.encode())}\r\n\r\n{body}").encode() for body in what.bodies]  # fmt: skip
        self.waits: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.kept: list[tuple[int, int, float]] = []
        self.lost = self.refused = 0
        self._next = 0
        self._due: deque[float] = deque()
        self._free: list[_Connection] = []
        self._is_over = False
        self._open = 0
        self._connecting: set[asyncio.Task[None]] = set()

    async def run(self) -> Load:
        loop = asyncio.get_running_loop()
        for _ in range(self.what.connections):
            await self._connect()
        began = time.perf_counter()
        if self.what.rate:
            await self._pace(began)
        else:
            free, self._free = self._free, []
            for connection in free:
                self._ask(connection, time.perf_counter())
            await asyncio.sleep(self.what.seconds)
        self._is_over = True
        deadline = loop.time() + _PATIENCE_SECONDS / 2
        while len(self._free) < self._open and loop.time() < deadline:
            await asyncio.sleep(0.005)
        seconds = time.perf_counter() - began
        waits = sorted(1000 * wait for wait in self.waits) or [float("nan")]
        told = {f"p{share}": round(waits[len(waits) * share // 100], 3) for share in (50, 95, 99)}
        return Load(len(self.waits), seconds, dict(self.statuses), told | {"max": round(waits[-1], 3)}, self.lost, self.refused,
                    len(self._due), self.kept)

    async def _pace(self, began: float) -> None:
        number = 0
        while (due := began + number / self.what.rate) < began + self.what.seconds:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            self._due.append(due)
            number += 1
            if self._free:
                self._ask(self._free.pop(), self._due.popleft())

    async def _connect(self) -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_connection(lambda: _Connection(self), "127.0.0.1", self.what.port)
                self._open += 1
                return
            except OSError:
                self.refused += 1
                if not self.what.may_break or self._is_over:
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)

    def _ask(self, connection: _Connection, due: float) -> None:
        number, self._next = self._next % len(self.requests), self._next + 1
        connection.ask(number, due)

    def is_free(self, connection: _Connection) -> None:
        if self._due:
            self._ask(connection, self._due.popleft())
        elif self._is_over or self.what.rate or not self.waits:
            self._free.append(connection)
        else:
            self._ask(connection, time.perf_counter())

    def hear(self, number: int, due: float, answer: bytes) -> None:
        self.waits.append(time.perf_counter() - due)
        status = answer[9:12].decode()
        self.statuses[status] += 1
        if self.what.is_kept and status == "200":
            told = orjson.loads(answer[answer.index(_HEAD_END) + 4:])["assessments"][0]
            self.kept.append((number, told["model"]["version"], told["risk_12_months"]))

    def lose(self, connection: _Connection, was_asking: bool) -> None:
        self._open -= 1
        if connection in self._free:
            self._free.remove(connection)
        self.lost += was_asking
        if self._is_over:
            return
        if not self.what.may_break:
            print("a connection was closed", file=sys.stderr)
            sys.exit(1)
        again = asyncio.get_running_loop().create_task(self._connect())
        self._connecting.add(again)
        again.add_done_callback(self._connecting.discard)


def main(path: str) -> None:
    import uvloop

    async def run() -> Load:
        return await _Client(Offer(**orjson.loads(Path(path).read_bytes()))).run()

    print(json.dumps(asdict(uvloop.run(run()))))


if __name__ == "__main__":
    main(*sys.argv[1:])
