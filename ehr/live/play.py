"""The synthetic hospital's messages over the wire, as its interface engine would send them."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from ssl import SSLContext

from ehr.live.address import MllpAddress
from ehr.live.send import MllpSender, SendSummary

RUBBISH_EVERY = 1500  # a wrong number dialled once in so many messages
_FIRST_RUBBISH = 10
# Frames that hold no HL7 at all: another protocol, another format, a header that ends before it says anything.
_RUBBISH = ("GET /status?try={number} HTTP/1.1\r\nHost: hospital\r\n\r\n", '{{"status": "ping", "try": {number}}}',
            "MSH|^~\\&|{number}", "\x00\x01\x02 {number}", "ping {number}\r")


def play(messages: Iterable[bytes], address: MllpAddress, *, rate: float | None = None, connections: int = 1,
         window: int = 1, tls: SSLContext | None = None, patience_seconds: float = 60,
         on_progress: Callable[[SendSummary], None] | None = None) -> SendSummary:
    """Send all, one person's messages over one connection and so in order. Errors: `ehr.live.send.SendError`."""
    sender = MllpSender(address.host, address.port, connections=connections, window=window, ssl=tls, rate=rate,
                        lane=person_of, patience_seconds=patience_seconds)

    async def send() -> SendSummary:
        telling = asyncio.create_task(_tell(sender, on_progress)) if on_progress else None
        try:
            return await sender.send(messages)
        finally:
            if telling:
                telling.cancel()

    return asyncio.run(send())


async def _tell(sender: MllpSender, on_progress: Callable[[SendSummary], None]) -> None:
    while True:
        on_progress(sender.summary)
        await asyncio.sleep(0.25)


def person_of(message: bytes) -> bytes:
    """The first number of the first PID segment, for keeping together what belongs together; empty where there is none."""
    start = message.find(b"\rPID|")
    fields = message[start + 1:message.find(b"\r", start + 1)].split(b"|", 4) if start >= 0 else []
    return fields[3].split(b"^", 1)[0].split(b"~", 1)[0] if len(fields) > 3 else b""


def with_rubbish(messages: Iterable[bytes], every: int = RUBBISH_EVERY) -> Iterator[bytes]:
    """The same messages with the odd frame among them that is no HL7, no two alike."""
    numbers = count()
    for place, message in enumerate(messages):
        if place % every == _FIRST_RUBBISH % every:
            number = next(numbers)
            yield _RUBBISH[number % len(_RUBBISH)].format(number=number).encode()
        yield message
