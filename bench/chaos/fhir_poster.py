"""A rest-hook sender: one FHIR resource after the other to POST /fhir, each again until it is answered for good."""

import asyncio
import http.client
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

_ANSWERED = (200, 202, 422)  # stored before, stored, kept in quarantine
_PAUSE_SECONDS, _TIMEOUT_SECONDS = 0.1, 10.0


def resources(number: int, seed: int) -> list[bytes]:
    """Lines of the synthetic hospital's NDJSON, of every kind that it writes, some of them twice or broken."""
    from ehr.simulate import SimulationOptions, simulate_hospital

    with TemporaryDirectory(prefix="cuff-chaos-") as folder:
        simulate_hospital(Path(folder) / "extract", SimulationOptions(patients=max(30, number // 8), years=2, seed=seed))
        lines = [line for path in sorted((Path(folder) / "extract").rglob("*.ndjson"))
                 for line in path.read_bytes().splitlines() if line.strip()]  # fmt: skip
    step = max(1, len(lines) // number)
    return lines[::step][:number]


async def post_all(
    port: int, bodies: Sequence[bytes], may_send: Callable[[int], bool] = lambda _number: True
) -> dict[bytes, int]:
    """Body -> final status. ``may_send(n)`` holds the nth back until it is time."""
    told: dict[bytes, int] = {}
    for number, body in enumerate(bodies):
        while not may_send(number):
            await asyncio.sleep(_PAUSE_SECONDS / 2)
        while (status := await asyncio.to_thread(_post, port, body)) not in _ANSWERED:
            await asyncio.sleep(_PAUSE_SECONDS)
        told[body] = status
    return told


def _post(port: int, body: bytes) -> int:
    """The status; 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("POST", "/fhir", body, {"Content-Type": "application/fhir+json"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
