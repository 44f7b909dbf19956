"""A tiny MLLP peer that behaves as badly as the test asks."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Verdict = tuple[str, str]  # MSA-1, and what follows in ERR-3|…; or an action: ('drop', ''), ('late', ''), ('silent', '')


def answer(control_id: bytes, code: str, error: str = "") -> bytes:
    text = f"MSH|^~\\&|CUFF|CUFF|||20260101||ACK|1|P|2.5.1\rMSA|{code}|".encode() + control_id + b"\r"
    if error:
        text += f"ERR|||{error}\r".encode()
    return b"\x0b" + text + b"\x1c\r"


@dataclass
class Peer:
    """``behave(number, message)`` says what to do with the nth delivery, counted from 1."""

    behave: Callable[[int, bytes], Verdict] = lambda _number, _message: ("AA", "")
    received: list[bytes] = field(default_factory=list)
    arrived_at: list[float] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                frame = await reader.readuntil(b"\x1c\r")
                message = frame[frame.rindex(b"\x0b") + 1:-2]
                self.received.append(message)
                self.arrived_at.append(asyncio.get_running_loop().time())
                fields = message.split(b"\r")[0].split(b"|")
                control_id = fields[9] if len(fields) > 9 else b""
                code, more = self.behave(len(self.received), message)
                if code == "drop":
                    break
                if code == "silent":
                    continue
                if code == "late":
                    await asyncio.sleep(0.6)
                    code = "AA"
                for byte in answer(control_id, code, more):  # a byte at a time
                    writer.write(bytes([byte]))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self, port: int = 0):
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
