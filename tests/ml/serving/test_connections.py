"""The door on a real socket: clients that are slow, endless or wrong, and the rest who must not suffer for it."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import uvicorn

from core.http_connection import BoundedConnection
from tests.conftest import make_settings
from tests.ml.serving.small_api import bearer, running, secured

GOOD = {"systolic_mmhg": 130.0}


@asynccontextmanager
async def listening(settings):
    app = secured(settings)
    async with running(app, settings):
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off",
                                               http=BoundedConnection, ws="none"))  # fmt: skip
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True
            await serving


def test_answers_are_the_same_as_without_a_socket_and_a_refused_body_does_not_cost_the_connection(settings):
    async def run():
        async with listening(settings) as port, httpx.AsyncClient(trust_env=False) as client:
            client.base_url = f"http://127.0.0.1:{port}"
            asked = bearer(settings)

            async def endless():
                for _ in range(600):
                    yield b" " * 10_000

            return [
                await client.post("/v1/risk", json=GOOD, headers=asked),
                await client.post("/v1/risk/score", json=GOOD, headers=asked),
                await client.head("/v1/model", headers=asked),
                await client.post("/v1/risk", content=b" " * (5 << 20), headers=asked),
                await client.post("/v1/risk", content=endless(), headers=asked | {"Content-Type": "application/json"}),
                await client.post("/v1/risk", json=GOOD, headers=asked),
            ]

    answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [200, 500, 405, 413, 413, 200]
    assert answers[2].content == b""


def test_who_sends_nothing_or_without_end_is_let_go_and_who_asks_again_is_not(tmp_path, monkeypatch):
    settings = make_settings(tmp_path, serve_request_seconds=0.5)
    monkeypatch.setattr(BoundedConnection, "patience_seconds", 0.5)
    head = b"POST /v1/risk HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    asked = b"Authorization: " + bearer(settings)["Authorization"].encode()
    body = json.dumps(GOOD).encode()
    whole = head + asked + b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def seconds_until_closed(port, first, again=b"", every=0.1):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def keep_sending():
            writer.write(first)
            while again:
                await asyncio.sleep(every)
                writer.write(again)

        sending = asyncio.create_task(keep_sending())
        try:
            async with asyncio.timeout(4):
                while await reader.read(1 << 16):
                    pass
        except (TimeoutError, ConnectionError):
            pass
        sending.cancel()
        writer.close()
        return loop.time() - began

    async def run():
        async with listening(settings) as port:
            return await asyncio.gather(
                seconds_until_closed(port, b""),
                seconds_until_closed(port, head, b"X-Slow: 1\r\n"),
                seconds_until_closed(port, head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),  # a 503 soon
                seconds_until_closed(port, head + b"X-Long: ", b"x" * 60_000),
                seconds_until_closed(port, whole),
                seconds_until_closed(port, whole, whole),
            )

    silent, slow_head, endless_body, long_head, idle, steady = asyncio.run(run())
    assert silent < 2.5
    assert slow_head < 2.5
    assert endless_body < 2.5
    assert long_head < 0.5
    assert 1.4 < idle < 3.5
    assert steady > 3.5
